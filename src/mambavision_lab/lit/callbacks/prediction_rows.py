"""What `RecordPredictions` stores of each image's prediction: of one label, of several, and of masks."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mambavision_lab.lit.callbacks.thumbnails import mask_thumbnail
from mambavision_lab.lit.mask_metrics import overlap


class PredictionRows(ABC):
    """A kind of prediction.

    Attributes:
        shown: What a picture has beside its image: maps of what the network looked at, or masks.
    """

    shown: ClassVar[str] = "maps"

    @abstractmethod
    def of_batch(self, logits: Tensor, labels: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Return the values of each image, (values, N), and how wrong each is, -inf where it is right."""

    @abstractmethod
    def columns(self, rows: np.ndarray, prefix: str) -> dict[str, np.ndarray]:
        """Name the arrays of the file; prefix is that of a group of pictures, or empty."""

    @abstractmethod
    def predicted(self, row: list[float]) -> int:
        """Return the class that a map explains."""

    def stored(self, rows: np.ndarray) -> np.ndarray:
        """Return what is kept of a batch's rows."""
        return rows

    def beside(self, image: Tensor, label: Tensor, logits: Tensor) -> Any:
        """Return what is kept beside a picture: the masks, or the image itself, whose map is made later."""
        return image.clone()


class OneLabel(PredictionRows):
    """Label, predicted class and its probability; what is wrong is so by its confidence."""

    def of_batch(self, logits: Tensor, labels: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows and errors of a batch."""
        confidence, predicted = F.softmax(logits, dim=1).max(dim=1)
        values = torch.stack([labels.double(), predicted.double(), confidence.double()])
        rows = values.cpu().numpy()
        return rows, np.where(rows[0] != rows[1], rows[2], -np.inf)

    def columns(self, rows: np.ndarray, prefix: str) -> dict[str, np.ndarray]:
        """Name the arrays of the file."""
        return {
            f"{prefix}labels": rows[0].astype(np.int32),
            f"{prefix}predicted": rows[1].astype(np.int32),
            f"{prefix}confidence": rows[2].astype(np.float32),
        }

    def predicted(self, row: list[float]) -> int:
        """Return the class that a map explains."""
        return int(row[1])


class SeveralLabels(PredictionRows):
    """Labels and probabilities of all classes; the error of an image is that of its worst class."""

    def of_batch(self, logits: Tensor, labels: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows and errors of a batch."""
        rows = torch.cat([labels.double().T, logits.sigmoid().double().T]).cpu().numpy()
        error = np.abs(np.subtract(*np.split(rows, 2))).max(axis=0)
        return rows, np.where(error > 0.5, error, -np.inf)

    def columns(self, rows: np.ndarray, prefix: str) -> dict[str, np.ndarray]:
        """Name the arrays of the file."""
        targets, probabilities = np.split(rows.T, 2, axis=1)
        return {
            f"{prefix}targets": targets.astype(np.uint8),
            f"{prefix}probabilities": probabilities.astype(np.float32),
        }

    def predicted(self, row: list[float]) -> int:
        """Return the class that a map explains."""
        return int(np.argmax(row[len(row) // 2 :]))


class Masks(PredictionRows):
    """Pixels by (true, predicted class) of each image, (num_classes^2, N), of which the file has the sum.

    The error is 1 - Dice, the mean over the classes that the image has or is predicted to have, without
    class 0.
    """

    shown: ClassVar[str] = "masks"

    def of_batch(self, logits: Tensor, labels: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows and errors of a batch."""
        num_classes = logits.shape[1]
        pairs = (labels * num_classes + logits.argmax(dim=1)).flatten(1)
        rows = torch.stack([x.bincount(minlength=num_classes**2) for x in pairs], dim=1).cpu()
        return rows.numpy(), 1 - _dice(rows.numpy())

    def columns(self, rows: np.ndarray, prefix: str) -> dict[str, np.ndarray]:
        """Name the arrays of the file."""
        if prefix:
            return {f"{prefix}dice": _dice(rows)}
        side = round(len(rows) ** 0.5)
        return {"pixels": rows.sum(axis=1).reshape(side, side)}

    def predicted(self, row: list[float]) -> int:
        """Refuse: there are no maps of masks."""
        raise NotImplementedError("no map explains a mask")

    def stored(self, rows: np.ndarray) -> np.ndarray:
        """Return the sum over the batch."""
        return rows.sum(axis=1, keepdims=True)

    def beside(self, image: Tensor, label: Tensor, logits: Tensor) -> Any:
        """Return the true and the predicted mask, small."""
        return mask_thumbnail(torch.stack([label, logits.argmax(dim=0)]))


def rows_of(module: Any) -> PredictionRows:
    """Choose the kind of a LightningModule's predictions."""
    if getattr(module, "has_masks", False):
        return Masks()
    return SeveralLabels() if getattr(module, "is_multilabel", False) else OneLabel()


def _dice(rows: np.ndarray) -> np.ndarray:
    """Return the mean Dice of each image from its row of pixels."""
    side = round(len(rows) ** 0.5)
    pixels = torch.from_numpy(rows.T.copy()).view(-1, side, side)
    dice = [overlap(image)["dice"][1:].nanmean() for image in pixels]
    return (
        torch.stack(dice).nan_to_num(1.0).numpy()
    )  # right: there is nothing, and nothing was found
