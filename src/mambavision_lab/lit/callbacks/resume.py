"""Do what Lightning leaves undone when a run resumes from a checkpoint."""

from dataclasses import dataclass
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.trainer.states import TrainerFn

from mambavision_lab.counting import counted
from mambavision_lab.lit.callbacks.ema import RAW, with_weights


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
        done = counted(self.epochs, "epochs")
        return f"{done} and {counted(self.batches, 'batches')}" if self.batches else done


def read_progress(checkpoint: dict[str, Any]) -> Progress:
    """Read from a checkpoint how far its run had come.

    (Its entry `epoch` counts an unfinished epoch like a finished one, and one too many at the end of
    training.)
    """
    loops = checkpoint["loops"]["fit_loop"]
    epochs, batches = loops["epoch_progress"]["current"], loops["epoch_loop.batch_progress"]
    if batches["is_last_batch"] or not epochs["ready"]:
        return Progress(epochs["ready"], 0)
    return Progress(epochs["ready"] - 1, batches["current"]["processed"])


def has_open_epoch(checkpoint: dict[str, Any]) -> bool:
    """Return whether a run that resumes from a checkpoint will end the epoch that it was saved in.

    Lightning counts an epoch as ended where the checkpoint was saved with its last batch, before validation.
    """
    loops = checkpoint["loops"]["fit_loop"]
    epochs, batches = loops["epoch_progress"]["current"], loops["epoch_loop.batch_progress"]
    if not batches["is_last_batch"]:
        return True
    was_cut = batches["current"]["completed"] < batches["current"]["ready"]
    return epochs["processed"] < epochs["ready"] and not was_cut


class Resume(Callback):
    """Let a resumed run continue as the unbroken one would.

    Lightning does not start an epoch for the callbacks that it resumes within, and repeats the end of an
    epoch that was over where `max_steps` is set.
    """

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Count an epoch whose end was reached as complete, before Lightning takes over the progress.

        One that `max_steps` or the time has ended within continues. Without averaging a run takes up the raw
        weights, not the average of the run that it resumes.
        """
        loops = checkpoint["loops"]["fit_loop"]
        epochs, batches = loops["epoch_progress"], loops["epoch_loop.batch_progress"]
        for count in epochs.values():
            if not batches["is_last_batch"]:
                count["processed"] = max(0, count["ready"] - 1)
            count["completed"] = count["processed"]
        is_averaging = any(isinstance(c, WeightAveraging) for c in trainer.callbacks)  # type: ignore[attr-defined]
        if trainer.state.fn == TrainerFn.FITTING and not is_averaging:
            pl_module.load_state_dict(with_weights(checkpoint, RAW)["state_dict"])

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the epoch for the callbacks, or have Lightning start the next where the last was over."""
        fit_loop = trainer.fit_loop
        if fit_loop.restarted_mid_epoch:
            for callback in trainer.callbacks:  # type: ignore[attr-defined]
                callback.on_train_epoch_start(trainer, pl_module)
        elif fit_loop.restarting:
            fit_loop.epoch_loop.restarting = False
