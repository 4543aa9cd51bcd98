"""Losses of a classifier in training: from logits, targets and the images themselves to one number.

Targets are labels (N,), int64, or the share of each class, (N, num_classes), as mixing gives them.
Validation and test use plain cross-entropy whatever was trained.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from timm.loss import BinaryCrossEntropy as TimmBinaryCrossEntropy
from torch import Tensor, nn

from mambavision_lab.errors import ConfigError

BALANCED = "balanced"


class CrossEntropy(nn.Module):
    """Softmax cross-entropy.

    Args:
        smoothing: Share of the target spread over all classes.
        class_weights: Weight of each class; or "balanced", to be set by `balance_classes`; or None.
    """

    class_weights: Tensor | None

    def __init__(
        self, *, smoothing: float = 0.0, class_weights: Sequence[float] | str | None = None
    ) -> None:
        super().__init__()
        if not 0 <= smoothing < 1:
            raise ValueError(f"smoothing={smoothing} must be at least 0 and below 1")
        if isinstance(class_weights, str) and class_weights != BALANCED:
            raise ValueError(
                f"class_weights={class_weights} is unknown; give {BALANCED} or numbers"
            )
        self.smoothing = smoothing
        self.is_balanced = class_weights == BALANCED
        is_given = class_weights is not None and not self.is_balanced
        weights = torch.tensor(class_weights) if is_given else None
        self.register_buffer("class_weights", weights, persistent=False)

    def forward(self, logits: Tensor, targets: Tensor, images: Tensor) -> Tensor:
        """Return the mean over the batch."""
        return F.cross_entropy(
            logits, targets, weight=self.class_weights, label_smoothing=self.smoothing
        )


def balance_classes(loss: nn.Module, labels: Callable[[], Tensor], num_classes: int) -> None:
    """Weigh the classes of losses that ask for it inversely to their numbers of images, by 1 on average.

    Args:
        loss: A loss, with those that it is made of.
        labels: Gives the class of each training image, (N,).
        num_classes: Number of classes.

    Raises:
        ConfigError: Another number of weights was given than there are classes.
    """
    for part in loss.modules():
        if not isinstance(part, CrossEntropy):
            continue
        if part.is_balanced:
            counts = labels().bincount(minlength=num_classes).clamp_min(1)
            part.class_weights = counts.sum() / (num_classes * counts)
        elif part.class_weights is not None and len(part.class_weights) != num_classes:
            raise ConfigError(
                f"loss.class_weights has {len(part.class_weights)} values for {num_classes} classes; "
                f"give one per class, or {BALANCED}"
            )


class BinaryCrossEntropy(nn.Module):
    """A yes or no for each class, timm's; as in "ResNet strikes back" and DeiT III.

    Args:
        smoothing: Share of the target spread over all classes.
        threshold: Targets above it count as 1, the others as 0; None keeps mixed shares.
        sum_classes: Sum over the classes instead of their mean.

    Source: Wightman et al. 2021, arXiv:2110.00476.
    """

    def __init__(
        self,
        *,
        smoothing: float = 0.0,
        threshold: float | None = None,
        sum_classes: bool = False,
    ) -> None:
        super().__init__()
        self.loss = TimmBinaryCrossEntropy(
            smoothing=smoothing, target_threshold=threshold, sum_classes=sum_classes
        )

    def forward(self, logits: Tensor, targets: Tensor, images: Tensor) -> Tensor:
        """Return the mean over the batch."""
        return self.loss(logits, targets)


class Distillation(nn.Module):
    """Part of the loss against the labels, part against a teacher's probabilities.

    Args:
        loss: The loss against the labels.
        teacher: Maps images (N, C, H, W), normalised as the student's, to logits of the same classes.
        weight: Share of the teacher's part.
        temperature: Logits of both are divided by it; the teacher's part is multiplied by its square.

    Source: Hinton et al. 2015, arXiv:1503.02531.
    """

    def __init__(
        self, *, loss: nn.Module, teacher: nn.Module, weight: float = 0.5, temperature: float = 1.0
    ) -> None:
        super().__init__()
        if not 0 <= weight <= 1:
            raise ValueError(f"weight={weight} must lie between 0 and 1")
        if temperature <= 0:
            raise ValueError(f"temperature={temperature} must be above 0")
        self.loss, self.weight, self.temperature = loss, weight, temperature
        self._teacher = [teacher.eval().requires_grad_(False)]  # hidden: not saved with the student

    def forward(self, logits: Tensor, targets: Tensor, images: Tensor) -> Tensor:
        """Return the mean over the batch."""
        teacher = self._teacher[0].to(images.device)
        with torch.no_grad():
            wanted = teacher(images)
        if wanted.shape != logits.shape:
            raise ValueError(
                f"the teacher gives {wanted.shape[1]} classes, the network {logits.shape[1]}"
            )
        imitation = divergence(logits, wanted, self.temperature)
        return (1 - self.weight) * self.loss(logits, targets, images) + self.weight * imitation


def divergence(logits: Tensor, wanted: Tensor, temperature: float = 1.0) -> Tensor:
    """Return the Kullback-Leibler divergence of softened probabilities, mean over the batch.

    Args:
        logits: Of the student, (N, num_classes).
        wanted: Of the teacher, likewise.
        temperature: Both are divided by it; the result is multiplied by its square.
    """
    student, teacher = (F.log_softmax(x.float() / temperature, dim=1) for x in (logits, wanted))
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True) * temperature**2
