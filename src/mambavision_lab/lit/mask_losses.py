"""The loss of a segmentation in training: from logits, masks and the images themselves to one number.

Logits are (N, num_classes, H, W), masks the class of each pixel, (N, H, W), int64; volumes likewise.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class DiceCrossEntropy(nn.Module):
    """Cross-entropy plus soft Dice, summed over the batch for each class; both in float32.

        dice[k] = 1 - (2 sum p[k] y[k] + smooth) / (sum p[k] + sum y[k] + smooth)

    A class that the batch does not have adds to Dice only as far as it is predicted.

    Args:
        dice_weight: What the mean of dice over the classes counts.
        ce_weight: What cross-entropy counts.
        include_background: Whether Dice counts class 0 as it counts the others.
        smooth: Pixels added to both sums, so that a class without any has a gradient and no 0 / 0.

    Raises:
        ValueError: A weight is negative, or smooth is not above 0.

    Source: Milletari et al. 2016, arXiv:1606.04797; the sum of both as in Isensee et al. 2018,
    arXiv:1809.10486.
    """

    def __init__(
        self,
        *,
        dice_weight: float = 1.0,
        ce_weight: float = 1.0,
        include_background: bool = False,
        smooth: float = 1.0,
    ) -> None:
        super().__init__()
        if min(dice_weight, ce_weight) < 0 or dice_weight + ce_weight == 0:
            raise ValueError(
                f"dice_weight={dice_weight} ce_weight={ce_weight}: wanted 0 or more, not both 0"
            )
        if smooth <= 0:
            raise ValueError(f"smooth={smooth} must be above 0")
        self.dice_weight, self.ce_weight = dice_weight, ce_weight
        self.include_background, self.smooth = include_background, smooth

    def forward(self, logits: Tensor, targets: Tensor, images: Tensor) -> Tensor:
        """Return the loss of the batch."""
        with torch.autocast(logits.device.type, enabled=False):
            logits = logits.float()
            loss = self.ce_weight * F.cross_entropy(logits, targets)
            return loss + self.dice_weight * self._dice(logits, targets)

    def _dice(self, logits: Tensor, targets: Tensor) -> Tensor:
        shares = logits.softmax(dim=1)
        wanted = F.one_hot(targets, logits.shape[1]).movedim(-1, 1)
        axes = [0, *range(2, logits.ndim)]
        overlap = (shares * wanted).sum(axes)
        total = shares.sum(axes) + wanted.sum(axes)
        dice = 1 - (2 * overlap + self.smooth) / (total + self.smooth)
        return dice.mean() if self.include_background else dice[1:].mean()
