"""What `RecordPredictions` stores of a segmentation: pixels by true and predicted class, and some masks."""

import numpy as np
import torch
from torch import Tensor

from mambavision_lab.lit.mask_metrics import overlap


def mask_rows(logits: Tensor, masks: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return pixels by (true, predicted class) of each image, (num_classes^2, N), and how wrong it is.

    That is 1 - Dice, the mean over the classes that the image has or is predicted to have, without class 0.
    """
    num_classes = logits.shape[1]
    pairs = (masks * num_classes + logits.argmax(dim=1)).flatten(1)
    counts = torch.stack([x.bincount(minlength=num_classes**2) for x in pairs]).cpu()
    dice = [overlap(x.view(num_classes, num_classes))["dice"][1:].nanmean() for x in counts]
    error = 1 - torch.stack(dice).nan_to_num(1.0)  # right: there is nothing, and nothing was found
    return counts.numpy().T, error.numpy()


def dice_of(row: list[float]) -> float:
    """Return the mean Dice of an image from its row of `mask_rows`."""
    side = round(len(row) ** 0.5)
    dice = overlap(torch.tensor(row).view(side, side))["dice"][1:].nanmean()
    return float(dice.nan_to_num(1.0))


def mask_columns(rows: np.ndarray, prefix: str) -> dict[str, np.ndarray]:
    """Name the arrays of the file: the sum over the images, or the Dice of each picture of a group."""
    if prefix:
        return {f"{prefix}dice": np.array([dice_of(row) for row in rows.T.tolist()])}
    side = round(len(rows) ** 0.5)
    return {"pixels": rows.sum(axis=1).reshape(side, side)}
