"""Normalise the pixels of images and volumes."""

from collections.abc import Sequence

from torch import Tensor
from torchvision.transforms.v2 import functional as TF


def normalize(
    images: Tensor, mean: Sequence[float], std: Sequence[float], *, inplace: bool = False
) -> Tensor:
    """Subtract the mean of each channel and divide by its standard deviation.

    Args:
        images: (N, C, H, W), or volumes (N, C, D, H, W), floats in [0, 1].
        mean: Of each channel, or of all.
        std: As above.
        inplace: Whether the images themselves are changed.
    """
    planes = images.movedim(1, -3)
    return TF.normalize(planes, list(mean), list(std), inplace).movedim(-3, 1)
