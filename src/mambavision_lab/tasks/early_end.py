"""Say why a training ended before its last epoch or step."""

import logging
from datetime import timedelta

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EarlyStopping, Timer
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason

from mambavision_lab.counting import counted
from mambavision_lab.lit.callbacks.trial_pruning import TrialPruning

log = logging.getLogger(__name__)


def print_early_end(trainer: Trainer) -> None:
    """Print in one line, on rank 0, which callback has ended a training and why; nothing at its usual end."""
    epoch, step = trainer.current_epoch, trainer.global_step
    num_batches = trainer.fit_loop.epoch_loop.batch_progress.current.completed
    is_whole = num_batches == trainer.num_training_batches  # the last epoch
    is_end = step == trainer.max_steps or (is_whole and epoch == trainer.max_epochs)
    if not trainer.should_stop or is_end:
        return
    reasons = [_reason(callback, trainer) for callback in trainer.callbacks]  # type: ignore[attr-defined]
    why = next((reason for reason in reasons if reason), "a callback asked for it")
    where = f"epoch {epoch}" if is_whole else f"step {step}, in epoch {max(1, epoch)}"
    line = f"stopped after {where}: {why}"
    log.info(line)
    if trainer.is_global_zero:
        print(line, flush=True)


def _reason(callback: object, trainer: Trainer) -> str | None:
    if isinstance(callback, TrialPruning):
        return callback.reason
    if isinstance(callback, Timer):
        remaining = callback.time_remaining()
        if remaining is None or remaining > 0:
            return None
        return f"the time is over, {timedelta(seconds=round(callback.time_elapsed()))}"
    if not isinstance(callback, EarlyStopping):
        return None
    if callback.stopping_reason == EarlyStoppingReason.PATIENCE_EXHAUSTED:
        is_each_epoch = trainer.val_check_interval == 1.0 and trainer.check_val_every_n_epoch == 1
        unit = "epochs" if is_each_epoch else "validations"
        verb = "risen" if callback.mode == "max" else "fallen"
        count = callback.wait_count
        return f"{callback.monitor} has not {verb} for {counted(count, unit)}"
    if callback.stopping_reason != EarlyStoppingReason.NOT_STOPPED:
        message = (callback.stopping_reason_message or "").removesuffix(
            " Signaling Trainer to stop."
        )
        return message or callback.stopping_reason.value
    return None
