"""Train a network towards the predictions of its own average.

Source: Du et al. 2022, "Sharpness-aware training for free", arXiv:2205.14083 (MESA); as MambaVision was
trained (Hatamizadeh and Kautz 2024, arXiv:2407.08083).
"""

from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from mambavision_lab.errors import ConfigError
from mambavision_lab.lit.callbacks.ema import EMA
from mambavision_lab.lit.losses import divergence


class MESA(EMA):
    """An `EMA` whose average is the network's teacher: the loss grows by their divergence.

    The teacher sees the same images, mixed ones as well, and drops nothing. It is not compiled.

    Args:
        decay: As in `EMA`.
        use_warmup: As in `EMA`.
        weight: What the divergence is multiplied by before it is added to the loss.
        start: Share of the optimizer steps after which it is added.

    Raises:
        ConfigError: A setting is impossible, or the length of the run is not known.
    """

    def __init__(
        self,
        decay: float = 0.9998,
        *,
        use_warmup: bool = True,
        weight: float = 0.5,
        start: float = 0.25,
    ) -> None:
        super().__init__(decay, use_warmup=use_warmup)
        if weight <= 0:
            raise ConfigError(f"callbacks.ema.weight={weight}: wanted above 0")
        if not 0 <= start < 1:
            raise ConfigError(f"callbacks.ema.start={start}: wanted at least 0 and below 1")
        self.weight, self.start = weight, start
        self._hook: RemovableHandle | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Follow the classifier's loss, which is called in training alone."""
        num_steps = trainer.estimated_stepping_batches
        if num_steps == float("inf"):
            raise ConfigError(
                "callbacks.ema.start: is a share of the run, whose length is unknown; give "
                "trainer.max_epochs or trainer.max_steps"
            )
        loss = pl_module.loss
        assert isinstance(loss, nn.Module)

        def add(_: nn.Module, inputs: tuple[Any, ...], value: Tensor) -> Tensor:
            if trainer.global_step < self.start * num_steps:
                return value
            return value + self._divergence(*inputs)

        self._hook = loss.register_forward_hook(add)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the loss as it was found."""
        if self._hook is not None:
            self._hook.remove()

    def _divergence(self, logits: Tensor, targets: Tensor, images: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = self.average(images)
        return self.weight * divergence(logits, wanted)
