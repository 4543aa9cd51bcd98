"""Train only the later layers for the first epochs, as when a fresh head meets trained features."""

from typing import cast

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn
from torch.optim import Optimizer

from mambavision_lab.errors import ConfigError
from mambavision_lab.models.freezing import evaluate_frozen, first_parameters


class Freeze(Callback):
    """Keep the first layers of the classifier's network as they are for some epochs.

    Frozen parts are in evaluation mode, so their BatchNorm statistics stay and they drop nothing. Which
    they are follows from the epoch alone, so a run that resumes from a checkpoint agrees with an
    uninterrupted one. All parameters are in the optimizer from the start.

    Args:
        epochs: How many epochs; None is the whole run.
        num_stages: How many stages (blocks where there are none) beside the stem; None freezes all but
            the head. The stages are those of the network's `group_matcher(coarse=True)`.
    """

    def __init__(self, epochs: int | None = 1, num_stages: int | None = None) -> None:
        self.epochs = epochs
        self.num_stages = num_stages
        self._frozen: list[nn.Parameter] = []
        self._drops_gradients = False

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Freeze, or train everything again.

        Raises:
            ConfigError: The network has no such stages.
        """
        net = cast(nn.Module, pl_module.net)
        is_over = self.epochs is not None and trainer.current_epoch >= self.epochs
        if is_over and self._frozen:
            self._thaw(net)
        if is_over or self._frozen:
            return
        try:
            first = first_parameters(net, self.num_stages)
        except ValueError as error:
            raise ConfigError(f"callbacks.freeze.{error}") from error
        self._frozen = [p for p in first.values() if p.requires_grad]
        # Processes agreed on the gradients to exchange before the first epoch; these must all come.
        self._drops_gradients = trainer.world_size > 1
        named = net.named_parameters()
        evaluate_frozen(net, (p for name, p in named if name not in first and p.requires_grad))
        for parameter in self._frozen:
            parameter.requires_grad_(self._drops_gradients)

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Leave out the gradients of what is frozen, where they had to be computed."""
        if self._drops_gradients:
            for parameter in self._frozen:
                parameter.grad = None

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the network as it was found."""
        if self._frozen:
            self._thaw(cast(nn.Module, pl_module.net))

    def _thaw(self, net: nn.Module) -> None:
        for parameter in self._frozen:
            parameter.requires_grad_(True)
        self._frozen, self._drops_gradients = [], False
        net.train()
