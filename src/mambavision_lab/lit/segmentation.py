"""The LightningModule that trains and evaluates a segmentation of images or volumes."""

from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from mambavision_lab.lit.mask_losses import DiceCrossEntropy
from mambavision_lab.lit.mask_metrics import make_mask_metrics
from mambavision_lab.lit.training_module import TrainingModule


class SegmentationModule(TrainingModule):
    """Training of a segmentation, with the metrics of `make_mask_metrics` accumulated over each epoch.

    Validation and test measure the plain cross-entropy as loss, whatever was trained.

    Args:
        net: Maps images (N, C, H, W) to logits (N, num_classes, H, W); or volumes likewise.
        num_classes: Number of classes, the background among them.
        loss: What is trained; None is Dice and cross-entropy.
        include_background: Whether the metrics count class 0 as they count the others.

    Other settings as in `TrainingModule`.
    """

    has_masks: ClassVar[bool] = True

    def __init__(
        self,
        net: nn.Module,
        *,
        num_classes: int,
        loss: nn.Module | None = None,
        include_background: bool = False,
        **settings: Any,
    ) -> None:
        super().__init__(
            net,
            num_classes=num_classes,
            metrics=make_mask_metrics(num_classes, include_background),
            loss=loss or DiceCrossEntropy(),
            **settings,
        )

    def logits_shape(self, images: Tensor) -> tuple[int, ...]:
        """Return the shape that the logits of a batch must have."""
        return len(images), self.num_classes, *images.shape[2:]

    def losses_of(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the plain cross-entropy of each image, (N,)."""
        return F.cross_entropy(logits.float(), targets, reduction="none").flatten(1).mean(1)
