"""Data modules by name, in Trainers and in loops, without Hydra and without a run."""

import re
import tarfile

import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from lightning.pytorch import LightningModule
from omegaconf import OmegaConf
from torch import nn
from torch.nn import functional as F

from mambavision_lab.data.augment.batch import Augment
from mambavision_lab.data.create import create_datamodule
from mambavision_lab.files import configs_folder, list_choices

SMALL = {"image_size": 8, "num_train": 40, "num_val": 16, "num_test": 16, "batch_size": 8}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """Work in an empty folder, without the variables that the entry points set."""
    monkeypatch.chdir(tmp_path)
    for name in ("MAMBAVISION_ROOT", "MAMBAVISION_DATA"):
        monkeypatch.delenv(name, raising=False)
    assert not GlobalHydra.instance().is_initialized()


class Linear(LightningModule):
    """A linear classifier that notes the range of its inputs."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3 * 8 * 8, 10)
        self.ranges = []
        self.num_validated = 0

    def training_step(self, batch, batch_idx):
        images, labels = batch
        self.ranges.append((images.min().item(), images.max().item()))
        loss = F.cross_entropy(self.layer(images.flatten(1)), labels)
        self.log("loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        self.num_validated += len(batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


# What the configs cannot do without, beside a root.
NEEDED = {
    **{name: {"num_classes": 2} for name in ("hf", "video_folder", "volume_folder")},
    "webdataset": {"classes": ["ant", "bee"]},
}
# Classes that are not named as their config is.
CLASSES = {
    "mask_folder_3d": "volumemaskfolderdatamodule",
    "synthetic_segmentation_3d": "syntheticvolumesegmentationdatamodule",
}
FOLDERS = {"medmnist3d": "medmnist"}  # that two sets share


@pytest.mark.parametrize("name", list_choices("data"))
def test_create_makes_every_data_module_of_the_configs(name, tmp_path, write_images):
    write_images(tmp_path / "data" / name, 1)
    tarfile.open(tmp_path / "data" / name / "train-0.tar", "w").close()
    config = OmegaConf.load(configs_folder() / "data" / f"{name}.yaml")
    needs_root = OmegaConf.is_missing(config, "root")
    needed = {"root": f"{tmp_path}/data/{name}"} if needs_root else {}
    data = create_datamodule(name, **needed, **NEEDED.get(name, {}))
    expected = CLASSES.get(name, f"{name.replace('_', '')}datamodule")
    assert type(data).__name__.lower() == expected
    assert data.augment is None
    assert data.root in (None, f"{tmp_path}/data/{FOLDERS.get(name, name)}")


def test_create_reads_the_folder_of_data_from_the_environment(monkeypatch):
    monkeypatch.setenv("MAMBAVISION_DATA", "/mnt/sets")
    assert create_datamodule("cifar10").root == "/mnt/sets/cifar10"
    assert create_datamodule("cifar10", root="elsewhere").root == "elsewhere"


def test_create_counts_the_classes_of_an_image_folder(tmp_path, write_images):
    root = write_images(tmp_path / "pets", 10)
    data = create_datamodule("image_folder", root=root, image_size=8, batch_size=2)
    data.setup("fit")
    assert (data.num_classes, data.class_names) == (3, ["ant", "bee", "cat"])
    images, labels = data.prepare_batch(next(iter(data.train_dataloader())))
    assert (images.shape, images.dtype, labels.shape) == ((2, 3, 8, 8), torch.float32, (2,))


@pytest.mark.parametrize(("name", "flips"), [("synthetic", True), ("digits", False)])
def test_create_makes_an_augmentation_that_knows_the_data(name, flips):
    augment = create_datamodule(name, augment="light").augment
    assert isinstance(augment, Augment)
    assert augment.horizontal_flip is flips
    assert augment.crop_scale == [0.35, 1.0]
    if flips:
        turned_off = create_datamodule(name, augment="light", flip_keeps_class=False)
        assert turned_off.augment.horizontal_flip is False
    assert create_datamodule(name, augment="none").augment is None


def test_create_takes_a_module_as_augmentation():
    module = nn.Identity()
    assert create_datamodule("synthetic", augment=module).augment is module


def test_created_data_module_trains_with_a_plain_trainer(make_trainer):
    data = create_datamodule("synthetic", augment="light", **SMALL)
    net, trainer = Linear(), make_trainer(max_epochs=1)
    before = net.layer.weight.clone()
    trainer.fit(net, datamodule=data)
    assert trainer.global_step == len(net.ranges) == 5
    assert net.num_validated == 16
    assert not torch.equal(net.layer.weight, before)
    low, high = (0 - data.mean[0]) / data.std[0], (1 - data.mean[0]) / data.std[0]
    assert all(low - 1e-4 <= a < 0 < b <= high + 1e-4 for a, b in net.ranges)


def test_created_data_module_trains_in_a_plain_loop():
    data = create_datamodule("synthetic", augment="light", **SMALL)
    data.setup("fit")
    layer = nn.Linear(3 * 8 * 8, data.num_classes)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    loader = data.train_dataloader()
    orders, losses = [], []
    for epoch in range(3):
        loader.sampler.set_epoch(epoch)
        orders.append([])
        for batch in loader:
            images, labels = data.prepare_batch(batch, is_training=True)
            orders[-1] += labels.tolist()
            loss = F.cross_entropy(layer(images.flatten(1)), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert [len(order) for order in orders] == [40, 40, 40]
    assert orders[0] != orders[1] != orders[2]
    assert torch.tensor(losses).isfinite().all()
    assert len([*data.val_dataloader()]) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"name": "cifar11"},
            "data='cifar11' is unknown; choose one of cifar10, cifar100, digits,",
        ),
        ({"name": "../model/timm"}, "is unknown; choose one of"),
        (
            {"name": "cifar10", "augment": "heavy"},
            "augment='heavy' is unknown; choose one of clips, imagenet, light, none, randaugment",
        ),
        ({"name": "image_folder"}, "data 'image_folder' needs root; give root=..."),
        ({"name": "image_folder", "root": "gone"}, "data.root=gone: no such folder"),
        ({"name": "synthetic", "batch_size": 0}, "data.batch_size=0 must be at least 1"),
        ({"name": "synthetic", "image_size": -3}, "data.image_size=-3 must be at least 1"),
        ({"name": "synthetic", "num_classes": 0}, "data.num_classes=0 must be at least 1"),
        ({"name": "synthetic", "num_train": -5}, "data.num_train=-5 must be at least 1"),
        ({"name": "synthetic", "seed": "${nothing}"}, "Interpolation key 'nothing' not found"),
    ],
)
def test_create_refuses_in_one_line(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        create_datamodule(**arguments)
    assert "\n" not in str(caught.value)


def test_create_refuses_unknown_settings():
    with pytest.raises(TypeError, match="sharpness"):
        create_datamodule("synthetic", sharpness=2)
