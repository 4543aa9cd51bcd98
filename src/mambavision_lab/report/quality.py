"""Measure a test's predictions: confusion, precision and recall by class, calibration.

Where images have several labels: average precision, precision, recall and F1 by class.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torchmetrics.functional.classification import (
    binary_calibration_error,
    multilabel_average_precision,
)

from mambavision_lab.report.class_quality import ClassQuality, ClassTable, names_of, sort_classes
from mambavision_lab.report.mask_quality import measure_masks

NUM_BINS = 15


@dataclass
class Quality(ClassQuality):
    """Metrics of one test.

    Attributes:
        confusion: Images by (true class, predicted class).
        precision, recall: Per class; NaN where a class was never predicted or never occurs.
        ece: Expected calibration error of the predicted class, 15 equal bins.
        bins: (mean confidence, share of right predictions, images) of each bin that has images.
    """

    confusion: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    ece: float
    bins: np.ndarray

    def class_table(self) -> ClassTable:
        """Return the names of the values, and class, images and values of each, lowest recall first."""
        values = zip(self.precision.tolist(), self.recall.tolist(), strict=True)
        images = self.confusion.sum(axis=1).tolist()
        rows = [(*row, [*own]) for *row, own in zip(self.names, images, values, strict=True)]
        return ["precision", "recall"], sort_classes(rows, 1)

    def class_values(self) -> list[tuple[str, np.ndarray]]:
        """Return what is compared between classes, by name."""
        return [("precision", self.precision), ("recall", self.recall)]

    def confused_pairs(self, count: int = 10) -> list[tuple[str, str, int, float]]:
        """Return the most frequent mistakes: true class, predicted class, images, share of the true class."""
        mistakes = self.confusion.copy()
        np.fill_diagonal(mistakes, 0)
        totals = self.confusion.sum(axis=1)
        order = np.argsort(-mistakes, axis=None, kind="stable")[:count]
        pairs = [(int(i) // len(self.names), int(i) % len(self.names)) for i in order]
        return [
            (self.names[t], self.names[p], int(mistakes[t, p]), float(mistakes[t, p] / totals[t]))
            for t, p in pairs
            if mistakes[t, p] > 0
        ]


@dataclass
class LabelQuality(ClassQuality):
    """Metrics of one test of several labels, by class; NaN where they are not defined.

    Attributes:
        num_images: Images with the class.
        average_precision: Area under the curve of precision over recall.
        precision, recall, f1: At a probability of 0.5.
    """

    num_images: np.ndarray
    average_precision: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    title: ClassVar[str] = "Precision and recall by class, at a probability of 0.5"

    def class_table(self) -> ClassTable:
        """Return the names of the values, and class, images and values of each, lowest AP first."""
        columns = (self.average_precision, self.precision, self.recall, self.f1)
        values = np.stack(columns, axis=1).tolist()
        rows = [*zip(self.names, self.num_images.tolist(), values, strict=True)]
        return ["average precision", "precision", "recall", "F1"], sort_classes(rows, 0)

    def class_values(self) -> list[tuple[str, np.ndarray]]:
        """Return what is compared between classes, by name."""
        return [("precision", self.precision), ("recall", self.recall)]


def measure_quality(predictions: dict[str, np.ndarray]) -> ClassQuality | None:
    """Compute the metrics from the arrays of predictions.npz; None where there are none."""
    if "pixels" in predictions:
        return measure_masks(predictions)
    if len(predictions.get("targets", ())):
        return _measure_labels(predictions)
    if "labels" not in predictions or len(predictions["labels"]) == 0:
        return None
    labels, predicted = predictions["labels"], predictions["predicted"]
    # A diverged network predicts with probability NaN: counted as no confidence.
    confidence = np.nan_to_num(predictions["confidence"], nan=0.0).clip(0, 1)
    num_named = len(predictions.get("class_names", []))
    num_classes = max(num_named, int(labels.max()) + 1, int(predicted.max()) + 1)
    names = names_of(predictions, num_classes)
    confusion = np.bincount(
        labels.astype(np.int64) * num_classes + predicted, minlength=num_classes**2
    ).reshape(num_classes, num_classes)
    right = np.diag(confusion).astype(float)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision, recall = right / confusion.sum(axis=0), right / confusion.sum(axis=1)
    is_right = (labels == predicted).astype(np.int64)
    ece = binary_calibration_error(
        torch.from_numpy(confidence), torch.from_numpy(is_right), n_bins=NUM_BINS, norm="l1"
    )
    which = np.minimum((confidence * NUM_BINS).astype(int), NUM_BINS - 1)
    bins = [
        (confidence[which == b].mean(), is_right[which == b].mean(), (which == b).sum())
        for b in range(NUM_BINS)
        if (which == b).any()
    ]
    return Quality(names, confusion, precision, recall, float(ece), np.array(bins))


def _measure_labels(predictions: dict[str, np.ndarray]) -> LabelQuality:
    targets = predictions["targets"].astype(bool)
    probabilities = np.nan_to_num(predictions["probabilities"], nan=0.0)
    num_classes = targets.shape[1]
    names = names_of(predictions, num_classes)
    average_precision = multilabel_average_precision(
        torch.from_numpy(probabilities), torch.from_numpy(targets).long(), num_classes, average=None
    )
    is_predicted = probabilities >= 0.5
    right = (targets & is_predicted).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision, recall = right / is_predicted.sum(axis=0), right / targets.sum(axis=0)
        f1 = 2 * right / (is_predicted.sum(axis=0) + targets.sum(axis=0))
    num_images = targets.sum(axis=0)
    return LabelQuality(names, num_images, average_precision.numpy(), precision, recall, f1)
