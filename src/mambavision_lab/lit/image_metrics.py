"""Metrics of a classifier, accumulated over an epoch and over processes."""

from typing import Any

from torch import nn
from torchmetrics import Metric
from torchmetrics.classification import (
    MulticlassAccuracy,
    MultilabelAveragePrecision,
    MultilabelF1Score,
)

from mambavision_lab.lit.phase_metrics import metrics_by_phase
from mambavision_lab.metrics import metrics_of_predictions


def make_metrics(num_classes: int, is_multilabel: bool) -> nn.ModuleDict:
    """Make the metrics of training ("fit"), validation and test, each a `ModuleDict` by name.

    Mean loss and number of images; top-1 and, of more than five classes, top-5 accuracy. Where images have
    several labels: mean average precision over the classes, and F1 at a probability of 0.5, as the mean over
    the classes and over all answers. In training neither top-5 nor mean average precision, which would
    keep all predictions of the epoch.
    """
    names = metrics_of_predictions(num_classes, is_multilabel)
    return metrics_by_phase(names, lambda name: _make(name, num_classes))


def _make(name: str, num_classes: int) -> Metric:
    if name == "map":
        return MultilabelAveragePrecision(num_classes, validate_args=False)
    if name.startswith("f1_"):
        average: Any = name.removeprefix("f1_")
        return MultilabelF1Score(num_classes, average=average, validate_args=False)
    top_k = int(name.removeprefix("acc"))
    return MulticlassAccuracy(num_classes, top_k=top_k, average="micro", validate_args=False)
