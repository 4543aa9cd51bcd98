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
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback
from PIL import Image

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
    *["model.drop_path_rate=0.1", "+callbacks.stage._target_=benchmarks.torture.trial.ShowStage"],
]
MEMORY = ["data.num_train=96", "data.num_val=48", "data.num_test=32"]

_TIMEOUT_S = 300
STAGES = ("start", "step", "validation", "final test")

_FORK = multiprocessing.get_context("fork")
_stage = _FORK.RawValue("i")  # of the training that runs; an index of STAGES


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


class ShowStage(Callback):
    """Tell the process that started a training what it is doing."""

    def on_train_start(self, *_: Any) -> None:
        """The first step begins."""
        _stage.value = 1

    def on_validation_start(self, *_: Any) -> None:
        """A validation begins."""
        _stage.value = 2 if _stage.value == 1 else _stage.value

    def on_validation_end(self, *_: Any) -> None:
        """Training goes on."""
        _stage.value = 1 if _stage.value == 2 else _stage.value

    def on_train_end(self, *_: Any) -> None:
        """The final validation and test follow."""
        _stage.value = 3


class Trial:
    """One training in a folder, started as often as it takes to finish.

    Args:
        folder: Its run folder.
        options: Its overrides.
    """

    def __init__(self, folder: Path, options: list[str]) -> None:
        self.folder = folder
        self.arguments = [
            *NANO,
            *options,
            f"hydra.run.dir={folder}",
            f"paths.log_dir={folder.parent}",
        ]
        self.log = folder.with_suffix(".log")

    def start(self, *more: str) -> "multiprocessing.context.ForkProcess":
        """Start it, or continue it where it was started before."""
        _stage.value = 0
        process = _FORK.Process(target=self._work, args=(["resume=auto", *self.arguments, *more],))
        process.start()
        return process

    def kill_after(self, seconds: float) -> str | None:
        """Start it and kill it so long after its first step began; returns its stage, None if it has ended."""
        process = self.start()
        while _stage.value == 0 and process.exitcode is None:
            time.sleep(0.01)
        process.join(seconds)
        if process.exitcode is not None:
            return None
        stage = STAGES[_stage.value]
        kill(process)
        return stage

    def finish(self) -> str | None:
        """Run it to its end; returns the end of its output where it fails."""
        process = self.start()
        process.join(_TIMEOUT_S)
        if process.exitcode == 0:
            return None
        kill(process)
        return f"status {process.exitcode}: {self.log.read_text()[-400:]}"

    def _work(self, arguments: list[str]) -> None:
        os.setsid()  # so that it can be killed with its workers
        with self.log.open("a") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        sys.argv = ["train.py", *arguments]
        run_command_line(train, "train")


def kill(process: "multiprocessing.context.ForkProcess") -> None:
    """Kill a training and all processes that it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid or 0, signal.SIGKILL)
    process.kill()
    process.join()


def training_seconds(folder: Path) -> float:
    """Return how long a finished training took from its first step to its results, by its files."""
    files = (folder / "provenance.json", folder / "metrics.json")
    started, ended = (file.stat().st_mtime for file in files)
    return ended - started


def results(folder: Path) -> dict[str, Any]:
    """Collect what a finished training has computed, without speeds."""
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
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
