"""Normalise the pixels of images and volumes."""

from collections.abc import Sequence

from torch import Tensor
from torchvision.transforms.v2 import functional as TF


def per_channel(values: Sequence[float], in_chans: int) -> list[float]:
    """Return a mean or standard deviation of each channel, given that of each or of all."""
    return list(values) * (in_chans if len(values) == 1 else 1)


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
