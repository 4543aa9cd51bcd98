"""The pixels of a training image follow from (seed, epoch, image), whoever fetches it and with whom."""

import random

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from mambavision_lab.data.augment.batch import Augment
from mambavision_lab.data.augment.policies import TimmRandAugment
from mambavision_lab.data.create import create_datamodule
from mambavision_lab.data.image_files import ImageFiles, training_transform
from mambavision_lab.data.in_memory import InMemoryImages
from mambavision_lab.data.training_images import TrainingImages


@pytest.fixture
def files(tmp_path):
    """Six image files of noise, larger than their crops."""
    items = []
    for k in range(6):
        pixels = torch.randint(256, (3, 20, 24), dtype=torch.uint8)
        items.append((str(tmp_path / f"{k}.png"), k % 3))
        v2.functional.to_pil_image(pixels).save(items[-1][0])
    return ImageFiles(items, 3, training_transform(8, [0.2, 0.8]))


def by_position(data, *batches):
    found = {}
    for positions in batches:
        images, _, _ = data.__getitems__(positions)
        found.update(zip(positions, images, strict=True))
    return found


@pytest.mark.parametrize("policy", [None, TimmRandAugment()], ids=["crop", "policy"])
def test_training_images_of_files_are_cropped_alike_in_any_batch(policy, files):
    data = TrainingImages(files, seed=3, policy=policy)
    before = by_position(data, [0, 1, 2, 6 + 4])
    torch.rand(3), np.random.rand(3), random.random()  # other users of random numbers
    after = by_position(data, [6 + 4, 2], [1], [0, 6 + 1])
    assert all(torch.equal(after[k], image) for k, image in before.items())
    assert not torch.equal(after[1], after[6 + 1])  # another epoch
    other = by_position(TrainingImages(files, seed=4, policy=policy), [0, 1, 2])
    assert not all(torch.equal(other[k], before[k]) for k in other)


def test_training_images_leave_the_random_states_alone(files):
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    by_position(TrainingImages(files, seed=3), [0, 1])
    assert torch.equal(torch.rand(2), expected)


def test_training_images_in_memory_are_fetched_whole_and_through_a_policy():
    images = torch.arange(6, dtype=torch.uint8)[:, None, None, None].expand(6, 3, 4, 4)
    data = InMemoryImages(images, torch.arange(6) % 3)
    got, labels, draws = TrainingImages(data, seed=0).__getitems__([6 + 5, 2])
    assert torch.equal(got, images[[5, 2]])
    assert labels.tolist() == [2, 2]
    alone = TrainingImages(data, seed=0).__getitems__([2])[2]
    assert torch.equal(draws.uniform()[1:], alone.uniform())
    inverted = TrainingImages(data, seed=0, policy=v2.RandomInvert(p=1.0)).__getitems__([5, 2])
    assert torch.equal(inverted[0], 255 - images[[5, 2]])
    assert inverted[1].tolist() == [2, 2]


def prepared(data, rank=0, ranks=1, epoch=1):
    """Images of one epoch as the network gets them, by where they were in it; of one rank of several."""
    data.setup("fit")
    sampler = (loader := data.train_dataloader()).sampler
    sampler.set_epoch(epoch)
    sampler.rank, sampler.num_replicas = rank, ranks
    images = [data.prepare_batch(batch, is_training=True)[0] for batch in loader]
    return dict(zip(range(rank, 999, ranks), torch.cat(images), strict=False))


SETTINGS = {"image_size": 8, "num_train": 12, "num_val": 4, "num_test": 4, "num_workers": 0}
AUGMENT = {
    **{"horizontal_flip": "alternating", "shift": 0.1, "rotation_deg": 10, "erasing": 0.5},
    **{"brightness": 0.2, "contrast": 0.2, "saturation": 0.2},
}


def make(**settings):
    augment = Augment(**AUGMENT, policy=TimmRandAugment())
    data = create_datamodule("synthetic", augment=augment, **(SETTINGS | settings))
    data.seed_training(5)
    return data


def test_augmented_images_are_the_same_in_other_batches_ranks_and_after_a_resume():
    whole = prepared(make(batch_size=4))
    assert len(whole) == 12
    other_batches = prepared(make(batch_size=6))
    resumed = make(batch_size=4)
    resumed.resume_at(epoch=1, num_batches=2)
    resumed = {k + 8: image for k, image in prepared(resumed).items()}
    ranks = [prepared(make(batch_size=3), rank, 2) for rank in (0, 1)]
    for part in (other_batches, resumed, *ranks):
        assert part
        for k, image in part.items():
            torch.testing.assert_close(image, whole[k])
    assert len(ranks[0] | ranks[1]) == 12
    next_epoch = prepared(make(batch_size=4), epoch=2)
    assert not torch.equal(torch.stack([*next_epoch.values()]), torch.stack([*whole.values()]))


@pytest.mark.slow
def test_augmented_images_are_the_same_with_any_number_of_workers(tmp_path, write_images):
    root = write_images(tmp_path / "pets", 8)

    def epoch(num_workers):
        augment = Augment(**AUGMENT, crop_scale=[0.2, 0.8], policy=TimmRandAugment())
        data = create_datamodule(
            "image_folder", root=root, image_size=8, batch_size=2, augment=augment,
            num_workers=num_workers,
        )  # fmt: skip
        data.seed_training(5)
        return torch.stack([*prepared(data).values()])

    alone = epoch(0)
    assert torch.equal(epoch(1), alone)
    assert torch.equal(epoch(2), alone)
