"""Small batches in memory that are prepared several at once are those that are prepared one by one."""

from types import SimpleNamespace

import pytest
import torch
from torchvision.transforms import v2

from mambavision_lab.data.augment.batch import Augment
from mambavision_lab.data.augment.volume import VolumeAugment
from mambavision_lab.data.create import create_datamodule
from mambavision_lab.data.prepare_ahead import PreparedBatch
from mambavision_lab.data.synthetic import SyntheticDataModule


def under_a_trainer(data, device="cpu"):
    """A data module as a Trainer on one device has it, set up."""
    strategy = SimpleNamespace(root_device=torch.device(device))
    data.trainer = SimpleNamespace(
        world_size=1, num_devices=1, global_rank=0, strategy=strategy, training=True
    )
    data.seed_training(1)
    return data


MANY = {"image_size": 12, "num_train": 75, "num_val": 4, "num_test": 4, "batch_size": 8}


EVERYTHING = {
    **{"horizontal_flip": "alternating", "shift": 0.1, "rotation_deg": 9, "erasing": 0.5},
    **{"brightness": 0.2, "contrast": 0.2, "saturation": 0.2},
}


@pytest.mark.parametrize(
    ("name", "augment", "settings"),
    [
        ("synthetic", None, {}),
        ("synthetic", Augment(**EVERYTHING), {}),
        (
            "synthetic_volumes",
            VolumeAugment(depth_flip=True, tilt_deg=9, noise=0.1, gamma=0.2),
            {"num_slices": 6},
        ),
        (
            "synthetic_segmentation_3d",
            VolumeAugment(depth_flip=True, shift=0.2, contrast=0.2, noise=0.1, gamma=0.2),
            {"num_slices": 7, "image_size": 11},
        ),
        ("synthetic_segmentation", Augment(**EVERYTHING | {"erasing": 0}), {}),
    ],
)
def test_prepare_ahead_changes_no_batch(name, augment, settings):
    data = under_a_trainer(create_datamodule(name, augment=augment, **(MANY | settings)))
    loader = data.train_dataloader()
    ahead, found = list(loader), []
    assert [type(batch) for batch in ahead] == [PreparedBatch] * 9 == [PreparedBatch] * len(loader)
    for batch in ahead:
        found.append((*data.on_after_batch_transfer(batch, 0), data.batch_indices))
        assert torch.equal(data.prepare_batch(batch, is_training=True)[0], found[-1][0])
    loader.prepare = None
    for batch, (images, labels, indices) in zip(loader, found, strict=True):
        expected = data.on_after_batch_transfer(batch, 0)
        assert torch.equal(images, expected[0])
        assert torch.equal(labels, expected[1])
        assert indices.tolist() == data.batch_indices.tolist()


@pytest.mark.parametrize(
    ("device", "settings"),
    [
        ("cuda", {}),
        ("cpu", {"augment": Augment(mixup=0.2)}),  # of a batch
        ("cpu", {"augment": Augment(policy=v2.RandomInvert())}),  # by workers
        ("cpu", {"augment": v2.RandomErasing()}),  # may treat a batch as one
        ("cpu", {"augment": type("Own", (Augment,), {})()}),
        ("cpu", {"num_workers": 1}),
        ("cpu", {"image_size": 100, "num_train": 9}),  # sums of large images depend on the threads
    ],
)
def test_prepare_ahead_leaves_out_what_depends_on_the_batch(device, settings):
    data = create_datamodule("synthetic", **(MANY | {"num_workers": 0} | settings))
    assert under_a_trainer(data, device).train_dataloader().prepare is None


def test_prepare_ahead_leaves_out_a_module_with_a_preparation_of_its_own():
    class Own(SyntheticDataModule):
        def prepare_batch(self, batch, *, is_training=False):
            return batch[:2]

    data = Own(num_classes=3, in_chans=1, mean=[0.5], std=[0.5], **MANY)
    assert under_a_trainer(data).train_dataloader().prepare is None
