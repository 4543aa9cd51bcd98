"""Cut a feature map into windows of tokens, and join the windows again."""

import torch
import torch.nn.functional as F
from torch import Tensor


def cut_windows(x: Tensor, window: tuple[int, int]) -> Tensor:
    """Cut a map (N, C, H, W) into sequences (N * windows, rows * columns, C).

    The map is padded with zeros at the bottom and the right to whole windows. Windows follow each
    other row by row, and so do the tokens in a window.
    """
    (n, c, height, width), (rows, columns) = x.shape, window
    down, across = _whole(height, rows), _whole(width, columns)
    below, right = down * rows - height, across * columns - width
    # A graph that is to take any size pads always, if only by nothing.
    if torch.jit.is_tracing() or torch.compiler.is_exporting() or below or right:
        x = F.pad(x, (0, right, 0, below))
    x = x.reshape(n, c, down, rows, across, columns)
    return x.permute(0, 2, 4, 3, 5, 1).reshape(-1, rows * columns, c)


def join_windows(tokens: Tensor, window: tuple[int, int], height: int, width: int) -> Tensor:
    """Join the windows of a map of height x width into (N, C, height, width), without the padding."""
    rows, columns = window
    down, across = _whole(height, rows), _whole(width, columns)
    x = tokens.reshape(-1, down, across, rows, columns, tokens.shape[-1])
    x = x.permute(0, 5, 1, 3, 2, 4).reshape(-1, tokens.shape[-1], down * rows, across * columns)
    return x[:, :, :height, :width]


def _whole(side: int, window: int) -> int:
    """Count the windows that cover a side, by an expression that the exporter's solver handles quickly."""
    return (side + window - 1) // window
