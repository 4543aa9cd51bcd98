"""Measure a test's masks: Dice and IoU by class, from the pixels of all images together."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mambavision_lab.report.class_quality import ClassQuality, ClassTable, names_of, sort_classes
from mambavision_lab.report.overlays import mask_colors


@dataclass
class MaskQuality(ClassQuality):
    """Metrics of one test of a segmentation; NaN where neither masks nor predictions have a class.

    Attributes:
        num_pixels: Of each class.
        dice, iou: Of each class.
    """

    num_pixels: np.ndarray
    dice: np.ndarray
    iou: np.ndarray
    title: ClassVar[str] = "Dice and IoU by class"
    counted: ClassVar[str] = "pixels"
    groups: ClassVar[dict[str, str]] = ClassQuality.groups | {"mistakes": "Lowest Dice"}

    def class_table(self) -> ClassTable:
        """Return the names of the values, and class, pixels and values of each, lowest Dice first."""
        values = np.stack([self.dice, self.iou], axis=1).tolist()
        rows = [*zip(self.names, self.num_pixels.tolist(), values, strict=True)]
        return ["Dice", "IoU"], sort_classes(rows, 0)

    def class_values(self) -> list[tuple[str, np.ndarray]]:
        """Return what is compared between classes, by name."""
        return [("Dice", self.dice), ("IoU", self.iou)]

    def legend(self) -> list[tuple[str, str]]:
        """Return name and CSS colour of each class but the first, which no overlay shows."""
        colors = mask_colors(len(self.names)).tolist()
        return [(n, f"rgb{(*c,)}") for n, c in zip(self.names[1:], colors[1:], strict=True)]


def measure_masks(predictions: dict[str, np.ndarray]) -> MaskQuality:
    """Compute the metrics from the arrays of predictions.npz."""
    pixels = predictions["pixels"]
    names = names_of(predictions, len(pixels))
    hits, both = pixels.diagonal(), pixels.sum(axis=0) + pixels.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return MaskQuality(names, pixels.sum(axis=1), 2 * hits / both, hits / (both - hits))
