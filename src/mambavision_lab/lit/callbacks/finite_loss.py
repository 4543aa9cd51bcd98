"""Stop a run whose validation or test is no longer finite."""

import math

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from mambavision_lab.lit.callbacks.guard import ADVICE, diverged

_TEST_ADVICE = "look for NaN in the weights or the data, or choose trainer.precision=32-true"


class FiniteLoss(Callback):
    """End a run whose validation or test has a loss that is NaN or infinite; `TrainingModule` brings it.

    Raises:
        ConfigError, FloatingPointError: A loss is not finite.
    """

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the mean loss of the validation."""
        self._check(trainer, "val/loss")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the mean loss of the test."""
        self._check(trainer, "test/loss")

    def _check(self, trainer: Trainer, name: str) -> None:
        value = trainer.callback_metrics.get(name)
        if value is None or trainer.sanity_checking or math.isfinite(value):
            return
        advice = _TEST_ADVICE
        if trainer.state.fn == TrainerFn.FITTING:
            name = f"{name} in epoch {trainer.current_epoch + 1}, step {trainer.global_step}"
            advice = ADVICE
        raise diverged(trainer, f"{name} is {float(value)}; {advice}")
