"""The pre-norm residual block around a token mixer and an MLP."""

import torch
from torch import Tensor, nn

from mambavision_lab.layers.checks import check_counts, check_multiple, check_scales
from mambavision_lab.layers.drop_path import DropPath
from mambavision_lab.layers.mlp import Mlp


class Block(nn.Module):
    """x + drop_path(mixer(norm1(x))), then x + drop_path(mlp(norm2(x))).

    Args:
        dim: Channels in and out.
        mixer: Module from (batch, length, dim) to the same shape.
        mlp_ratio: Hidden width of the MLP as a multiple of dim.
        drop: Dropout rate in the MLP.
        drop_path: Probability that a sample skips a branch (stochastic depth), in training only.
        layer_scale: Initial value of a learned factor per channel on each branch, or None for none.
    """

    def __init__(
        self,
        dim: int,
        mixer: nn.Module,
        *,
        mlp_ratio: float = 4.0,
        drop: float = 0.0,
        drop_path: float = 0.0,
        layer_scale: float | None = None,
    ) -> None:
        super().__init__()
        check_counts(dim=dim)
        check_multiple(dim, mlp_ratio=mlp_ratio)
        check_scales(layer_scale=layer_scale)
        self.norm1 = nn.LayerNorm(dim)
        self.mixer = mixer
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio), drop=drop)
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()
        self.gamma_1 = self.gamma_2 = None
        if layer_scale is not None:
            self.gamma_1 = nn.Parameter(torch.full((dim,), float(layer_scale)))
            self.gamma_2 = nn.Parameter(torch.full((dim,), float(layer_scale)))

    def forward(self, x: Tensor) -> Tensor:
        """Transform x, (batch, length, dim); the shape stays."""
        return self.add_branches(x, self.mixer(self.norm1(x)))

    def add_branches(self, x: Tensor, branch: Tensor) -> Tensor:
        """Add to x what the mixer gave for it, and then the MLP's branch."""
        x = x + self.drop_path(branch if self.gamma_1 is None else self.gamma_1 * branch)
        branch = self.mlp(self.norm2(x))
        return x + self.drop_path(branch if self.gamma_2 is None else self.gamma_2 * branch)
