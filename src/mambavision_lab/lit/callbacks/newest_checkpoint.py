"""Keep the newest state of a training, from which it resumes."""

import time
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.trainer.states import TrainerFn

from mambavision_lab.errors import ConfigError
from mambavision_lab.files import LAST_CHECKPOINT, UNFINISHED, rename

NEXT = "next.ckpt"  # the newest state, until it may take the place of the last one


class NewestCheckpoint(Checkpoint):
    """Keep the newest state of a training as `last.ckpt`: at each epoch's end, whatever its metrics are.

    It is written as `next.ckpt` and renamed when the metrics of its step are in the loggers' files, so that a
    run which resumes from `last.ckpt` misses no row of metrics.csv.

    Args:
        dirpath: Folder of the file.
        every_n_steps: Save within epochs too, after every so many optimizer steps.
        every_minutes: Save within epochs too, after so many minutes.
    """

    def __init__(
        self,
        dirpath: str | Path,
        *,
        every_n_steps: int | None = None,
        every_minutes: float | None = None,
    ) -> None:
        if every_n_steps is not None and every_n_steps < 1:
            raise ConfigError(f"callbacks.newest.every_n_steps={every_n_steps}: wanted 1 or more")
        self.dirpath = Path(dirpath)
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
        self._commit(trainer)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """The step before is in the loggers' files."""
        self._commit(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save after an optimizer step, never between two; an epoch's last one is saved at its end."""
        has_stepped, self._step = trainer.global_step != self._step, trainer.global_step
        is_last = trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
        if has_stepped and not is_last and self._is_due(trainer):
            self._save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save, also where an epoch ends early."""
        self._save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The last epoch is in the loggers' files."""
        self._commit(trainer)

    def _is_due(self, trainer: Trainer) -> bool:
        if self.every_n_steps is not None and trainer.global_step % self.every_n_steps == 0:
            return True
        if self.every_minutes is None:
            return False
        is_due = time.monotonic() - self._time_saved >= 60 * self.every_minutes
        return trainer.strategy.broadcast(is_due)  # clocks differ

    def _save(self, trainer: Trainer) -> None:
        if not trainer.fast_dev_run:  # type: ignore[attr-defined]
            trainer.save_checkpoint(self.dirpath / NEXT, weights_only=False)
            self._time_saved = time.monotonic()

    def _commit(self, trainer: Trainer) -> None:
        if trainer.is_global_zero and (self.dirpath / NEXT).is_file():
            rename(self.dirpath / NEXT, self.dirpath / Path(LAST_CHECKPOINT).name)
