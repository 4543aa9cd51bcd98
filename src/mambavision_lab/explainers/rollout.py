"""Attention rollout, extended to Mamba: follow the pooled output back through every block.

Relevance starts at the tokens that the head pools and passes each block from the last to the first:

    v  <-  (v + v M) / 2,    M the block's attention (the mean of its heads, rows that sum to 1),

where the half is the residual connection. For a mixer v M is what one scan in the other direction gives,
in absolute value, the mean over channels, scaled to the sum of v; so nothing quadratic is made for it.
MLPs and convolutions are passed over, as they mix no or near tokens.

Source: Abnar and Zuidema 2020, arXiv:2005.00928, whose product this is where all blocks are of attention.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mambavision_lab.explainers.base import Explanation, require_finite, resize, to_image
from mambavision_lab.explainers.calls import AttentionCall, Call, require_layout
from mambavision_lab.explainers.scan import pulled
from mambavision_lab.explainers.subject import Subject
from mambavision_lab.explainers.tokens import TokenLayout


def explain(subject: Subject) -> Explanation:
    """Map what the pooled output takes from each token of the first attention or Mamba block's input.

    Raises:
        ConfigError: The network has neither kind of block, or values are not finite.
    """
    calls = subject.blocks("rollout")
    layers = follow(subject.net, calls, subject.image)
    source = f"rollout from the pooled output to {calls[0].name}, through {len(calls)} blocks"
    return Explanation(layers[calls[0].name], source, layers)


def follow(net: nn.Module, calls: Sequence[Call], image: Tensor) -> dict[str, Tensor]:
    """Return how much of each token in front of each block reaches the pooled output, as maps of its size."""
    layout = require_layout(calls[-1])
    values = _start(net, layout)
    layers: dict[str, Tensor] = {}
    for call in reversed(calls):
        own = require_layout(call)
        if own != layout:
            values = own.from_grid(_spread(layout.to_grid(values), own.grid))
            layout = own
        values = (values + through(call, values)) / 2
        layers[call.name] = to_image(layout.to_grid(values), image)
    return dict(reversed(layers.items()))


def through(call: Call, values: Tensor) -> Tensor:
    """Pass relevance of the output tokens (sequences, length) to the input tokens; the sum stays."""
    if isinstance(call, AttentionCall):
        weights = require_finite(call.weights(), f"attention of {call.name}").mean(dim=1)
        return (values[:, None] @ weights)[:, 0]
    taken = pulled(call, values).mean(dim=-1)
    # A window that takes nothing keeps what it has.
    total = taken.sum(dim=1, keepdim=True)
    share = torch.where(total > 0, taken / total.clamp_min(1e-30), values)
    return torch.where(total > 0, share * values.sum(dim=1, keepdim=True), values)


def _start(net: nn.Module, layout: TokenLayout) -> Tensor:
    """Return the share of each token in what the head pools."""
    grid = torch.ones(layout.grid)
    values = layout.from_grid(grid / grid.sum())
    if layout.num_prefix and getattr(net, "global_pool", "") == "token":
        values = torch.zeros_like(values)
        values[:, 0] = 1
    return values


def _spread(grid: Tensor, size: tuple[int, ...]) -> Tensor:
    """Spread a map over another grid; its sum stays."""
    wide = resize(grid, size)
    return wide * (grid.sum() / wide.sum().clamp_min(1e-30))
