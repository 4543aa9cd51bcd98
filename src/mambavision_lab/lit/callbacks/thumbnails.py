"""Small pictures of what a network took and gave, as a report shows them."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mambavision_lab.data.volumes import side_by_side

THUMBNAIL_SIZE = 112  # pixels, longer side


def thumbnail(image: Tensor, data: Any) -> np.ndarray:
    """Shrink a normalised image (C, H, W) to a uint8 thumbnail (H, W, C) with C = 1 or 3.

    Of a volume or clip (C, D, H, W) some slices lie beside each other, first to last.

    Args:
        image: Input of the network.
        data: Data module with `mean` and `std`; without them the image is scaled to its own range.
    """
    pixels = side_by_side(image.detach().float().cpu())
    mean, std = getattr(data, "mean", None), getattr(data, "std", None)
    if mean is None or std is None:
        low, high = pixels.min(), pixels.max()
        pixels = (pixels - low) / (high - low).clamp_min(1e-6)
    else:
        pixels = pixels * torch.tensor(std).view(-1, 1, 1) + torch.tensor(mean).view(-1, 1, 1)
    if pixels.shape[0] not in (1, 3):
        pixels = pixels[:1]
    scale = THUMBNAIL_SIZE / max(image.shape[-2:])
    if scale < 1:
        pixels = F.interpolate(pixels[None], scale_factor=scale, mode="bilinear", antialias=True)[0]
    return (pixels.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()


def mask_thumbnail(masks: Tensor) -> np.ndarray:
    """Shrink masks (2, H, W) as `thumbnail` does an image, without new values; uint8."""
    pixels = side_by_side(masks.cpu()).to(torch.uint8)
    scale = THUMBNAIL_SIZE / max(masks.shape[-2:])
    if scale < 1:
        pixels = F.interpolate(pixels[None], scale_factor=scale, mode="nearest-exact")[0]
    return pixels.numpy()
