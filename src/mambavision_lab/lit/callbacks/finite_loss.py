"""Stop a run whose loss is no longer finite."""

import math
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

_ADVICE = (
    "lower optimizer.lr, lengthen scheduler.warmup_epochs, or choose another trainer.precision"
)
_TEST_ADVICE = "look for NaN in the weights or the data, or choose trainer.precision=32-true"
_MAX_STEPS = 50  # between two looks at the losses on a device


class FiniteLoss(Callback):
    """End a run whose loss is NaN or infinite; `ImageClassifier` always brings it.

    On the CPU each batch's loss is looked at as it comes. Elsewhere that would wait for each step, so
    losses stay on the device and are looked at together: every `trainer.log_every_n_steps` steps, 50 at
    most, and before each validation.

    Raises:
        FloatingPointError: A loss is not finite; the message names epoch, step and learning rate.
    """

    def __init__(self) -> None:
        self._steps: list[tuple[int, float]] = []  # step and learning rate
        self._losses: list[Tensor] = []
        self._rate = 0.0

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Note the learning rate of the batch: a schedule changes it when the batch ends."""
        self._rate = trainer.optimizers[0].param_groups[-1]["lr"]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the batch's loss, and look at those kept when it is time."""
        self._losses.append(outputs["loss"].detach())
        self._steps.append((trainer.global_step, self._rate))
        every = max(1, min(trainer.log_every_n_steps, _MAX_STEPS))  # type: ignore[attr-defined]
        if outputs["loss"].device.type == "cpu" or len(self._losses) >= every:
            self._check(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the rest of the epoch's losses."""
        self._check(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the losses before the validation."""
        self._check(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the mean loss of the validation."""
        self._check_metric(trainer, "val/loss")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the mean loss of the test."""
        self._check_metric(trainer, "test/loss")

    def _check(self, trainer: Trainer) -> None:
        if not self._losses:
            return
        losses = torch.stack(self._losses).float().tolist()
        steps = self._steps
        self._losses, self._steps = [], []
        for loss, (step, rate) in zip(losses, steps, strict=True):
            if not math.isfinite(loss):
                raise FloatingPointError(
                    f"train/loss in epoch {trainer.current_epoch + 1}, step {step}, is {loss} at learning "
                    f"rate {rate:.3g}; {_ADVICE}"
                )

    def _check_metric(self, trainer: Trainer, name: str) -> None:
        value = trainer.callback_metrics.get(name)
        if value is None or trainer.sanity_checking or math.isfinite(value):
            return
        if trainer.state.fn == TrainerFn.FITTING:
            name, advice = (
                f"{name} in epoch {trainer.current_epoch + 1}, step {trainer.global_step}",
                _ADVICE,
            )
        else:
            advice = _TEST_ADVICE
        raise FloatingPointError(f"{name} is {float(value)}; {advice}")
