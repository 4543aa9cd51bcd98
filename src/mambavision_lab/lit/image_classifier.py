"""The LightningModule that trains and evaluates any image classifier."""

from typing import Any, ClassVar

from torch import Tensor, nn

from mambavision_lab.lit.image_metrics import make_metrics
from mambavision_lab.lit.losses import BinaryCrossEntropy, CrossEntropy, per_image
from mambavision_lab.lit.training_module import TrainingModule


class ImageClassifier(TrainingModule):
    """Training of a classifier, with the metrics of `make_metrics` accumulated over each epoch.

    Where the augmentation mixes images, no label is theirs, and there is no `train/acc1`, nor F1.

    Args:
        net: Maps images (N, C, H, W) to logits (N, num_classes).
        num_classes: Number of classes.
        is_multilabel: Whether an image has any number of classes, given as 0 or 1 for each, not one.
        loss: What is trained; None is plain cross-entropy, binary for several labels. Validation and test
            use that whatever was trained.

    Other settings as in `TrainingModule`.
    """

    has_masks: ClassVar[bool] = False

    def __init__(
        self,
        net: nn.Module,
        *,
        num_classes: int,
        is_multilabel: bool = False,
        loss: nn.Module | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(
            net,
            num_classes=num_classes,
            metrics=make_metrics(num_classes, is_multilabel),
            loss=loss or (BinaryCrossEntropy() if is_multilabel else CrossEntropy()),
            **settings,
        )
        self.is_multilabel = is_multilabel

    def logits_shape(self, images: Tensor) -> tuple[int, ...]:
        """Return the shape that the logits of a batch must have."""
        return len(images), self.num_classes

    def losses_of(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the plain loss of each image, (N,)."""
        return per_image(logits, targets)

    def _predict(self, images: Tensor, is_test: bool) -> Tensor:
        return self.tta(self, images, self.is_multilabel) if self.tta and is_test else self(images)
