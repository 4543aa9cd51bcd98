"""Metrics of the phases of a run: what each task adds to the mean loss and the number of images."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric, SumMetric

from mambavision_lab.metrics import cheap_metrics


def metrics_by_phase(names: list[str], make: Callable[[str], Metric]) -> nn.ModuleDict:
    """Make the metrics of training ("fit"), validation and test, each a `ModuleDict` by name.

    Args:
        names: Metrics of validation and test beside mean loss and number of images; training has the cheap
            ones of them.
        make: Makes one by its name.
    """
    chosen = {"fit": cheap_metrics(names), "val": names, "test": names}
    return _OfOwnPrecision(
        {
            phase: nn.ModuleDict(
                {
                    # Updated with one loss per image, because this strategy, which keeps NaN visible,
                    # ignores weights.
                    "loss": MeanMetric(nan_strategy="disable"),
                    "num_images": SumMetric(),
                    **{name: make(name) for name in own},
                }
            )
            for phase, own in chosen.items()
        }
    )


class _OfOwnPrecision(nn.ModuleDict):
    """Metrics that count in their own precision where the network is made bfloat16 (bf16-true)."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "_OfOwnPrecision":
        super()._apply(lambda state: fn(state).to(state.dtype), recurse)
        return self


def has_counted(metric: Metric) -> bool:
    """Return whether a metric was updated, or restored, since its last reset."""
    states: list[Any] = [*metric.metric_state.values()]
    return any(
        len(state) > 0 if isinstance(state, list) else torch.as_tensor(state).any()
        for state in states
    )
