"""Mend what Lightning leaves undone when a run resumes from a checkpoint."""

from dataclasses import dataclass
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


@dataclass(frozen=True)
class Progress:
    """How far the run of a checkpoint had come.

    Attributes:
        epochs: Epochs that were over.
        batches: Batches of the following epoch.
    """

    epochs: int
    batches: int

    def __str__(self) -> str:
        done = f"{self.epochs} epoch{'s' * (self.epochs != 1)}"
        return f"{done} and {self.batches} batches" if self.batches else done


def read_progress(checkpoint: dict[str, Any]) -> Progress:
    """Read from a checkpoint how far its run had come.

    (Its entry `epoch` counts an unfinished epoch like a finished one, and one too many at the end of
    training.)
    """
    loops = checkpoint["loops"]["fit_loop"]
    epochs = loops["epoch_progress"]["current"]
    is_over = epochs["processed"] == epochs["ready"]
    batches = 0 if is_over else loops["epoch_loop.batch_progress"]["current"]["ready"]
    return Progress(epochs["processed"], batches)


class Resume(Callback):
    """Let a resumed run continue as the unbroken one would.

    Lightning does not start an epoch for the callbacks that it resumes within, repeats the end of an
    epoch that was over where `max_steps` is set, and leaves out the validation that was due after a
    checkpoint of an epoch's last batch.
    """

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Correct the progress in the checkpoint, which Lightning is about to take over."""
        if not trainer.training:
            return
        loops = checkpoint["loops"]["fit_loop"]
        epochs, batches = loops["epoch_progress"], loops["epoch_loop.batch_progress"]
        for count in ("total", "current"):
            epochs[count]["completed"] = epochs[count]["processed"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the epoch for the callbacks, or the next one where the last was over."""
        fit_loop = trainer.fit_loop
        if fit_loop.restarted_mid_epoch:
            for callback in trainer.callbacks:  # type: ignore[attr-defined]
                callback.on_train_epoch_start(trainer, pl_module)
        elif fit_loop.restarting:
            fit_loop.epoch_loop.restarting = False
