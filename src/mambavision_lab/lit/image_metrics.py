"""Metrics of a classifier, accumulated over an epoch and over processes."""

from typing import Any

import torch
from torch import nn
from torchmetrics import MeanMetric, Metric, SumMetric
from torchmetrics.classification import (
    MulticlassAccuracy,
    MultilabelAveragePrecision,
    MultilabelF1Score,
)

from mambavision_lab.metrics import cheap_metrics, metrics_of_predictions


def make_metrics(num_classes: int, is_multilabel: bool) -> nn.ModuleDict:
    """Make the metrics of training ("fit"), validation and test, each a `ModuleDict` by name.

    Mean loss and number of images; top-1 and, of more than five classes, top-5 accuracy. Where images have
    several labels: mean average precision over the classes, and F1 at a probability of 0.5, as the mean over
    the classes and over all answers. In training neither top-5 nor mean average precision, which would
    keep all predictions of the epoch.
    """
    names = metrics_of_predictions(num_classes, is_multilabel)
    chosen = {"fit": cheap_metrics(names), "val": names, "test": names}
    return nn.ModuleDict(
        {
            phase: nn.ModuleDict(
                {
                    # Updated with one loss per image, because this strategy, which keeps NaN visible,
                    # ignores weights.
                    "loss": MeanMetric(nan_strategy="disable"),
                    "num_images": SumMetric(),
                    **{name: _make(name, num_classes) for name in own},
                }
            )
            for phase, own in chosen.items()
        }
    )


def has_counted(metric: Metric) -> bool:
    """Return whether a metric was updated, or restored, since its last reset."""
    states: list[Any] = [*metric.metric_state.values()]
    return any(
        len(state) > 0 if isinstance(state, list) else torch.as_tensor(state).any()
        for state in states
    )


def _make(name: str, num_classes: int) -> Metric:
    if name == "map":
        return MultilabelAveragePrecision(num_classes, validate_args=False)
    if name.startswith("f1_"):
        average: Any = name.removeprefix("f1_")
        return MultilabelF1Score(num_classes, average=average, validate_args=False)
    top_k = int(name.removeprefix("acc"))
    return MulticlassAccuracy(num_classes, top_k=top_k, average="micro", validate_args=False)
