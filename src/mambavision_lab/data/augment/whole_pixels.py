"""Mirror each image or volume of a batch, or move it by whole pixels, which interpolates nothing."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def mirror(images: Tensor, is_chosen: Tensor, axis: int) -> None:
    """Mirror the chosen images (N, ...), a bool each, along an axis, in place."""
    chosen = is_chosen.nonzero().flatten().to(images.device, non_blocking=True)
    images.index_copy_(0, chosen, images.index_select(0, chosen).flip(axis))


def shift(images: Tensor, steps: Sequence[Tensor], most: Sequence[int], padding: str) -> Tensor:
    """Return images (N, C, H, W), or volumes, of which each shows a window of its size in a larger one.

    Args:
        images: The batch.
        steps: By how many pixels the window moves along each axis, (N,) each, int64, on the CPU.
        most: Their largest size along each axis.
        padding: What surrounds the image: "zeros", or the image mirrored at its border ("reflect").
    """
    sides = images.shape[2:]
    if padding == "zeros":
        windows = F.pad(images, [num for num in reversed(most) for _ in range(2)])
    else:
        windows = images
        for axis, (side, num) in enumerate(zip(sides, most, strict=True), start=2):
            places = _mirrored(torch.arange(-num, side + num), side).to(images.device)
            windows = windows.index_select(axis, places)
    for axis, side in enumerate(sides, start=2):
        windows = windows.unfold(axis, side, 1)
    starts = [
        (step + num).to(images.device, non_blocking=True)
        for step, num in zip(steps, most, strict=True)
    ]
    which = torch.arange(len(images), device=images.device)
    window: tuple[Any, ...] = (which, slice(None), *starts)
    return windows[window]


def _mirrored(axis: Tensor, size: int) -> Tensor:
    """Mirror positions that lie outside of an image at its border, as often as it takes."""
    last = size - 1
    there_and_back = axis % max(1, 2 * last)
    return torch.minimum(there_and_back, 2 * last - there_and_back)
