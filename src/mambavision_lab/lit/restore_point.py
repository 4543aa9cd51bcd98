"""Return to what was before a training step, and find what is not finite in a checkpoint."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


def is_free_to_read(x: Tensor) -> bool:
    """Return whether a tensor's value can be read without waiting for its device."""
    return x.device.type == "cpu"


class RestorePoint:
    """What a forward pass changes: a network's buffers, such as BatchNorm's statistics, and metrics.

    Args:
        buffers: The network's.
        metrics: Their states are tensors.
    """

    def __init__(self, buffers: Sequence[Tensor], metrics: Sequence[Metric]) -> None:
        self._buffers = [(buffer, buffer.clone()) for buffer in buffers]
        states = ((m, key, x) for m in metrics for key, x in m.metric_state.items())
        self._states = [(m, key, x.clone()) for m, key, x in states if isinstance(x, Tensor)]

    def restore_where(self, condition: Tensor) -> None:
        """Restore all of it where condition, a single value on the device, is true, without waiting."""
        if is_free_to_read(condition) and not condition:
            return
        for buffer, before in self._buffers:
            buffer.copy_(torch.where(condition, before, buffer))
        for metric, key, before in self._states:
            setattr(metric, key, torch.where(condition, before, getattr(metric, key)))


def find_nonfinite(checkpoint: dict[str, Any], parameters: set[str]) -> str | None:
    """Name something in a training's checkpoint that is not finite, or None.

    A network's buffers may hold infinities, such as masks, but not NaN.

    Args:
        checkpoint: Weights and, where it has one, the optimizer's state.
        parameters: Names of the parameters among the weights.
    """
    found: dict[str, Tensor] = {}
    for entry in ("state_dict", "current_model_state"):
        for name, x in checkpoint.get(entry, {}).items():
            found[name if entry == "state_dict" else f"{entry} {name}"] = (
                x if name in parameters else x.nan_to_num(posinf=0, neginf=0, nan=torch.nan)
            )
    for optimizer in checkpoint.get("optimizer_states", []):
        for index, state in optimizer["state"].items():
            found |= {f"the optimizer's {key} {index}": x for key, x in state.items()}
    tensors = {
        name: x
        for name, x in found.items()
        if isinstance(x, Tensor) and x.is_floating_point() and x.numel()
    }
    # The largest absolute value is finite where all are, and read once for all.
    largest = torch.nn.utils.get_total_norm([x.detach() for x in tensors.values()], torch.inf)
    if largest.isfinite():
        return None
    return next(name for name, x in tensors.items() if not x.isfinite().all())
