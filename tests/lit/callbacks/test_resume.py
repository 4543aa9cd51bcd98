"""Runs that are stopped at a checkpoint and resumed end as the unbroken run does, to the bit."""

import csv
import functools
import itertools

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import Checkpoint
from PIL import Image
from torch.utils.data import Dataset
from torchvision.transforms import v2

from mambavision_lab.data.augment.batch import Augment
from mambavision_lab.data.base import ImageDataModule
from mambavision_lab.data.image_folder import ImageFolderDataModule
from mambavision_lab.data.splits import Splits
from mambavision_lab.lit.callbacks.batch_seed import BatchSeed
from mambavision_lab.lit.callbacks.ema import AVERAGED, EMA, KIND, RAW, with_weights
from mambavision_lab.lit.callbacks.progress import EpochLines
from mambavision_lab.lit.callbacks.resume import Resume, has_open_epoch, read_progress
from mambavision_lab.lit.callbacks.throughput import Throughput
from mambavision_lab.lit.csv_logger import ResumableCSVLogger
from mambavision_lab.lit.schedule import cosine_with_warmup
from mambavision_lab.models.saved import load_checkpoint


class Killed(Exception):  # noqa: N818
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

    def __init__(self, **options):
        super().__init__(in_chans=2, **options)

    def load(self):
        rng = np.random.default_rng(0)
        images = rng.integers(0, 255, (18, 2, 16, 16), dtype=np.uint8)
        data = self.in_memory(images, np.arange(18) % 3)
        parts = [(data.images[s], data.labels[s]) for s in (slice(8), slice(8, 12), slice(12, 18))]
        return Splits(*(Images(*part) for part in parts), class_names=["a", "b", "c"])


class SaveAndKill(Checkpoint):
    """Save a checkpoint at one moment, and kill the run when its metrics are in the logger's file."""

    def __init__(self, path, moment, step):
        self.path, self.moment, self.step = path, moment, step
        self.is_saved = False

    def _save(self, moment, trainer):
        if (moment, trainer.global_step) == (self.moment, self.step):
            trainer.save_checkpoint(self.path)
            self.is_saved = True

    def _kill(self):
        if self.is_saved:
            raise Killed

    def on_train_batch_end(self, trainer, *_):
        self._save("batch", trainer)

    def on_validation_end(self, trainer, *_):
        self._save("validation", trainer)

    def on_train_epoch_end(self, trainer, *_):
        self._save("epoch", trainer)

    def on_train_batch_start(self, *_):
        self._kill()

    def on_train_epoch_start(self, *_):
        self._kill()


@pytest.fixture
def fit(make_net, make_classifier, make_trainer, tmp_path):
    """Fit the toy network; returns the epochs' rows of metrics.csv, without speeds, and the weights."""

    def run(name, callbacks=(), *, make_data=ToyData, num_workers=0, ckpt_path=None, **options):
        torch.manual_seed(0)
        augment = Augment(
            horizontal_flip=True, shift=0.1, rotation_deg=10, brightness=0.2, erasing=0.5,
            crop_scale=[0.3, 1.0], policy=v2.RandomResizedCrop(16, antialias=True),
        )  # fmt: skip
        data = make_data(num_classes=3, image_size=16, mean=[0.5], std=[0.5], batch_size=2,
                         augment=augment, num_workers=num_workers)  # fmt: skip
        data.seed_training(7)
        classifier = make_classifier(
            net=make_net(in_chans=data.in_chans, drop_path_rate=0.3),
            optimizer=functools.partial(torch.optim.AdamW, lr=1e-2),
            scheduler=functools.partial(cosine_with_warmup, warmup_epochs=0.5),
        )
        torch.manual_seed(7)
        logger = ResumableCSVLogger(tmp_path / name, name="", version="")
        given = [Resume(), BatchSeed(7), Throughput(), *(callbacks or [Checkpoint()])]
        if ckpt_path:
            checkpoint = load_checkpoint(ckpt_path)
            progress = read_progress(checkpoint)
            data.resume_at(progress.epochs, progress.batches)
            logger.restore(checkpoint["global_step"], has_open_epoch(checkpoint))
        trainer = make_trainer(logger=logger, callbacks=given, enable_checkpointing=True, **options)
        try:
            trainer.fit(classifier, datamodule=data, ckpt_path=ckpt_path, weights_only=True)
        except Killed:
            return None
        with (tmp_path / name / "metrics.csv").open(newline="") as file:
            rows = [dict(row) for row in csv.DictReader(file)]
        kept = ("epoch", "step", "train/loss", "train/acc1", "val/loss", "val/acc1")
        rows = [tuple(row[key] for key in kept) for row in rows]
        return [row for row in rows if any(row[2:])], classifier.state_dict()

    return run


def assert_equal_when_resumed(fit, path, moment, step, **options):
    """Kill a run of the toy network right after a checkpoint was saved, resume it, and compare."""
    rows, weights = fit("unbroken", **options)
    assert fit("broken", callbacks=[SaveAndKill(path, moment, step)], **options) is None
    resumed_rows, resumed_weights = fit("broken", ckpt_path=path, **options)
    assert resumed_rows == rows
    for name, value in weights.items():
        assert torch.equal(resumed_weights[name], value), name


@pytest.mark.parametrize(
    ("moment", "step", "options"),
    [
        ("epoch", 4, {"max_epochs": 2}),
        ("epoch", 4, {"max_epochs": -1, "max_steps": 7}),
        ("batch", 5, {"max_epochs": 2}),
        ("validation", 2, {"max_epochs": 1, "val_check_interval": 0.5}),
        ("validation", 4, {"max_epochs": 2}),
    ],
)
def test_resumed_run_equals_the_unbroken_one(moment, step, options, fit, tmp_path):
    assert_equal_when_resumed(fit, tmp_path / "last.ckpt", moment, step, **options)


class SaveAndStop(SaveAndKill):
    """End the run within an epoch, as its time or `max_steps` would, and save it then."""

    def on_train_batch_end(self, trainer, *_):
        trainer.should_stop = trainer.global_step == self.step


def test_run_that_ended_within_an_epoch_continues_there(fit, tmp_path):
    path, options = tmp_path / "last.ckpt", {"max_epochs": 3}
    rows, weights = fit("unbroken", **options)
    fit("shorter", callbacks=[SaveAndStop(path, "epoch", 6)], **options)
    assert str(read_progress(load_checkpoint(path))) == "1 epoch and 2 batches"
    resumed_rows, resumed_weights = fit("shorter", ckpt_path=path, **options)
    training = [[row for row in some if row[2]] for some in (rows, resumed_rows)]
    assert training[0] == training[1]
    assert all(torch.equal(resumed_weights[name], value) for name, value in weights.items())


# Options, and the steps at which the first two epochs end.
LENGTHS = {
    "epochs": ({"max_epochs": 3}, (4, 8)),
    "steps": ({"max_epochs": -1, "max_steps": 10}, (4, 8)),
    "both": ({"max_epochs": 3, "max_steps": 11}, (4, 8)),
    "limited": ({"max_epochs": 3, "limit_train_batches": 3}, (3, 6)),
    "accumulated": ({"max_epochs": 3, "accumulate_grad_batches": 2}, (2, 4)),
    "workers": ({"max_epochs": 3, "num_workers": 2}, (4, 8)),
}


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["batch", "validation", "epoch"])
@pytest.mark.parametrize("length", LENGTHS)
def test_resumed_run_equals_the_unbroken_one_however_long(length, moment, fit, tmp_path):
    options, steps = LENGTHS[length]
    for step in steps:
        at = step - 1 if moment == "batch" else step
        assert_equal_when_resumed(fit, tmp_path / "last.ckpt", moment, at, **options)


@pytest.mark.slow
@pytest.mark.parametrize(("moment", "step"), [("batch", 5), ("batch", 3), ("epoch", 4)])
def test_resumed_run_on_image_files_repeats_their_random_crops(moment, step, fit, tmp_path):
    rng = np.random.default_rng(0)
    for split, num in (("train", 3), ("val", 1), ("test", 1)):
        for k, label in itertools.product(range(num), "abc"):
            folder = tmp_path / "images" / split / label
            folder.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 255, (30, 24), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{k}.png")
    make_data = functools.partial(
        ImageFolderDataModule, root=tmp_path / "images", in_chans=1, check_files=False
    )
    options = {"make_data": make_data, "num_workers": 2, "max_epochs": 2}
    assert_equal_when_resumed(fit, tmp_path / "last.ckpt", moment, step, **options)


@pytest.mark.parametrize("kind", [AVERAGED, RAW])
def test_average_of_weights_resumes(kind, fit, tmp_path):
    def average():
        return EMA(decay=0.35)  # warmed up after the fifth update: the resumed run has to count on

    path = tmp_path / "last.ckpt"
    rows, weights = fit("unbroken", callbacks=[average(), Checkpoint()], max_epochs=2)
    fit("broken", callbacks=[average(), SaveAndKill(path, "epoch", 4)], max_epochs=2)
    torch.save(with_weights(torch.load(path, weights_only=True), kind), path)  # as in best.ckpt
    assert torch.load(path, weights_only=True)[KIND] == kind
    resumed = fit("broken", callbacks=[average(), Checkpoint()], ckpt_path=path, max_epochs=2)
    assert resumed[0] == rows
    assert all(torch.equal(resumed[1][name], value) for name, value in weights.items())


def test_run_that_resumes_without_its_average_has_the_raw_weights(fit, tmp_path):
    path = tmp_path / "last.ckpt"
    _, weights = fit("unbroken", max_epochs=2)
    fit("broken", callbacks=[EMA(), SaveAndKill(path, "epoch", 4)], max_epochs=2)
    _, resumed = fit("broken", ckpt_path=path, max_epochs=2)
    assert all(torch.equal(resumed[name], value) for name, value in weights.items())


def saved(epochs, batches, is_last_batch=False):
    """Make the part of a checkpoint that tells how far its run had come."""
    counts = ("ready", "started", "processed", "completed")
    loops = {
        "epoch_progress": {"current": dict(zip(counts, epochs, strict=True))},
        "epoch_loop.batch_progress": {
            "current": dict(zip(counts, batches, strict=True)),
            "is_last_batch": is_last_batch,
        },
    }
    return {"epoch": 7, "loops": {"fit_loop": loops}}


@pytest.mark.parametrize(
    ("checkpoint", "expected", "words"),
    [
        (saved((0, 0, 0, 0), (0, 0, 0, 0)), (0, 0), "0 epochs"),
        (saved((2, 2, 1, 1), (6, 6, 6, 5)), (1, 6), "1 epoch and 6 batches"),
        (saved((2, 2, 1, 1), (20, 20, 20, 20), is_last_batch=True), (2, 0), "2 epochs"),
        (saved((2, 2, 2, 1), (20, 20, 20, 20), is_last_batch=True), (2, 0), "2 epochs"),
        (saved((2, 2, 2, 2), (20, 20, 20, 20), is_last_batch=True), (2, 0), "2 epochs"),
    ],
    ids=["start", "within", "validation", "epoch", "end"],
)
def test_progress_counts_whole_epochs(checkpoint, expected, words):
    progress = read_progress(checkpoint)
    assert (progress.epochs, progress.batches) == expected
    assert str(progress) == words


def test_epoch_that_is_resumed_starts_for_the_callbacks(fit, tmp_path, capsys):
    started = []

    class Starts(Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            started.append((trainer.current_epoch, trainer.global_step))

    path = tmp_path / "last.ckpt"
    fit("broken", callbacks=[SaveAndKill(path, "batch", 5)], max_epochs=3)
    callbacks = [Starts(), EpochLines(), Checkpoint()]
    fit("broken", callbacks, ckpt_path=path, max_epochs=3, enable_progress_bar=True)
    assert started == [(1, 5), (2, 8)]
    first, second = (x for x in capsys.readouterr().out.splitlines() if x.startswith("epoch "))
    assert first.startswith("epoch 2/3 ")
    assert first.endswith(" s since it was resumed")
    assert second.endswith(" s")


def test_time_limit_counts_what_was_trained_before(fit, tmp_path):
    path, options = tmp_path / "last.ckpt", {"max_epochs": 9, "max_time": {"hours": 1}}
    fit("broken", callbacks=[SaveAndKill(path, "batch", 5)], **options)
    checkpoint = torch.load(path, weights_only=True)
    elapsed = checkpoint["callbacks"]["Timer"]["time_elapsed"]
    assert 0 < elapsed["train"] < 3600
    elapsed["train"] = 3600.0
    torch.save(checkpoint, path)
    rows, _ = fit("broken", ckpt_path=path, **options)
    assert max(int(epoch) for epoch, *_ in rows) < 2
