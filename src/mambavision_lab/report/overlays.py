"""Lay a map over the image that it explains, as pixels."""

import numpy as np
from matplotlib import colormaps

OPACITY = 0.55  # of the map where it is largest
_COLORS = colormaps["inferno"]  # ordered by lightness: readers with any colour vision read it


def overlay(pixels: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Colour an image by a map: the more a place mattered, the more of the colour is seen.

    Args:
        pixels: (H, W, C) uint8, C = 1 or 3.
        values: (H, W), >= 0; scaled to its largest value. Values that are not finite count as 0.

    Returns:
        (H, W, 3) uint8.
    """
    values = np.nan_to_num(values.astype(np.float64), posinf=0.0).clip(0)
    share = values / max(float(values.max()), 1e-30)
    grey = pixels.astype(np.float64).mean(axis=2, keepdims=True).repeat(3, axis=2)
    color = _COLORS(share)[..., :3] * 255
    mixed = grey * (1 - OPACITY) + color * OPACITY
    return mixed.round().clip(0, 255).astype(np.uint8)


def enlarge(pixels: np.ndarray, least: int = 112) -> np.ndarray:
    """Repeat the pixels of a small image (H, W, C) until its longer side has at least so many."""
    times = max(1, -(-least // max(pixels.shape[:2])))
    return pixels.repeat(times, axis=0).repeat(times, axis=1)
