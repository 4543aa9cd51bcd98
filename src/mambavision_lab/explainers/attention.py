"""The weights of the attention blocks: exact, recomputed from the queries and keys of a forward pass."""

from collections.abc import Callable

import torch
from torch import Tensor

from mambavision_lab.explainers.base import Explanation, require_finite, to_image
from mambavision_lab.explainers.calls import AttentionCall, require_layout
from mambavision_lab.explainers.subject import Subject


def explain(subject: Subject) -> Explanation:
    """Map how much the last attention block takes from each token, the mean over heads and queries.

    `layers` has the map of every attention block, `details` those of each head, (heads, *grid).

    Raises:
        ConfigError: The network has no attention blocks, or weights are not finite.
    """
    calls = subject.attention("attention")
    layers, details, num_padding = {}, {}, 0
    for call in calls:
        heads = head_maps(call)
        layers[call.name] = to_image(heads.mean(dim=0), subject.image)
        details[f"{call.name} heads"] = heads
        num_padding = int(require_layout(call).is_padding().sum())
    last = calls[-1]
    notes = (
        [f"{num_padding} tokens are padding of the windows, and not shown"] if num_padding else []
    )
    source = f"attention weights of {last.name}, the mean over heads and queries"
    return Explanation(layers[last.name], source, layers, details, tuple(notes))


def head_maps(call: AttentionCall) -> Tensor:
    """Return how much each head takes from each token, the mean over its queries: (heads, *grid)."""
    layout = require_layout(call)
    weights = require_finite(call.weights(), f"attention of {call.name}")
    is_query = (~layout.is_padding()).to(weights)[:, None, :, None]  # padding asks for nothing
    taken = (weights * is_query).sum(dim=2) / is_query.sum(dim=2).clamp_min(1)
    return _each(layout.to_grid, taken)


def row(call: AttentionCall, place: tuple[int, ...]) -> Tensor:
    """Return what the token at a place of the map takes from each: (heads, *grid).

    Outside its window that is 0. A row sums to 1 with padding and a class token.
    """
    layout = require_layout(call)
    sequence, position = layout.find(*place)
    values = call.query.new_zeros(call.query.shape[:3])
    weights = call.query[sequence, :, position, None] @ call.key[sequence].transpose(-2, -1)
    scores = weights[:, 0] * call.scale
    if call.mask is not None:
        mask = call.mask.expand(*call.query.shape[:3], call.key.shape[2])
        scores = scores + mask[sequence, :, position]
    values[sequence] = scores.softmax(dim=-1)
    return _each(layout.to_grid, values)


def _each(to_grid: Callable[[Tensor], Tensor], values: Tensor) -> Tensor:
    """Turn values (sequences, heads, length) into a map for each head."""
    return torch.stack([to_grid(values[:, head]) for head in range(values.shape[1])])
