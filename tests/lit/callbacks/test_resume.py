"""Runs that are stopped at a checkpoint and resumed end as the unbroken run does, to the bit."""

import csv
import functools

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import Dataset

from mambavision_lab.data.base import ImageDataModule
from mambavision_lab.data.splits import Splits
from mambavision_lab.lit.callbacks.epoch_seed import EpochSeed
from mambavision_lab.lit.callbacks.resume import Resume, read_progress
from mambavision_lab.lit.callbacks.throughput import Throughput
from mambavision_lab.lit.loggers import restore_csv_metrics
from mambavision_lab.lit.schedule import cosine_with_warmup
from mambavision_lab.models.saved import load_checkpoint

BATCHES = 4  # of 2 images, in each epoch


class Stop(Exception):
    """The run is killed."""


class Images(Dataset):
    """Images that are fetched one at a time, as files are."""

    def __init__(self, images, labels):
        self.images, self.labels = images, labels

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.images[index], self.labels[index]


class ToyData(ImageDataModule):
    """Random images of three classes."""

    supports_any_in_chans = True

    def load(self):
        rng = np.random.default_rng(0)
        images = rng.integers(0, 255, (18, 2, 16, 16), dtype=np.uint8)
        data = self.in_memory(images, np.arange(18) % 3)
        parts = [(data.images[s], data.labels[s]) for s in (slice(8), slice(8, 12), slice(12, 18))]
        return Splits(*(Images(*part) for part in parts), class_names=["a", "b", "c"])


class SaveAndStop(Checkpoint):
    """Save a checkpoint at one moment, and kill the run there."""

    def __init__(self, path, moment, step):
        self.path, self.moment, self.step = path, moment, step

    def _at(self, moment, trainer):
        if moment == self.moment and trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)
            raise Stop

    def on_train_batch_end(self, trainer, *_):
        self._at("batch", trainer)

    def on_validation_end(self, trainer, *_):
        self._at("validation", trainer)

    def on_train_epoch_end(self, trainer, *_):
        self._at("epoch", trainer)

    def on_train_end(self, trainer, *_):
        self._at("end", trainer)


@pytest.fixture
def fit(make_net, make_classifier, make_trainer, tmp_path):
    """Fit the toy network; returns the epochs' rows of metrics.csv, without speeds, and the weights."""

    def run(name, num_workers=0, ckpt_path=None, callbacks=(), **options):
        torch.manual_seed(0)
        data = ToyData(image_size=16, in_chans=2, num_classes=3, mean=[0.5], std=[0.5], batch_size=2,
                       num_workers=num_workers)  # fmt: skip
        classifier = make_classifier(
            net=make_net(),
            optimizer=functools.partial(torch.optim.AdamW, lr=1e-2),
            scheduler=functools.partial(cosine_with_warmup, warmup_epochs=0.5),
        )
        torch.manual_seed(7)
        logger = CSVLogger(tmp_path / name, name="", version="")
        given = [Resume(), EpochSeed(7), Throughput(), *(callbacks or [Checkpoint()])]
        if ckpt_path:
            checkpoint = load_checkpoint(ckpt_path)
            progress = read_progress(checkpoint)
            data.resume_at(progress.epochs, progress.batches)
            restore_csv_metrics([logger], checkpoint["global_step"])
        trainer = make_trainer(logger=logger, callbacks=given, enable_checkpointing=True, **options)
        try:
            trainer.fit(classifier, datamodule=data, ckpt_path=ckpt_path, weights_only=True)
        except Stop:
            return None
        with (tmp_path / name / "metrics.csv").open(newline="") as file:
            rows = [dict(row) for row in csv.DictReader(file)]
        kept = ("epoch", "step", "train/loss", "train/acc1", "val/loss", "val/acc1")
        rows = [tuple(row[key] for key in kept) for row in rows]
        return [row for row in rows if any(row[2:])], classifier.state_dict()

    return run


LENGTHS = {
    "epochs": {"max_epochs": 3},
    "steps": {"max_epochs": -1, "max_steps": 10},
    "both": {"max_epochs": 3, "max_steps": 11},
    "interval": {"max_epochs": 3, "val_check_interval": 0.5},
    "seldom": {"max_epochs": 3, "check_val_every_n_epoch": 2},
    "limited": {"max_epochs": 3, "limit_train_batches": 3},
    "accumulated": {"max_epochs": 3, "accumulate_grad_batches": 2},
}
MOMENTS = [
    ("batch", 1),
    ("batch", 6),
    ("batch", 4),
    ("batch", 8),
    ("validation", 4),
    ("validation", 6),
    ("validation", 8),
    ("epoch", 4),
    ("epoch", 8),
    ("batch", 3),
    ("batch", 2),
    ("epoch", 3),
    ("epoch", 2),
]


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize(("moment", "step"), MOMENTS)
@pytest.mark.parametrize("num_workers", [0])
def test_resumed_run_equals_the_unbroken_one(length, moment, step, num_workers, fit, tmp_path):
    options = {"num_workers": num_workers, **LENGTHS[length]}
    unbroken = fit("unbroken", **options)
    path = tmp_path / "stopped.ckpt"
    if fit("broken", callbacks=[SaveAndStop(path, moment, step)], **options) is not None:
        pytest.skip("no such moment")
    rows, weights = fit("broken", ckpt_path=path, **options)
    for name, value in unbroken[1].items():
        assert torch.equal(weights[name], value), name
    assert rows == unbroken[0]
