"""Multi-head self-attention over tokens.

Source: Dosovitskiy et al. 2020, arXiv:2010.11929.
"""

import torch
import torch.fx
import torch.nn.functional as F
from torch import Tensor, nn

from mambavision_lab.layers.checks import check_counts


class Attention(nn.Module):
    """Softmax self-attention through `scaled_dot_product_attention`.

    Args:
        dim: Channels in and out.
        num_heads: Heads; must divide dim.
        qkv_bias: Whether the joint query-key-value projection has a bias.
        attn_drop: Dropout rate of the attention weights, in training only.
        proj_drop: Dropout rate after the output projection.

    Raises:
        ValueError: num_heads does not divide dim, or one of them is no whole number above 0.
    """

    def __init__(
        self,
        dim: int,
        *,
        num_heads: int,
        qkv_bias: bool = True,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
    ) -> None:
        super().__init__()
        check_counts(dim=dim, num_heads=num_heads)
        if dim % num_heads:
            raise ValueError(
                f"num_heads={num_heads} does not divide the width {dim}; choose a divisor"
            )
        self.num_heads = num_heads
        self.head_dim = dim // num_heads
        self.attn_drop = attn_drop
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(proj_drop)

    def resize(self, num_heads: int) -> None:
        """Make fresh projections for another number of heads, each as wide as before."""
        check_counts(num_heads=num_heads)
        self.num_heads, width = num_heads, num_heads * self.head_dim
        self.qkv = nn.Linear(self.qkv.in_features, 3 * width, bias=self.qkv.bias is not None)
        self.proj = nn.Linear(width, self.proj.out_features)

    def forward(self, x: Tensor) -> Tensor:
        """Mix x, (batch, length, dim); the shape stays."""
        batch, length, _ = x.shape
        qkv = self.qkv(x).reshape(batch, length, 3, self.num_heads, self.head_dim)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        dropout = self.attn_drop if self.training else 0.0
        y = _attend(query, key, value, dropout)
        return self.proj_drop(self.proj(y.transpose(1, 2).flatten(2)))


@torch.fx.wrap
def _attend(query: Tensor, key: Tensor, value: Tensor, dropout: float) -> Tensor:
    if query.requires_grad and query.dtype == torch.bfloat16 and query.device.type == "cpu":
        # torch's backward pass of this on CPUs is slower in bfloat16, several times for short sequences.
        with torch.autocast("cpu", enabled=False):
            return F.scaled_dot_product_attention(
                query.float(), key.float(), value.float(), dropout_p=dropout
            ).bfloat16()
    return F.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
