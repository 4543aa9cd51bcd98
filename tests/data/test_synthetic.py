import pytest
import torch

from mambavision_lab.data.synthetic import SyntheticDataModule

PARTS = ("train", "val", "test")


def make(**settings):
    defaults = {"image_size": 16, "in_chans": 3, "num_classes": 10, "mean": [0.5], "std": [0.34]}
    sizes = {"num_train": 300, "num_val": 33, "num_test": 41}
    return SyntheticDataModule(**(defaults | sizes | settings)).splits


def test_synthetic_seed_fixes_all_images_and_labels():
    first, again, other = make(seed=7), make(seed=7), make(seed=8)
    for part in PARTS:
        one, same, new = (getattr(splits, part) for splits in (first, again, other))
        assert torch.equal(one.images, same.images)
        assert torch.equal(one.labels, same.labels)
        assert not torch.equal(one.images, new.images)


def test_synthetic_splits_and_seeds_share_no_image(image_counts):
    counts = [
        count for seed in range(4) for count in image_counts(make(seed=seed)).values()
    ]  # neighbouring seeds, whose random streams lie next to each other
    assert sum(len(count) for count in counts) == 4 * (300 + 33 + 41)
    assert len(set().union(*counts)) == 4 * (300 + 33 + 41)


def test_synthetic_classes_are_balanced():
    splits = make()
    for part, num in zip(PARTS, (300, 33, 41), strict=True):
        counts = torch.bincount(getattr(splits, part).labels, minlength=10)
        assert counts.sum() == num
        assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize(
    ("image_size", "in_chans", "num_classes"),
    [(28, 1, 10), (64, 3, 3), (16, 5, 4), (8, 3, 7), (32, 1, 1000)],
)
def test_synthetic_generates_any_size_channels_and_classes(image_size, in_chans, num_classes):
    splits = make(
        image_size=image_size, in_chans=in_chans, num_classes=num_classes, num_train=num_classes
    )
    train = splits.train
    assert train.images.shape == (num_classes, in_chans, image_size, image_size)
    assert train.images.dtype == torch.uint8
    assert train.labels.sort().values.tolist() == list(range(num_classes))
    assert len(splits.class_names) == len(set(splits.class_names)) == num_classes
    spread = train.images.float().std((1, 2, 3))
    assert spread.min() > 10  # every image shows something, whatever its texture


def test_synthetic_shuffled_labels_are_a_permutation_of_the_training_labels_alone():
    plain, shuffled = make(), make(shuffle_labels=True)
    for part in PARTS:
        assert torch.equal(getattr(plain, part).images, getattr(shuffled, part).images)
    for part in ("val", "test"):
        assert torch.equal(getattr(plain, part).labels, getattr(shuffled, part).labels)
    before, after = plain.train.labels, shuffled.train.labels
    assert torch.equal(before.sort().values, after.sort().values)
    assert (before == after).float().mean() < 0.25  # chance is 0.1
    assert torch.equal(after, make(shuffle_labels=True).train.labels)


def test_synthetic_images_of_a_class_differ():
    train = make().train
    for label in range(10):
        members = train.images[train.labels == label].float().flatten(1)
        apart = torch.cdist(members, members) / members.shape[1] ** 0.5
        assert (
            apart[~torch.eye(len(members), dtype=torch.bool)].min() > 10
        )  # of 255, root mean square


def test_synthetic_mean_colour_does_not_give_the_class_away():
    splits = make(num_train=4000, num_test=2000)
    colours = {p: getattr(splits, p).images.float().mean((2, 3)) / 255 for p in ("train", "test")}
    labels = splits.train.labels
    centres = torch.stack([colours["train"][labels == k].mean(0) for k in range(10)])
    assert (centres - 0.5).abs().max() < 0.05  # 400 images each, of spread about 0.2
    guesses = torch.cdist(colours["test"], centres).argmin(1)
    assert (guesses == splits.test.labels).float().mean() < 0.16  # chance is 0.1


def test_synthetic_config_states_mean_and_std_of_its_images(stated, measured):
    data = SyntheticDataModule(
        image_size=32, in_chans=3, num_classes=10, num_train=1000, **stated("synthetic")
    )
    for name, values in measured(data).items():
        assert values.tolist() == pytest.approx(list(getattr(data, name)) * 3, abs=0.02), name
