"""The file of a run folder that lists the training steps that were skipped."""

import csv
import logging
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

import torch.distributed as dist
from lightning.pytorch import Trainer

log = logging.getLogger(__name__)

FILE = "bad_steps.csv"


@dataclass(frozen=True)
class BadStep:
    """A step that was skipped, as one row; losses and norms are those of the rank.

    Attributes:
        step: Optimizer steps with this one.
        epoch: From 1, as printed.
        rank: Of the process.
        loss: Mean over the accumulated batches.
        grad_norm: Euclidean norm of the gradient, before clipping.
        weight_norm: Euclidean norm of the weights, when the step was looked at.
        learning_rate: Of the last parameter group.
        images: Indices in the training split, separated by spaces.
    """

    step: int
    epoch: int
    rank: int
    loss: float
    grad_norm: float
    weight_norm: float
    learning_rate: float
    images: str


def write_bad_steps(trainer: Trainer, rows: list[BadStep]) -> None:
    """Add rows of all processes to the file, which a full disk may keep from growing."""
    gathered: list[Any] = [rows]
    if trainer.world_size > 1:
        gathered = [None] * trainer.world_size
        dist.all_gather_object(gathered, rows)
    if not trainer.is_global_zero:
        return
    path = Path(trainer.default_root_dir) / FILE
    try:
        is_new = not path.is_file()
        with path.open("a", newline="") as file:
            writer = csv.writer(file)
            if is_new:
                writer.writerow([field.name for field in fields(BadStep)])
            writer.writerows(astuple(row) for part in gathered for row in part)
    except OSError as error:
        log.warning("%s cannot be written: %s", path, error)
