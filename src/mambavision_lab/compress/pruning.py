"""Prune whole channels: of MLPs, of mixers, between convolutions, of plain stems, and heads of attention.

The residual stream keeps its width, and so do the hierarchical family's stem and down-sampling. What is
left is an ordinary network whose constructor is given `widths`, so that it is saved, loaded, exported and
trained like any other.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mambavision_lab.compress.channels import Group, find_groups
from mambavision_lab.errors import ConfigError
from mambavision_lab.models.macs import count_macs

SCORES, SCOPES = ("magnitude", "taylor"), ("layer", "global")
_STEPS = 10  # of the bisection for the share of the channels

Make = Callable[[dict[str, int]], nn.Module]  # widths -> the network, with fresh weights


class Pruning:
    """What to prune, and how; with `source` it starts a training from the pruned weights of a run.

    Args:
        source: A run's folder or a checkpoint, whose network is pruned.
        macs: Share of its multiply-accumulates to keep.
        score: "magnitude" (norm of what makes a channel times norm of what reads it) or "taylor" (the change
            of the loss on training images, to first order, without it).
        scope: "layer" keeps the same share of each layer, "global" compares channels of all layers by their
            score for each multiply-accumulate.
        num_batches: Training batches for "taylor".
        is_done: Whether it was done, and `model.widths` are those of the pruned network.

    Raises:
        ConfigError: A setting is impossible.
    """

    def __init__(
        self,
        *,
        source: str,
        macs: float,
        score: str = "taylor",
        scope: str = "global",
        num_batches: int = 8,
        is_done: bool = False,
    ) -> None:
        if not 0 < macs < 1:
            raise ConfigError(f"prune.macs={macs}: wanted a share to keep, above 0 and below 1")
        for name, value, known in (("score", score, SCORES), ("scope", scope, SCOPES)):
            if value not in known:
                raise ConfigError(f"prune.{name}={value}: wanted {' or '.join(known)}")
        if num_batches < 1:
            raise ConfigError(f"prune.num_batches={num_batches} must be at least 1")
        self.source, self.macs, self.score, self.scope = source, macs, score, scope
        self.num_batches, self.is_done = num_batches, is_done

    def prune(
        self,
        net: nn.Module,
        make: Make,
        image_size: int,
        in_chans: int,
        losses: Callable[[], Any] | None = None,
    ) -> tuple[nn.Module, dict[str, int]]:
        """Return a pruned copy of a network, and its widths.

        Args:
            net: The trained network.
            make: Makes one of other widths; on the meta device, to count.
            image_size: Pixels per side of its images.
            in_chans: Their channels.
            losses: For "taylor": an iterator over the losses of training batches.

        Raises:
            ConfigError: It has no such layers, or cannot become as small.
        """
        groups = find_groups(net)
        if not groups:
            raise ConfigError(
                f"prune: {type(net).__name__} has no layer that can be pruned; choose a network of ours"
            )
        if self.score == "taylor":
            assert losses is not None, "taylor needs losses"
            scores = taylor(net, groups, losses())
        else:
            tensors = dict(net.state_dict())
            scores = [magnitude(group, tensors) for group in groups]

        def count(widths: dict[str, int]) -> int:
            with torch.device("meta"):
                return count_macs(make(widths), image_size, in_chans).layers

        def macs_of(share: float) -> int:
            return count(_common_widths(groups, self._keep(groups, scores, share)))

        if self.scope == "global":
            costs = channel_costs(groups, count)
            scores = [score / costs[g.layer] for g, score in zip(groups, scores, strict=True)]
        full, low, high = macs_of(1.0), 0.0, 1.0
        if (least := macs_of(low)) > self.macs * full:
            raise ConfigError(
                f"prune.macs={self.macs}: {least / full:.0%} of the MACs are in layers that keep "
                "their width, or in the fewest channels of the others; give more"
            )
        for _ in range(_STEPS):
            middle = (low + high) / 2
            low, high = (middle, high) if macs_of(middle) <= self.macs * full else (low, middle)
        kept = self._keep(groups, scores, low)
        widths = _common_widths(groups, kept)
        small = make(widths)
        small.load_state_dict(_slice(net.state_dict(), groups, kept))
        return small.train(net.training), widths

    def _keep(
        self, groups: Sequence[Group], scores: Sequence[Tensor], share: float
    ) -> list[Tensor]:
        """Return the channels of each group that stay, sorted; both halves of a mixer keep as many."""
        counts: dict[str, int] = {}
        threshold = torch.cat(list(scores)).quantile(1 - share) if share < 1 else None
        for group, score in zip(groups, scores, strict=True):
            if self.scope == "global" and threshold is not None:
                wanted = float((score > threshold).sum()) / group.per_width
            else:
                wanted = share * group.width
            count = min(group.width, max(group.step, round(wanted / group.step) * group.step))
            counts[group.layer] = max(count, counts.get(group.layer, 0))
        return [
            score.topk(counts[group.layer] * group.per_width).indices.sort().values
            for group, score in zip(groups, scores, strict=True)
        ]


def channel_costs(
    groups: Sequence[Group], count: Callable[[dict[str, int]], int]
) -> dict[str, float]:
    """Return by layer how many multiply-accumulates go with one of its channels; count takes widths."""
    widths = {group.layer: group.width for group in groups}
    steps = {group.layer: group.step for group in groups}
    full, costs = count(widths), {}
    for layer, width in widths.items():
        if width == steps[layer]:  # cannot become narrower
            costs[layer] = 1.0
            continue
        channels = sum(group.per_width for group in groups if group.layer == layer)
        saved = full - count({**widths, layer: width - steps[layer]})
        costs[layer] = saved / (steps[layer] * channels)
    return costs


def magnitude(group: Group, tensors: dict[str, Tensor]) -> Tensor:
    """Score each channel by the norm of what makes it times that of what reads it; their mean is 1."""

    def norms(name: str, axis: int) -> Tensor:
        rows = group.rows[name, axis]
        tensor = tensors[f"{group.layer}.{name}"].detach().float().movedim(axis, 0)
        return tensor[rows].flatten(1).norm(dim=1)

    score = norms(group.makes, 0) * norms(group.reads, 1)
    return score / score.mean().clamp_min(1e-12)


def taylor(net: nn.Module, groups: Sequence[Group], losses: Any) -> list[Tensor]:
    """Score each channel by |sum of gradient times value| of what reads it, summed over the losses."""
    scores = [torch.zeros(group.num_channels) for group in groups]
    parameters = dict(net.named_parameters())
    for loss in losses:
        net.zero_grad()
        loss.backward()
        for group, score in zip(groups, scores, strict=True):
            parameter = parameters[f"{group.layer}.{group.reads}"]
            assert parameter.grad is not None
            change = (parameter.grad * parameter.detach()).movedim(1, 0)
            score += change[group.rows[group.reads, 1]].flatten(1).sum(dim=1).abs().cpu()
    net.zero_grad()
    return scores


def _common_widths(groups: Sequence[Group], kept: Sequence[Tensor]) -> dict[str, int]:
    return {
        group.layer: len(channels) // group.per_width
        for group, channels in zip(groups, kept, strict=True)
    }


def _slice(
    tensors: dict[str, Tensor], groups: Sequence[Group], kept: Sequence[Tensor]
) -> dict[str, Tensor]:
    """Cut the channels that go out of a network's tensors; two groups may have parts of one."""
    indices: dict[tuple[str, int], list[Tensor]] = {}
    for group, channels in zip(groups, kept, strict=True):
        for (name, axis), rows in group.rows.items():
            key = (f"{group.layer}.{name}", axis)
            indices.setdefault(key, []).append(rows[channels].flatten())
    sliced = dict(tensors)
    for (name, axis), parts in indices.items():
        index = torch.cat(parts).sort().values.to(sliced[name].device)
        sliced[name] = sliced[name].index_select(axis, index)
    return sliced
