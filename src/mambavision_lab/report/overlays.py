"""Lay a map over the image that it explains, as pixels."""

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_rgb

OPACITY = 0.55  # of the map where it is largest
_COLORS = colormaps["inferno"]  # ordered by lightness: readers with any colour vision read it

# Okabe and Ito's, from the darkest on images; beyond six classes matplotlib's twenty.
_MASK_COLORS = ("#e69f00", "#56b4e9", "#009e73", "#d55e00", "#cc79a7", "#0072b2")
_MASK_OPACITY = 0.6


def mask_colors(num_classes: int) -> np.ndarray:
    """Return a colour of each class, (num_classes, 3) uint8; class 0 is black, which no overlay shows."""
    more = [tuple(color[:3]) for color in colormaps["tab20"](range(20))]
    known = [*map(to_rgb, _MASK_COLORS), *more]
    chosen = [(0.0, 0.0, 0.0), *(known[k % len(known)] for k in range(num_classes - 1))]
    return (255 * np.array(chosen)).round().astype(np.uint8)


def mask_overlay(pixels: np.ndarray, mask: np.ndarray, num_classes: int) -> np.ndarray:
    """Colour the pixels of an image by their class, class 0 not at all.

    Args:
        pixels: (H, W, C) uint8, C = 1 or 3.
        mask: Class of each pixel, (H, W).
        num_classes: Number of classes.

    Returns:
        (H, W, 3) uint8.
    """
    grey = pixels.astype(np.float64).mean(axis=2, keepdims=True).repeat(3, axis=2)
    mixed = grey * (1 - _MASK_OPACITY) + mask_colors(num_classes)[mask] * _MASK_OPACITY
    return np.where(mask[..., None] > 0, mixed, grey).round().clip(0, 255).astype(np.uint8)


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
    """Repeat the pixels of a small image (H, W, C) until its shorter side has at least so many."""
    times = max(1, -(-least // min(pixels.shape[:2])))
    return pixels.repeat(times, axis=0).repeat(times, axis=1)
