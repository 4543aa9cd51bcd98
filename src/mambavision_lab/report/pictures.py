"""The test images that a run stored, with what was true of each and what was predicted."""

from dataclasses import dataclass

import numpy as np

from mambavision_lab.report.overlays import mask_overlay, overlay
from mambavision_lab.report.run_record import RunRecord


@dataclass(frozen=True)
class Picture:
    """A test image.

    Attributes:
        pixels: (H, W, C) uint8, C = 1 or 3.
        true: Its class, or its classes; None of masks, which `pixels` show.
        predicted: As above; of masks what `confidence` is.
        is_right: Whether they are the same; None of masks, which are right to a degree.
        confidence: Probability of the predicted class, or of each; of masks their mean Dice.
        overlay: What the network looked at, (H, W, 3) uint8, or None where that was not stored; of a
            segmentation the predicted mask.
    """

    pixels: np.ndarray
    true: str | None
    predicted: str
    is_right: bool | None
    confidence: str
    overlay: np.ndarray | None = None

    @property
    def alts(self) -> tuple[str, str]:
        """What the image and its overlay show, in words."""
        if self.true is None:
            return "the true mask", "the predicted mask"
        return f"true class {self.true}", "what the network looked at"

    @property
    def caption(self) -> str:
        """What was predicted, and what is true."""
        truth = "" if self.true is None else f", true: {self.true}"
        return f"{self.predicted} {self.confidence}{truth}"

    @property
    def is_strip(self) -> bool:
        """Whether it shows slices of a volume or clip, side by side."""
        return is_strip(self.pixels)


def is_strip(pixels: np.ndarray) -> bool:
    """Return whether an image (H, W, C) is wide: slices of a volume or clip, side by side."""
    return pixels.shape[1] > pixels.shape[0]


def stored_pictures(record: RunRecord, group: str, names: list[str]) -> list[Picture]:
    """List the pictures of a group, "mistakes" or "random"; empty where none were stored."""
    stored = record.predictions
    if f"{group}_images" not in stored:
        return []
    if f"{group}_masks" in stored:
        columns = (stored[f"{group}_{c}"] for c in ("images", "masks", "dice"))
        return [_of_masks(len(names), *row) for row in zip(*columns, strict=True)]
    maps = stored.get(f"{group}_maps", [None] * len(stored[f"{group}_images"]))
    if f"{group}_targets" in stored:
        columns = (stored[f"{group}_{c}"] for c in ("images", "targets", "probabilities"))
        return [_of_several(names, *row) for row in zip(*columns, maps, strict=True)]
    columns = (stored[f"{group}_{c}"] for c in ("images", "labels", "predicted", "confidence"))
    return [
        Picture(
            image,
            names[label],
            names[predicted],
            label == predicted,
            _percent(confidence),
            _overlay(image, values),
        )
        for image, label, predicted, confidence, values in zip(*columns, maps, strict=True)
    ]


def _of_masks(num_classes: int, image: np.ndarray, masks: np.ndarray, dice: float) -> Picture:
    true, predicted = (mask_overlay(image, mask, num_classes) for mask in masks)
    return Picture(true, None, "Dice", None, _percent(dice), predicted)


def _of_several(
    names: list[str],
    image: np.ndarray,
    targets: np.ndarray,
    probabilities: np.ndarray,
    values: np.ndarray | None,
) -> Picture:
    is_true, is_predicted = targets > 0, probabilities >= 0.5
    true, predicted = (
        ", ".join(name for name, has in zip(names, chosen, strict=True) if has) or "none"
        for chosen in (is_true, is_predicted)
    )
    confidence = ", ".join(map(_percent, probabilities[is_predicted]))
    is_right = bool((is_true == is_predicted).all())
    return Picture(image, true, predicted, is_right, confidence, _overlay(image, values))


def _overlay(image: np.ndarray, values: np.ndarray | None) -> np.ndarray | None:
    return None if values is None else overlay(image, values)


def _percent(confidence: float) -> str:
    return "-" if np.isnan(confidence) else f"{100 * confidence:.1f} %"
