"""Losses of a classifier in training: from logits, targets and the images themselves to one number.

Targets are labels (N,), int64; or 0 or 1 for each class, (N, num_classes), int64, where an image has several;
or the share of each class, (N, num_classes), as mixing gives them. Validation and test use the plain loss of
`per_image` whatever was trained.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mambavision_lab.errors import ConfigError

BALANCED = "balanced"


class _ClassWeights(nn.Module):
    """Base of losses that may weigh the classes.

    Args:
        weights: One of each class; or "balanced", to be set by `balance_classes`; or None.

    Attributes:
        setting: What the weights are called in the config.
    """

    setting: ClassVar[str]
    weights: Tensor | None

    def __init__(self, weights: Sequence[float] | str | None) -> None:
        super().__init__()
        if isinstance(weights, str) and weights != BALANCED:
            raise ValueError(f"{self.setting}={weights} is unknown; give {BALANCED} or numbers")
        self.is_balanced = weights == BALANCED
        is_given = weights is not None and not self.is_balanced
        given = torch.tensor(weights, dtype=torch.float) if is_given else None
        if given is not None and (not (given >= 0).all() or not 0 < given.sum() < math.inf):
            raise ConfigError(f"loss.{self.setting}={weights}: wanted numbers from 0, not all 0")
        self.register_buffer("weights", given, persistent=False)

    def balanced(self, counts: Tensor, num_images: int) -> Tensor:
        """Return the weights that let each class count alike, from its number of images."""
        raise NotImplementedError


class CrossEntropy(_ClassWeights):
    """Softmax cross-entropy.

    Args:
        smoothing: Share of the target spread over all classes.
        class_weights: Weight of each class; or "balanced" for one inverse to its number of images, 1 on
            average over the images; or None.
    """

    setting: ClassVar[str] = "class_weights"

    def __init__(
        self, *, smoothing: float = 0.0, class_weights: Sequence[float] | str | None = None
    ) -> None:
        super().__init__(class_weights)
        self.smoothing = _checked_smoothing(smoothing)

    def balanced(self, counts: Tensor, num_images: int) -> Tensor:
        """Return weights inverse to the counts, 1 on average over the images."""
        return num_images / (len(counts) * counts)

    def forward(self, logits: Tensor, targets: Tensor, images: Tensor) -> Tensor:
        """Return the mean over the batch."""
        return F.cross_entropy(logits, targets, weight=self.weights, label_smoothing=self.smoothing)


class BinaryCrossEntropy(_ClassWeights):
    """A yes or no for each class; as in "ResNet strikes back" and DeiT III, and for several labels.

    Args:
        smoothing: Share of the target spread over all classes.
        threshold: Targets above it count as 1, the others as 0; None keeps mixed shares.
        sum_classes: Sum over the classes instead of their mean.
        pos_weight: What a yes counts against a no, for each class; or "balanced" for images without the
            class per image with it; or None for 1.

    Source: Wightman et al. 2021, arXiv:2110.00476; timm/loss/binary_cross_entropy.py.
    """

    setting: ClassVar[str] = "pos_weight"

    def __init__(
        self,
        *,
        smoothing: float = 0.0,
        threshold: float | None = None,
        sum_classes: bool = False,
        pos_weight: Sequence[float] | str | None = None,
    ) -> None:
        super().__init__(pos_weight)
        self.smoothing = _checked_smoothing(smoothing)
        if threshold is not None and not 0 <= threshold < 1:
            raise ConfigError(
                f"loss.threshold={threshold}: wanted a share from 0 up to, without, 1"
            )
        self.threshold, self.sum_classes = threshold, sum_classes

    def balanced(self, counts: Tensor, num_images: int) -> Tensor:
        """Return the images without each class per image with it."""
        return (num_images - counts) / counts

    def forward(self, logits: Tensor, targets: Tensor, images: Tensor) -> Tensor:
        """Return the mean over the batch."""
        if targets.ndim == 1:
            targets = F.one_hot(targets, logits.shape[1])
        targets = targets.to(logits.dtype) * (1 - self.smoothing) + self.smoothing / logits.shape[1]
        if self.threshold is not None:
            targets = (targets > self.threshold).to(logits.dtype)
        losses = F.binary_cross_entropy_with_logits(
            logits, targets, pos_weight=self.weights, reduction="none"
        )
        return losses.sum(1).mean() if self.sum_classes else losses.mean()


def balance_classes(loss: nn.Module, labels: Callable[[], Tensor], num_classes: int) -> None:
    """Set the weights of losses that ask for balanced classes.

    Args:
        loss: A loss, with those that it is made of.
        labels: Gives the class of each training image, (N,), or 0 or 1 for each class, (N, num_classes).
        num_classes: Number of classes.

    Raises:
        ConfigError: Another number of weights was given than there are classes.
    """
    for part in loss.modules():
        if not isinstance(part, _ClassWeights):
            continue
        if part.is_balanced:
            found = labels()
            counts = found.sum(0) if found.ndim == 2 else found.bincount(minlength=num_classes)
            part.weights = part.balanced(counts.clamp_min(1).float(), len(found))
        elif part.weights is not None and len(part.weights) != num_classes:
            raise ConfigError(
                f"loss.{part.setting} has {len(part.weights)} values for {num_classes} classes; "
                f"give one per class, or {BALANCED}"
            )


def check_teachers(loss: nn.Module, class_names: list[str]) -> None:
    """Refuse a teacher that numbers other classes, or the same in another order.

    Raises:
        ConfigError: One does.
    """
    for part in loss.modules():
        known = part.class_names if isinstance(part, Distillation) else None
        for number, (theirs, own) in enumerate(zip(known or [], class_names, strict=False)):
            if theirs != own:
                raise ConfigError(
                    f"loss.teacher: its class {number} is {theirs!r}, that of the data is {own!r}; give a "
                    "teacher of the same classes in the same order"
                )


def per_image(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the plain loss of each image, (N,), by which validation and test compare all trainings.

    Args:
        logits: (N, num_classes).
        targets: Classes, (N,), for cross-entropy; or 0 or 1 for each, (N, num_classes), for the mean
            binary cross-entropy.
    """
    if targets.ndim == 1:
        return F.cross_entropy(logits, targets, reduction="none")
    wanted = targets.to(logits.dtype)
    return F.binary_cross_entropy_with_logits(logits, wanted, reduction="none").mean(1)


class _Apart:
    """Holds a module that is not saved with what refers to it, and not copied with it, as EMA does."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __deepcopy__(self, memo: Any) -> "_Apart":
        return self


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
        self.class_names: list[str] | None = getattr(teacher, "class_names", None)
        self._teacher = _Apart(teacher.eval().requires_grad_(False))

    def forward(self, logits: Tensor, targets: Tensor, images: Tensor) -> Tensor:
        """Return the mean over the batch."""
        teacher = self._teacher.module.to(images.device)
        with torch.no_grad():
            wanted = teacher(images)
        if wanted.shape != logits.shape:
            raise ValueError(
                f"the teacher gives {wanted.shape[1]} classes, the network {logits.shape[1]}"
            )
        imitation = divergence(logits, wanted, self.temperature)
        return (1 - self.weight) * self.loss(logits, targets, images) + self.weight * imitation


def divergence(logits: Tensor, wanted: Tensor, temperature: float = 1.0) -> Tensor:
    """Return the Kullback-Leibler divergence of softened probabilities, mean over images or pixels.

    Args:
        logits: Of the student, (N, num_classes), or of each pixel, (N, num_classes, H, W).
        wanted: Of the teacher, likewise.
        temperature: Both are divided by it; the result is multiplied by its square.
    """
    pixels = (x.movedim(1, -1).flatten(0, -2) for x in (logits, wanted))
    student, teacher = (F.log_softmax(x.float() / temperature, dim=1) for x in pixels)
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True) * temperature**2


def _checked_smoothing(smoothing: float) -> float:
    if not 0 <= smoothing < 1:
        raise ValueError(f"smoothing={smoothing} must be at least 0 and below 1")
    return smoothing
