"""Small trainings in forked processes, for parts that kill them, and what a finished one has computed.

This process imports everything once; a training then starts in a second.
"""

import contextlib
import csv
import hashlib
import io
import json
import multiprocessing
import os
import signal
import socket
import sys
import tarfile
import time
from collections.abc import Iterator
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, Trainer
from PIL import Image

from mambavision_lab.files import LAST_CHECKPOINT
from mambavision_lab.launch.entry import run_command_line
from mambavision_lab.metrics import is_speed
from mambavision_lab.tasks.train import train

# Nano, nine steps of two batches each in three epochs.
NANO = [
    *["data.image_size=16", "data.batch_size=16", "trainer=cpu", "trainer.max_epochs=3"],
    *[
        "trainer.accumulate_grad_batches=2",
        "trainer.log_every_n_steps=1",
        "scheduler.warmup_epochs=1",
    ],
    *["callbacks=ema", "callbacks.newest.every_n_steps=2", "~callbacks.predictions"],
    "model.drop_path_rate=0.1",
]
MEMORY = ["data.num_train=96", "data.num_val=48", "data.num_test=32"]
# What is random in other ways: sizes, mixed images, a second network that learns from an average.
RANDOM = [
    *["multi_scale=random", "multi_scale.sizes=[8,16]", "augment.mixup=0.4", "augment.cutmix=1"],
    *["callbacks=ema_mesa", "+trainer.val_check_interval=3"],
]

_TIMEOUT_S = 300
STAGES = ("start", "step", "validation", "final test")

_FORK = multiprocessing.get_context("fork")


def image_files(folder: Path) -> list[str]:
    """Write a folder of images of three classes; returns the options for it, with two workers."""
    rng = np.random.default_rng(0)
    for split, num in (("train", 32), ("val", 8), ("test", 8)):
        for name in "abc":
            (folder / split / name).mkdir(parents=True)
            for k in range(num):
                pixels = rng.integers(0, 255, (24, 28, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{k}.png")
    return ["data=image_folder", f"data.root={folder}", "data.num_workers=2"]


def shards(folder: Path) -> list[str]:
    """Write the images of `image_files` into shards, one of each class and split; returns the options."""
    images, tars = folder / "images", folder / "tars"
    image_files(images)
    tars.mkdir()
    for split in ("train", "val", "test"):
        for k, label in enumerate("abc"):
            with tarfile.open(tars / f"{split}-{k}.tar", "w") as tar:
                for path in sorted((images / split / label).iterdir()):
                    tar.add(path, f"{label}{path.name}")
                    (folder / "label.cls").write_text(str(k))
                    tar.add(folder / "label.cls", f"{label}{path.stem}.cls")
    kept = [f"data.cache_dir={folder}/kept", "data.classes=[a,b,c]"]
    return ["data=webdataset", f"data.root={tars}", *kept, "data.num_workers=2"]


class ShowMoment(Callback):
    """Write down what a training is doing, for the process that will break it.

    Args:
        path: File for the stage and the number of finished steps.
    """

    def __init__(self, path: str) -> None:
        self.path, self.stage, self.file = path, 0, -1

    def on_train_start(self, trainer: Trainer, *_: Any) -> None:
        """The first step begins."""
        self._show(trainer, 1)

    def on_before_zero_grad(self, trainer: Trainer, *_: Any) -> None:
        """A step has ended or begins."""
        self._show(trainer, self.stage)

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        """The step before has ended."""
        self._show(trainer, self.stage)

    def on_validation_start(self, trainer: Trainer, *_: Any) -> None:
        """A validation begins."""
        self._show(trainer, 2 if self.stage == 1 else self.stage)

    def on_validation_end(self, trainer: Trainer, *_: Any) -> None:
        """Training continues."""
        self._show(trainer, 1 if self.stage == 2 else self.stage)

    def on_train_end(self, trainer: Trainer, *_: Any) -> None:
        """The final validation and test follow."""
        self._show(trainer, 3)

    def _show(self, trainer: Trainer, stage: int) -> None:
        self.stage = stage
        if trainer.is_global_zero:
            if self.file < 0:
                self.file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            os.pwrite(self.file, b"%d %8d" % (stage, trainer.global_step), 0)


class Trial:
    """One training in a folder, started as often as it takes to finish.

    Args:
        folder: Its run folder.
        options: Its overrides.
        num_processes: Its ranks, started as torchrun starts them.
    """

    def __init__(self, folder: Path, options: list[str], num_processes: int = 1) -> None:
        self.folder, self.num_processes = folder, num_processes
        self.log, self._moment = folder.with_suffix(".log"), folder.with_suffix(".moment")
        self.processes: list[ForkProcess] = []
        self._arguments = [
            *["resume=auto", f"hydra.run.dir={folder}", f"paths.log_dir={folder.parent}"],
            f"+callbacks.moment._target_={ShowMoment.__module__}.{ShowMoment.__name__}",
            f"+callbacks.moment.path={self._moment}",
            *NANO,
            *options,
        ]

    @property
    def stage(self) -> str:
        """What it is doing."""
        return STAGES[self._read_moment()[0]]

    @property
    def num_steps(self) -> int:
        """Steps that it has finished."""
        return self._read_moment()[1]

    @property
    def has_ended(self) -> bool:
        """Whether one of its processes has ended."""
        return any(process.exitcode is not None for process in self.processes)

    def start(self) -> None:
        """Start or continue it; returns when its first step begins, or it has ended."""
        self._moment.unlink(missing_ok=True)
        port = _free_port()
        self.processes = [
            _FORK.Process(target=self._work, args=(rank, port))
            for rank in range(self.num_processes)
        ]
        for process in self.processes:
            process.start()
        while not self._moment.exists() and not self.has_ended:
            time.sleep(0.01)

    def wait(self, seconds: float) -> list[int | None]:
        """Wait until all its processes have ended, or so long; returns their statuses."""
        deadline = time.monotonic() + seconds
        for process in self.processes:
            process.join(max(0.0, deadline - time.monotonic()))
        return [process.exitcode for process in self.processes]

    def kill(self) -> None:
        """Kill its processes and all that they have started."""
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid or 0, signal.SIGKILL)
            process.kill()
            process.join()

    def finish(self) -> str | None:
        """Run it to its end; returns the end of its output where it fails."""
        self.start()
        statuses = self.wait(_TIMEOUT_S)
        self.kill()
        if any(statuses) or None in statuses:
            return f"status {statuses}: {self.log.read_text()[-400:]}"
        return None

    def _read_moment(self) -> tuple[int, int]:
        with contextlib.suppress(OSError, ValueError):  # not written yet
            stage, step = self._moment.read_text().split()
            return int(stage), int(step)
        return 0, 0

    def _work(self, rank: int, port: int) -> None:
        os.setsid()  # so that it can be killed with its workers
        with self.log.open("a") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        if self.num_processes > 1:
            world_size = str(self.num_processes)
            names = {"RANK": str(rank), "LOCAL_RANK": str(rank), "GROUP_RANK": "0"}
            names |= {"WORLD_SIZE": world_size, "LOCAL_WORLD_SIZE": world_size}
            names |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            os.environ.update(names, TORCHELASTIC_RUN_ID=str(port))
        sys.argv = ["train.py", *self._arguments]
        run_command_line(train, "train")


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def training_seconds(folder: Path) -> float:
    """Return how long a finished training took from its first step to its results, by its files."""
    files = (folder / "provenance.json", folder / "metrics.json")
    started, ended = (file.stat().st_mtime for file in files)
    return ended - started


def saved_step(folder: Path) -> int:
    """Return the number of steps of a run's newest checkpoint; 0 where there is none."""
    path = folder / LAST_CHECKPOINT
    if not path.is_file():
        return 0
    return int(torch.load(path, weights_only=True)["global_step"])


def results(folder: Path) -> dict[str, Any]:
    """Collect what a finished training has computed, without speeds."""
    checkpoint = torch.load(folder / LAST_CHECKPOINT, weights_only=True)
    names = (
        "state_dict",
        "current_model_state",
        "optimizer_states",
        "lr_schedulers",
        "global_step",
    )
    with (folder / "metrics.csv").open(newline="") as file:
        rows = [{k: v for k, v in row.items() if not is_speed(k)} for row in csv.DictReader(file)]
    metrics = json.loads((folder / "metrics.json").read_text())
    return {
        **{name: digest(checkpoint.get(name)) for name in names},
        "metrics.csv": rows,
        "metrics.json": {k: v for k, v in metrics.items() if not is_speed(k)},
    }


def digest(value: Any) -> str:
    """Hash the tensors and numbers of nested dicts and lists."""
    found = hashlib.sha256()
    for part in _leaves(value):
        if isinstance(part, torch.Tensor):
            file = io.BytesIO()
            np.save(file, part.numpy())
            found.update(file.getvalue())
        else:
            found.update(repr(part).encode())
    return found.hexdigest()


def difference(one: dict[str, Any], other: dict[str, Any]) -> str | None:
    """Name what differs between the results of two trainings; None where they are equal."""
    names = [name for name in one if one[name] != other[name]]
    return f"{', '.join(names)} differ" if names else None


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for key in value:
            yield key
            yield from _leaves(value[key])
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _leaves(item)
    else:
        yield value
