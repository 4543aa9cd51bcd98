"""Measure a test's predictions: confusion, precision and recall by class, calibration."""

from dataclasses import dataclass

import numpy as np
import torch
from torchmetrics.functional.classification import binary_calibration_error

NUM_BINS = 15


@dataclass
class Quality:
    """Metrics of one test.

    Attributes:
        names: Class names; numbers where the run stored none.
        confusion: Images by (true class, predicted class).
        precision, recall: Per class; NaN where a class was never predicted or never occurs.
        ece: Expected calibration error of the predicted class, 15 equal bins.
        bins: (mean confidence, share of right predictions, images) of each bin that has images.
    """

    names: list[str]
    confusion: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    ece: float
    bins: np.ndarray

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


def measure_quality(predictions: dict[str, np.ndarray]) -> Quality | None:
    """Compute the metrics from the arrays of predictions.npz; None where there are none."""
    if "labels" not in predictions or len(predictions["labels"]) == 0:
        return None
    labels, predicted = predictions["labels"], predictions["predicted"]
    # A diverged network predicts with probability NaN: counted as no confidence.
    confidence = np.nan_to_num(predictions["confidence"], nan=0.0).clip(0, 1)
    names = [str(name) for name in predictions.get("class_names", [])]
    num_classes = max(len(names), int(labels.max()) + 1, int(predicted.max()) + 1)
    names += [str(index) for index in range(len(names), num_classes)]
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
