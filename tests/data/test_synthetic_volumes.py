import pytest
import torch
from tolerances import assert_close

from mambavision_lab.data.augment.batch import Augment
from mambavision_lab.data.create import create_datamodule
from mambavision_lab.errors import ConfigError

SMALL = {"num_train": 40, "num_val": 8, "num_test": 8}


@pytest.mark.parametrize("name", ["synthetic_volumes", "synthetic_clips"])
def test_volumes_reach_the_network_in_order_and_normalised(name):
    data = create_datamodule(name, augment="light", batch_size=8, **SMALL)
    images, _ = data.prepare_batch(next(iter(data.train_dataloader())), is_training=True)
    assert images.shape == (8, 1, 16, 16, 16)
    assert images.isfinite().all()
    first, again = (create_datamodule(name, **SMALL).splits.train for _ in range(2))
    assert torch.equal(first.images, again.images)
    assert first.images.dtype == torch.uint8
    assert first.labels.bincount().unique().numel() == 1


@pytest.mark.parametrize("name", ["synthetic_volumes", "synthetic_clips"])
def test_object_stands_at_any_angle_in_each_slice_whatever_the_class(name):
    data = create_datamodule(name, **SMALL)
    start = (torch.arange(720) + 0.5) / 720
    turn = torch.pi if name == "synthetic_volumes" else 2 * torch.pi
    for label in range(data.num_classes):
        angles = data.angles(torch.full((720,), label), start) % turn
        counts = torch.stack([a.histc(12, 0, turn) for a in angles.T])
        assert (counts - 60).abs().max() <= 1  # uniform, in every slice


def test_clips_of_all_motions_show_the_same_frames():
    data = create_datamodule("synthetic_clips", **SMALL)
    start = torch.full((4,), 0.1)
    angles = data.angles(torch.arange(4), start) % (2 * torch.pi)
    assert_close(
        angles.sort(dim=1).values, angles[:1].sort(dim=1).values.expand(4, -1), torch.float32
    )
    assert angles.round(decimals=3).unique(dim=0).shape[0] == 4


def test_controls_keep_one_slice_or_shuffle_all():
    whole, middle, shuffled = (
        create_datamodule("synthetic_clips", slices=slices, **SMALL).splits.train.images
        for slices in ("all", "middle", "shuffled")
    )
    assert torch.equal(middle, whole[:, :, 8])
    assert not torch.equal(shuffled, whole)
    sums = [x.long().sum((1, 3, 4)).sort(dim=1).values for x in (whole, shuffled)]
    assert torch.equal(*sums)


def test_augmentation_changes_all_slices_of_a_volume_alike():
    augment = Augment(
        horizontal_flip=True, shift=0.2, rotation_deg=20, brightness=0.2, contrast=0.2, erasing=0.5
    )
    image = torch.rand(6, 3, 1, 12, 12)
    torch.manual_seed(0)
    volume = augment(image.expand(-1, -1, 4, -1, -1).contiguous())
    assert (volume[:, :, 0] - image[:, :, 0]).abs().max() > 0.1
    plain = Augment(horizontal_flip=True, shift=0.2, rotation_deg=20, brightness=0.2, contrast=0.2)
    torch.manual_seed(0)
    moved = plain(image.expand(-1, -1, 4, -1, -1).contiguous())
    assert_close(moved, moved[:, :, :1].expand_as(moved), torch.float32)
    torch.manual_seed(0)
    assert_close(moved[:, :, 0], plain(image[:, :, 0]), torch.float32)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("synthetic_volumes", {"slices": "some"}, r"data.slices=some is unknown; choose all"),
        ("synthetic_volumes", {"num_slices": 2}, r"wanted at least 3 slices"),
        ("synthetic_clips", {"num_classes": 9}, r"16 frames show 8 motions at most; lower it"),
    ],
)
def test_impossible_settings_are_refused(name, options, message):
    with pytest.raises((ConfigError, ValueError), match=message):
        create_datamodule(name, **options)
