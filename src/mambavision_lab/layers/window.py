"""Cut a feature map into windows of tokens, and join the windows again, along any number of axes."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mambavision_lab.layers.scan_order import ScanOrder, order_tokens, restore_tokens


def cut_windows(x: Tensor, window: Sequence[int], order: ScanOrder = "plain") -> Tensor:
    """Cut a map (N, C, H, W) or (N, C, D, H, W) into sequences (N * windows, tokens of a window, C).

    The map is padded with zeros at the end of each axis to whole windows. Windows follow each other row by
    row (in a volume slice by slice), and the tokens in a window in the order that is given.
    """
    n, c, *sides = x.shape
    counts = _counts(sides, window)
    missing = [k * w - side for k, w, side in zip(counts, window, sides, strict=True)]
    # A graph that is to take any size pads always, if only by nothing.
    if torch.jit.is_tracing() or torch.compiler.is_exporting() or any(missing):
        x = F.pad(x, [pad for end in reversed(missing) for pad in (0, end)])
    x = x.reshape(n, c, *_interleave(counts, window))
    outer, inner = range(2, x.ndim, 2), range(3, x.ndim, 2)
    tokens = x.permute(0, *outer, *inner, 1).reshape(-1, math.prod(window), c)
    return order_tokens(tokens, order, window)


def join_windows(
    tokens: Tensor, window: Sequence[int], sides: Sequence[int], order: ScanOrder = "plain"
) -> Tensor:
    """Join the windows of a map with these sides into (N, C, *sides), without the padding."""
    counts, c = _counts(sides, window), tokens.shape[-1]
    x = restore_tokens(tokens, order, window).reshape(-1, *counts, *window, c)
    outer, inner = range(1, 1 + len(sides)), range(1 + len(sides), 1 + 2 * len(sides))
    x = x.permute(0, x.ndim - 1, *_interleave(outer, inner))
    x = x.reshape(-1, c, *(k * w for k, w in zip(counts, window, strict=True)))
    whole = (slice(None), slice(None), *(slice(side) for side in sides))
    return x[whole]


def cut_sequences(
    tokens: Tensor, grid: Sequence[int], window_slices: int | None, order: ScanOrder
) -> Tensor:
    """Cut tokens (N, length, C), row by row on a grid, into sequences of some slices; None is all of them."""
    if window_slices is None:
        return order_tokens(tokens, order, grid)
    window = sequence_window(grid, window_slices)
    return cut_windows(tokens.transpose(1, 2).unflatten(2, grid), window, order)


def join_sequences(
    x: Tensor, grid: Sequence[int], window_slices: int | None, order: ScanOrder
) -> Tensor:
    """Join what `cut_sequences` cut into tokens (N, length, C), row by row."""
    if window_slices is None:
        return restore_tokens(x, order, grid)
    window = sequence_window(grid, window_slices)
    return join_windows(x, window, grid, order).flatten(2).transpose(1, 2)


def sequence_window(grid: Sequence[int], window_slices: int | None) -> tuple[int, ...]:
    """Return the sides of the tokens in a sequence: some slices of the grid; None is all of them."""
    slices = grid[0] if window_slices is None else fit_slices(window_slices, grid[0])
    return (slices, *grid[1:])


def fit_slices(window_slices: int, num_slices: int) -> int:
    """Return the slices of a window: as equal as can be, so that little is padded."""
    return _whole(num_slices, _whole(num_slices, window_slices))


def _counts(sides: Sequence[int], window: Sequence[int]) -> list[int]:
    return [_whole(side, w) for side, w in zip(sides, window, strict=True)]


def _whole(side: int, window: int) -> int:
    """Count the windows that cover a side, by an expression that the exporter's solver handles quickly."""
    return (side + window - 1) // window


def _interleave(first: Sequence[int], second: Sequence[int]) -> list[int]:
    return [x for pair in zip(first, second, strict=True) for x in pair]
