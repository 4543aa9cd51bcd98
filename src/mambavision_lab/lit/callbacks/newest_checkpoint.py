"""Keep the newest state of a training, from which it resumes."""

import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.trainer.states import TrainerFn

from mambavision_lab.errors import ConfigError
from mambavision_lab.files import LAST_CHECKPOINT, UNFINISHED, link, rename

NEXT = "next.ckpt"  # the newest state, until it may take the place of the last one


class NewestCheckpoint(Checkpoint):
    """Keep the newest state of a training as `last.ckpt`: at each epoch's end, whatever its metrics are.

    It is written as `next.ckpt` and renamed when the metrics of its step are in the loggers' files, so that a
    run which resumes from `last.ckpt` misses no row of metrics.csv.

    Args:
        dirpath: Folder of the file.
        keep_last: How many to keep: those before the newest are `last-1.ckpt`, `last-2.ckpt` and so on.
        every_n_steps: Save within epochs too, after every so many optimizer steps.
        every_minutes: Save within epochs too, after so many minutes.
    """

    def __init__(
        self,
        dirpath: str | Path,
        *,
        keep_last: int = 1,
        every_n_steps: int | None = None,
        every_minutes: float | None = None,
    ) -> None:
        if every_n_steps is not None and every_n_steps < 1:
            raise ConfigError(f"callbacks.newest.every_n_steps={every_n_steps}: wanted 1 or more")
        if keep_last < 1:
            raise ConfigError(f"callbacks.newest.keep_last={keep_last}: wanted 1 or more")
        self.dirpath = Path(dirpath)
        self.keep_last = keep_last
        self.every_n_steps = every_n_steps
        self.every_minutes = every_minutes
        self._step = 0
        self._time_saved = 0.0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Remove what an interrupted save has left."""
        if trainer.is_global_zero and stage == TrainerFn.FITTING:
            for path in (*self.dirpath.glob(f".*{UNFINISHED}"), self.dirpath / NEXT):
                path.unlink(missing_ok=True)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count from here."""
        self._step, self._time_saved = trainer.global_step, time.monotonic()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The epoch before is in the loggers' files."""
        self.commit(trainer)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """The step before is in the loggers' files."""
        self.commit(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save after an optimizer step, never between two; an epoch's last one is saved at its end."""
        has_stepped, self._step = trainer.global_step != self._step, trainer.global_step
        is_last = trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
        if has_stepped and not is_last and self._is_due(trainer):
            self.save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save, also where an epoch ends early."""
        self.save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The last epoch is in the loggers' files."""
        self.commit(trainer)

    def _is_due(self, trainer: Trainer) -> bool:
        if self.every_n_steps is not None and trainer.global_step % self.every_n_steps == 0:
            return True
        if self.every_minutes is None:
            return False
        is_due = time.monotonic() - self._time_saved >= 60 * self.every_minutes
        return trainer.strategy.broadcast(is_due)  # clocks differ

    def save(self, trainer: Trainer) -> None:
        """Write the state as `next.ckpt`; all processes call it, after an optimizer step."""
        if not trainer.fast_dev_run:  # type: ignore[attr-defined]
            trainer.save_checkpoint(self.dirpath / NEXT, weights_only=False)
            self._time_saved = time.monotonic()

    def commit(self, trainer: Trainer) -> None:
        """Let `next.ckpt`, if there is one, be the newest; the metrics of its step must be in the files."""
        if not trainer.is_global_zero or not (self.dirpath / NEXT).is_file():
            return
        names = [self.dirpath / Path(LAST_CHECKPOINT).name]
        names += [names[0].with_stem(f"{names[0].stem}-{k}") for k in range(1, self.keep_last)]
        for path, older in reversed([*pairwise(names)]):
            if path.is_file():
                link(path, older)  # at each moment there is a last.ckpt
        rename(self.dirpath / NEXT, names[0])
