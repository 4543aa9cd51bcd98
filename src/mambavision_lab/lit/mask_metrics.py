"""Metrics of a segmentation, accumulated over an epoch and over processes."""

import torch
from torch import Tensor, nn
from torchmetrics.classification import MulticlassConfusionMatrix

from mambavision_lab.lit.phase_metrics import metrics_by_phase
from mambavision_lab.metrics import MASK_METRICS


def make_mask_metrics(num_classes: int, include_background: bool) -> nn.ModuleDict:
    """Make the metrics of training ("fit"), validation and test, each a `ModuleDict` by name.

    Mean loss, number of images, mean Dice and mean IoU; in training Dice alone.
    """
    return metrics_by_phase(
        MASK_METRICS, lambda name: MeanOverlap(name, num_classes, include_background)
    )


class MeanOverlap(MulticlassConfusionMatrix):
    """Mean Dice or IoU over the classes, each from the pixels of all images together.

    A class of which neither masks nor predictions have a pixel is left out of the mean. Not the mean over
    images, in which a class of few pixels in one image counts as much as one of many. The state is a table
    of whole numbers, exact in whatever order batches come.

    Args:
        name: "dice" or "miou".
        num_classes: Number of classes.
        include_background: Whether class 0 is one of them.
    """

    def __init__(self, name: str, num_classes: int, include_background: bool) -> None:
        super().__init__(num_classes, validate_args=False)
        self.name, self.include_background = name, include_background

    def compute(self) -> Tensor:
        """Return the mean; NaN where no class is left."""
        values = overlap(super().compute())[self.name]
        return (values if self.include_background else values[1:]).nanmean().float()


def overlap(confusion: Tensor) -> dict[str, Tensor]:
    """Return "dice" and "miou" of each class, from pixels by (true class, predicted class)."""
    confusion = confusion.to(torch.float64 if confusion.device.type != "mps" else torch.float32)
    hits, both = confusion.diagonal(), confusion.sum(0) + confusion.sum(1)
    return {"dice": 2 * hits / both, "miou": hits / (both - hits)}
