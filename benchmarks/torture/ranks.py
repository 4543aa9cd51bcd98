"""SIGKILL of one of two gloo processes, and SIGTERM of both: the run resumes, and ends as the unbroken one."""

import random
import shutil
import signal
import tempfile
from pathlib import Path

import torch

from benchmarks.torture.outcome import Outcome, count_held
from benchmarks.torture.trial import (
    MEMORY,
    Trial,
    find_workers,
    kill,
    results,
    training_seconds,
)

COUNT = 10
_TOLERANCE = 1e-6
_TWO = [
    *["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "callbacks=default"],
    *["trainer.max_epochs=3", "~callbacks.predictions"],
]


def run(*, seed: int, count: int) -> list[Outcome]:
    """Break count runs of two processes, each once."""
    raise NotImplementedError
