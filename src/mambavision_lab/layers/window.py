"""Cut a feature map into windows of tokens, and put the windows back."""

import torch.nn.functional as F
from torch import Tensor


def cut_windows(x: Tensor, window: tuple[int, int]) -> Tensor:
    """Cut a map (N, C, H, W) into sequences (N * windows, rows * columns, C).

    The map is padded with zeros at the bottom and the right to whole windows. Windows follow each
    other row by row, and so do the tokens in a window.
    """
    rows, columns = window
    below, right = -x.shape[2] % rows, -x.shape[3] % columns
    if below or right:
        x = F.pad(x, (0, right, 0, below))
    n, c, height, width = x.shape
    x = x.reshape(n, c, height // rows, rows, width // columns, columns)
    return x.permute(0, 2, 4, 3, 5, 1).reshape(-1, rows * columns, c)


def join_windows(tokens: Tensor, window: tuple[int, int], height: int, width: int) -> Tensor:
    """Put the windows of a map of height x width back in place, (N, C, height, width), unpadded."""
    rows, columns = window
    down, across = -(-height // rows), -(-width // columns)
    x = tokens.reshape(-1, down, across, rows, columns, tokens.shape[-1])
    x = x.permute(0, 5, 1, 3, 2, 4).reshape(-1, tokens.shape[-1], down * rows, across * columns)
    return x[:, :, :height, :width]
