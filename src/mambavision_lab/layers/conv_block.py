"""The residual convolution block of the hierarchical family's first two stages."""

import torch
from torch import Tensor, nn

from mambavision_lab.layers.axes import BATCH_NORM, CONV
from mambavision_lab.layers.checks import check_counts, check_scales
from mambavision_lab.layers.drop_path import DropPath


class ConvBlock(nn.Module):
    """x + drop_path(gamma * norm2(conv2(gelu(norm1(conv1(x)))))), with convolutions of width 3.

    Args:
        dim: Channels in and out.
        drop_path: Probability that a sample skips the branch (stochastic depth), in training only.
        layer_scale: Initial value of a learned factor per channel, or None for none.
        dims: Spatial axes of the map.

    Source: Hatamizadeh and Kautz 2024, arXiv:2407.08083, equation 4.
    """

    def __init__(
        self,
        dim: int,
        *,
        drop_path: float = 0.0,
        layer_scale: float | None = None,
        dims: int = 2,
    ) -> None:
        super().__init__()
        check_counts(dim=dim)
        check_scales(layer_scale=layer_scale)
        self.dims = dims
        self.conv1 = CONV[dims](dim, dim, 3, padding=1)
        self.norm1 = BATCH_NORM[dims](dim, eps=1e-5)
        self.act = nn.GELU(approximate="tanh")
        self.conv2 = CONV[dims](dim, dim, 3, padding=1)
        self.norm2 = BATCH_NORM[dims](dim, eps=1e-5)
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()
        self.gamma = None
        if layer_scale is not None:
            self.gamma = nn.Parameter(torch.full((dim,), float(layer_scale)))

    def resize(self, hidden: int) -> None:
        """Make fresh layers for another number of channels between the convolutions."""
        check_counts(hidden=hidden)
        dim = self.conv2.out_channels
        self.conv1 = CONV[self.dims](dim, hidden, 3, padding=1)
        self.norm1 = BATCH_NORM[self.dims](hidden, eps=1e-5)
        self.conv2 = CONV[self.dims](hidden, dim, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Transform a map x, (N, dim, H, W) or (N, dim, D, H, W); the shape stays."""
        branch = self.norm2(self.conv2(self.act(self.norm1(self.conv1(x)))))
        if self.gamma is not None:
            branch = self.gamma.view(-1, *[1] * self.dims) * branch
        return x + self.drop_path(branch)
