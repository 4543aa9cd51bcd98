"""Measure a test's masks: Dice and IoU by class, from the pixels of all images together."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

ClassTable = tuple[list[str], list[tuple[str, int, list[float]]]]


@dataclass
class MaskQuality:
    """Metrics of one test of a segmentation; NaN where neither masks nor predictions have a class.

    Attributes:
        names: Class names; numbers where the run stored none.
        num_pixels: Of each class.
        dice, iou: Of each class.
    """

    names: list[str]
    num_pixels: np.ndarray
    dice: np.ndarray
    iou: np.ndarray

    def class_table(self) -> ClassTable:
        """Return the names of the values, and class, pixels and values of each, lowest Dice first."""
        values = np.stack([self.dice, self.iou], axis=1).tolist()
        rows = [*zip(self.names, self.num_pixels.tolist(), values, strict=True)]
        return ["Dice", "IoU"], sort_classes(rows, 0)

    def class_values(self) -> list[tuple[str, np.ndarray]]:
        """Return what is compared between classes, by name."""
        return [("Dice", self.dice), ("IoU", self.iou)]


def measure_masks(predictions: dict[str, np.ndarray]) -> MaskQuality:
    """Compute the metrics from the arrays of predictions.npz."""
    pixels = predictions["pixels"]
    names = [str(name) for name in predictions.get("class_names", [])]
    names += [str(index) for index in range(len(names), len(pixels))]
    hits, both = pixels.diagonal(), pixels.sum(axis=0) + pixels.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return MaskQuality(names, pixels.sum(axis=1), 2 * hits / both, hits / (both - hits))


def sort_classes(rows: list[Any], column: int) -> list[tuple[str, int, list[float]]]:
    """Sort rows of a class table by a value, NaN last."""
    return sorted(rows, key=lambda row: (math.isnan(row[2][column]), row[2][column]))
