from collections import defaultdict
from itertools import chain
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule
from tolerances import assert_close
from torch import nn
from torchvision.transforms import v2

from mambavision_lab.data import workers
from mambavision_lab.data.augment.batch import Augment
from mambavision_lab.data.base import ImageDataModule
from mambavision_lab.data.image_files import ImageFiles, evaluation_transform
from mambavision_lab.data.prepare_ahead import PreparedBatch
from mambavision_lab.data.splits import Splits
from mambavision_lab.data.synthetic import SyntheticDataModule

SIZES = {"train": 23, "val": 11, "test": 9}


class Numbered(ImageDataModule):
    """Image i of a split is all i; its class is i % 3."""

    def load(self):
        train, val, test = (
            self.in_memory(
                torch.arange(num).byte()[:, None, None, None].repeat(1, 3, 4, 4),
                torch.arange(num) % 3,
            )
            for num in SIZES.values()
        )
        return Splits(train, val, test, ["ant", "bee", "cat"])


class InFiles(Numbered):
    """Splits of image files, which are not read here."""

    def load(self):
        files = ImageFiles([("0.png", 0)] * 10, 3, evaluation_transform(4))
        return Splits(files, files, files, ["ant", "bee", "cat"])


def make(cls=Numbered, **settings):
    defaults = {"image_size": 4, "in_chans": 3, "num_classes": 3, "mean": [0.5], "std": [0.25]}
    return cls(**(defaults | {"batch_size": 4} | settings))


def numbers(loader, epoch=0):
    """Image numbers of each batch, which must come with the labels of those images."""
    loader.sampler.set_epoch(epoch)
    batches = []
    for batch in loader:
        if isinstance(batch, PreparedBatch):
            images, labels = ((batch.images * 0.25 + 0.5) * 255).round().long(), batch.labels
        else:
            images, labels, *_ = batch
            assert images.dtype == torch.uint8
        batches.append(images[:, 0, 0, 0].tolist())
        assert labels.tolist() == [i % 3 for i in batches[-1]]
    return batches


def of_rank(rank, **settings):
    """A data module as it is in one of two processes."""
    data = make(**settings)
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    data.trainer = SimpleNamespace(world_size=2, num_devices=2, global_rank=rank, strategy=strategy)
    return data


@pytest.mark.parametrize("part", ["val", "test"])
def test_base_evaluation_loaders_give_every_image_once_in_order(part):
    batches = numbers(getattr(make(), f"{part}_dataloader")())
    assert list(chain(*batches)) == list(range(SIZES[part]))
    assert [len(batch) for batch in batches[:-1]] == [4, 4]


def test_base_refuses_splits_with_fewer_images_than_processes(refusal):
    data = make()
    data.trainer = SimpleNamespace(world_size=SIZES["val"] + 1, num_devices=1, global_rank=0)
    message = refusal(data.val_dataloader)
    assert message.startswith(f"a split of {SIZES['val']} images for {SIZES['val'] + 1} processes")


def test_base_training_loader_shuffles_and_drops_the_incomplete_batch():
    loader = make().train_dataloader()
    first, second = numbers(loader), numbers(loader, epoch=1)
    for batches in (first, second):
        assert [len(batch) for batch in batches] == [4] * 5
        assert len(set(chain(*batches))) == 20
        assert list(chain(*batches)) != sorted(chain(*batches))
    assert first != second


def test_base_training_order_follows_from_seed_and_epoch():
    orders = []
    for seed, epoch in ((0, 3), (0, 3), (1, 3)):
        torch.manual_seed(seed)
        orders.append(numbers(make().train_dataloader(), epoch))
    assert orders[0] == orders[1] != orders[2]


@pytest.mark.parametrize("batch_size", [23, 64])
def test_base_training_loader_keeps_a_batch_as_large_as_the_data(batch_size):
    (batch,) = numbers(make(batch_size=batch_size).train_dataloader())
    assert sorted(batch) == list(range(23))
    assert batch != sorted(batch)


def test_base_evaluation_in_two_processes_repeats_and_leaves_out_nothing():
    found = [list(chain(*numbers(of_rank(rank).val_dataloader()))) for rank in range(2)]
    assert abs(len(found[0]) - len(found[1])) == 1
    assert sorted(chain(*found)) == list(range(11))


@pytest.mark.parametrize("batch_size", [4, 16])  # 16: more than either process has
def test_base_training_in_two_processes_shares_the_images(batch_size):
    loaders = [of_rank(rank, batch_size=batch_size).train_dataloader() for rank in range(2)]
    found = [list(chain(*numbers(loader))) for loader in loaders]
    assert len(found[0]) == len(found[1]) == (11 if batch_size == 16 else 8)
    assert len(set(chain(*found))) == len([*chain(*found)])  # of 23; none is given twice


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more than this machine has
@pytest.mark.parametrize(
    ("cls", "cores", "given", "chosen"),
    [
        (Numbered, 64, None, 0),
        (Numbered, 64, 2, 2),
        (InFiles, 3, None, 3),
        (InFiles, 64, None, 8),
        (InFiles, 64, 12, 12),
        (InFiles, 64, 0, 0),
    ],
)
def test_base_chooses_workers_by_where_the_images_are(monkeypatch, cls, cores, given, chosen):
    monkeypatch.setattr(workers, "available_cores", lambda: cores)
    data = make(cls, num_workers=given)
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
        assert loader.num_workers == chosen
        assert loader.persistent_workers == (chosen > 0)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_base_chooses_workers_for_the_policy_of_images_in_memory(monkeypatch):
    monkeypatch.setattr(workers, "available_cores", lambda: 3)
    data = make(augment=Augment(policy=v2.RandomInvert(p=1.0)))
    assert data.train_dataloader().num_workers == 3
    assert data.val_dataloader().num_workers == 0


def test_base_in_memory_batches_come_whole_from_worker_processes():
    assert numbers(make(num_workers=1).val_dataloader()) == numbers(make().val_dataloader())


class Recorder(LightningModule):
    """Keeps the numbers of the images that reach the network, by stage."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.numbers = defaultdict(list)

    def _record(self, part, batch):
        self.numbers[part] += ((batch[0][:, 0, 0, 0] * 0.25 + 0.5) * 255).round().int().tolist()
        return self.weight.sum()

    def training_step(self, batch, batch_idx):
        return self._record("train", batch)

    def validation_step(self, batch, batch_idx):
        self._record("val", batch)

    def test_step(self, batch, batch_idx):
        self._record("test", batch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class AddHundred(nn.Module):
    def forward(self, images):
        return images + 100 / 255


@pytest.mark.filterwarnings("ignore")  # Lightning's, on small data and workers
def test_base_in_a_trainer_augments_in_training_only_and_shuffles_every_epoch(make_trainer):
    data, recorder = make(augment=AddHundred()), Recorder()
    trainer = make_trainer(max_epochs=2, num_sanity_val_steps=-1)
    trainer.fit(recorder, datamodule=data)
    trainer.test(recorder, datamodule=data, verbose=False)
    assert recorder.numbers["val"] == 3 * list(range(11))  # the sanity check and two epochs
    assert recorder.numbers["test"] == list(range(9))
    epochs = recorder.numbers["train"][:20], recorder.numbers["train"][20:]
    assert all(len(set(epoch)) == 20 and set(epoch) <= set(range(100, 123)) for epoch in epochs)
    assert epochs[0] != epochs[1]


def test_base_without_trainer_augments_only_where_it_is_told_to():
    data = make(augment=AddHundred())
    images, labels = data.splits.val[:3]
    for is_training, (got, same) in (
        (False, data.on_after_batch_transfer((images, labels), 0)),
        (False, data.prepare_batch((images, labels))),
        (True, data.prepare_batch((images, labels), is_training=True)),
    ):
        pixels = torch.tensor([0.0, 1.0, 2.0]) + 100 * is_training
        assert_close(got[:, 0, 0, 0], (pixels / 255 - 0.5) / 0.25, torch.float32)
        assert torch.equal(same, labels)


def test_base_mixes_images_and_the_shares_of_their_classes():
    data = make(augment=Augment(mixup=0.8))
    batch = next(iter(data.train_dataloader()))
    images, shares = data.prepare_batch(batch, is_training=True)
    again, _ = data.prepare_batch(next(iter(data.train_dataloader())), is_training=True)
    assert torch.equal(images, again)
    plain, labels = data.prepare_batch(batch)
    own = ((images - plain.flip(0)) / (plain - plain.flip(0)))[:, 0, 0, 0]
    one_hot = torch.eye(3)[labels]
    assert_close(
        shares, own[:, None] * one_hot + (1 - own[:, None]) * one_hot.flip(0), torch.float32
    )
    assert 0 < own[0] < 1


@pytest.mark.parametrize("batch_size", [5, 64])  # 64: a single batch of 23
def test_base_refuses_to_mix_odd_batches_before_the_first(refusal, batch_size):
    data = make(batch_size=batch_size, augment=Augment(cutmix=1.0))
    odd = min(batch_size, 23)
    assert refusal(data.train_dataloader).startswith(f"a batch of {odd} images cannot be mixed")


def test_base_modules_of_others_augment_by_the_images_too():
    data = make(augment=v2.RandomErasing(p=0.5))
    batch = next(iter(data.train_dataloader()))
    first, _ = data.prepare_batch(next(iter(data.train_dataloader())), is_training=True)
    torch.rand(5)
    second, _ = data.prepare_batch(batch, is_training=True)
    assert torch.equal(first, second)


def test_base_balanced_sampler_needs_labels(refusal):
    data = make(InFiles, sampler="balanced")
    assert len(data.train_dataloader()) == 2  # the files are listed with labels
    data.splits.train = torch.utils.data.TensorDataset(torch.zeros(8, 3, 4, 4).byte())
    assert "does not list the labels" in refusal(data.train_dataloader)


@pytest.mark.parametrize(
    ("in_chans", "mean", "std"),
    [
        (3, [0.5], [0.25]),
        (3, [0.4, 0.5, 0.6], [0.1, 0.2, 0.3]),
        (1, [0.3], [0.2]),
        (3, [0.4], [0.1, 0.2, 0.3]),
    ],
)
def test_base_normalize_subtracts_mean_and_divides_by_std(in_chans, mean, std):
    images = torch.rand(2, in_chans, 4, 4)
    by_channel = [torch.tensor(values)[:, None, None] for values in (mean, std)]
    expected = (images - by_channel[0]) / by_channel[1]
    got = make(in_chans=in_chans, mean=mean, std=std).normalize(images)
    assert_close(got, expected, torch.float32)


@pytest.mark.parametrize("names", [["cat", "dog", "ant", "bee"], ["ant", "bee", "cat"]])
def test_base_use_classes_numbers_labels_by_name(names):
    data = make()
    data.use_classes(names)
    images, labels = next(iter(data.val_dataloader()))
    _, mapped = data.on_after_batch_transfer((images, labels), 0)
    assert [names[k] for k in mapped] == [data.class_names[k] for k in labels]


def test_base_use_classes_refuses_unknown_ones(refusal):
    message = refusal(lambda: make().use_classes(["ant", "cow"]))
    assert "['bee', 'cat']" in message
    assert "['ant', 'cow']" in message


def test_base_fit_resizes_and_keeps_constant_images():
    images = torch.tensor([10, 200]).byte()[:, None, None, None].expand(2, 3, 8, 6)
    for size in (4, 8, 16):
        fitted = make(image_size=size).in_memory(images, [2, 1])
        assert torch.equal(fitted.images, images[:, :, :1, :1].expand(2, 3, size, size))
        assert fitted.labels.tolist() == [2, 1]
        assert fitted.labels.dtype == torch.int64


def test_base_fit_averages_what_it_shrinks():
    checks = (torch.arange(8)[:, None] + torch.arange(8)).remainder(2).mul(255).byte()
    shrunk = make(in_chans=1).in_memory(checks[None, None], [0]).images
    assert (shrunk.int() - 128).abs().max() <= 4


def test_base_fit_changes_channels():
    colours = torch.tensor([[255, 0, 0], [0, 255, 0], [0, 0, 255], [90, 90, 90]]).byte()
    images = colours[:, :, None, None].expand(4, 3, 4, 4)
    grey = make(in_chans=1).in_memory(images, [0] * 4).images
    expected = torch.tensor([0.299 * 255, 0.587 * 255, 0.114 * 255, 90])
    assert grey.shape == (4, 1, 4, 4)
    assert (grey[:, 0, 0, 0] - expected).abs().max() <= 1
    again = make().in_memory(grey, [0] * 4).images
    assert torch.equal(again, grey.expand(4, 3, 4, 4))


def test_base_fit_takes_arrays_that_cannot_be_written_to():
    images, labels = np.zeros((2, 3, 4, 4), dtype=np.uint8), np.array([0, 1], dtype=np.uint8)
    images.flags.writeable = labels.flags.writeable = False
    torch.set_warn_always(True)  # else torch warns only once per process
    try:
        fitted = make().in_memory(images, labels)
    finally:
        torch.set_warn_always(False)
    assert torch.equal(fitted.images, torch.zeros(2, 3, 4, 4).byte())
    assert fitted.labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("batch_size", 0),
        ("val_fraction", 0.0),
        ("val_fraction", 1.0),
        ("in_chans", 2),
        ("sampler", "fair"),
        ("mean", [0.1, 0.2]),
        ("mean", ["a"]),
        ("std", []),
        ("std", [0.0]),
        ("std", [0.1, -0.2, 0.3]),
        ("num_workers", -1),
    ],
)
def test_base_refuses_impossible_settings(refusal, setting, value):
    assert f"data.{setting}" in refusal(lambda: make(**{setting: value}))


def test_base_refuses_another_number_of_classes(refusal):
    message = refusal(lambda: make(num_classes=4).setup("fit"))
    assert "data.num_classes=4" in message
    assert "3 classes" in message


def test_base_metadata_are_plain_values():
    assert make(mean=(0.5,)).metadata() == {
        "image_size": 4,
        "in_chans": 3,
        "num_classes": 3,
        "mean": [0.5],
        "std": [0.25],
        "class_names": ["ant", "bee", "cat"],
        "keeps_aspect": False,
        "is_multilabel": False,
        "has_masks": False,
    }


def test_data_of_other_channels_than_the_networks_are_refused(refusal):
    sizes = {"image_size": 16, "num_classes": 10, "num_train": 20, "num_val": 10, "num_test": 10}
    data = SyntheticDataModule(in_chans=7, mean=[0.5], std=[0.34], **sizes)
    message = refusal(lambda: data.use_preprocessing({"in_chans": 3}))
    assert message == "data.in_chans=7: the network takes 3; give that"
    data.use_preprocessing({"in_chans": 7})
