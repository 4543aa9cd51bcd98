"""Train only the later layers for the first epochs, as when a fresh head meets trained features."""

from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer
from timm.models import group_parameters
from torch import nn
from torch.optim import Optimizer

from mambavision_lab.errors import ConfigError


class Freeze(Callback):
    """Keep the first layers of the classifier's network as they are for some epochs.

    Frozen parts are in evaluation mode, so their BatchNorm statistics stay and they drop nothing. Which
    they are follows from the epoch alone, so a run that goes on from a checkpoint agrees with an
    unbroken one. All parameters are in the optimizer from the start.

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
        named = dict(net.named_parameters())
        first = first_parameters(net, self.num_stages)
        self._frozen = [p for name, p in named.items() if name in first and p.requires_grad]
        # Processes agreed on the gradients to exchange before the first epoch; these must all come.
        self._drops_gradients = trainer.world_size > 1
        kept = {id(p) for name, p in named.items() if name not in first and p.requires_grad}
        _evaluate(net, kept)
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


def first_parameters(net: nn.Module, num_stages: int | None) -> set[str]:
    """Names of the parameters of the stem and the first stages, or of all but the head.

    Raises:
        ConfigError: The network has no head, or not as many stages.
    """
    anything: Any = net
    name = type(net).__name__
    if num_stages is None:
        heads = anything.get_classifier() if hasattr(net, "get_classifier") else None
        heads = heads if isinstance(heads, tuple | list) else [heads]
        kept = {id(p) for head in heads if head is not None for p in head.parameters()}
        if not kept:
            raise ConfigError(f"callbacks.freeze: {name} does not say which part is its head")
        return {key for key, p in net.named_parameters() if id(p) not in kept}
    if not hasattr(net, "group_matcher"):
        raise ConfigError(f"callbacks.freeze.num_stages: {name} does not say what its stages are")
    groups = group_parameters(net, anything.group_matcher(coarse=True), reverse=True)
    last = max(groups.values()) - 1  # the head stands last
    if not 0 <= num_stages <= last:
        raise ConfigError(
            f"callbacks.freeze.num_stages={num_stages}: {name} has 0 to {last}, or null for all but the head"
        )
    return {key for key, group in groups.items() if group <= num_stages}


def _evaluate(module: nn.Module, kept: set[int]) -> None:
    """Put the largest parts that hold no parameter to be trained into evaluation mode."""
    for child in module.children():
        parameters = list(child.parameters())
        if parameters and not any(id(p) in kept for p in parameters):
            child.eval()
        else:
            _evaluate(child, kept)
