"""Measure several methods on the same images: a row per method, beside a centre prior and a random map."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from mambavision_lab.explainers.measure import (
    Curves,
    area,
    curves,
    points_at,
    rank_correlation,
    scrambled,
    share_on,
)
from mambavision_lab.explainers.methods import BASELINES, explain

NUM_SCRAMBLED = 20  # images of the randomisation check


@dataclass
class Faithfulness:
    """Measures of a method, one value an image.

    Attributes:
        method: Its name.
        curves: Deletion and insertion.
        pointing: Whether the largest value is on the object; empty where no mask is known.
        on_object: Share of the map on the object; likewise.
        correlation: Rank correlation with the map of the network with scrambled weights.
        seconds: Of each explanation.
    """

    method: str
    curves: list[Curves] = field(default_factory=list)
    pointing: list[float] = field(default_factory=list)
    on_object: list[float] = field(default_factory=list)
    correlation: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def mean_curves(self) -> Curves:
        """Return the means of the curves over the images."""
        stacks = (
            torch.stack([getattr(c, name) for c in self.curves])
            for name in ("deletion", "insertion")
        )
        return Curves(*(stack.mean(dim=0) for stack in stacks))

    def values(self) -> dict[str, float]:
        """Return the means by name; those that could not be measured are left out."""
        mean = self.mean_curves()
        found = {"deletion": area(mean.deletion), "insertion": area(mean.insertion)}
        for name in ("pointing", "on_object", "correlation", "seconds"):
            if own := getattr(self, name):
                found[name] = sum(own) / len(own)
        return found


def measure(
    net: nn.Module,
    images: Sequence[Tensor],
    methods: Iterable[str],
    masks: Sequence[Tensor] | None = None,
    progress: Callable[[], None] = lambda: None,
) -> list[Faithfulness]:
    """Measure methods and the two baselines, each image for the class that is predicted.

    Args:
        net: A network in evaluation mode.
        images: Normalised, (1, C, H, W) each; volumes and clips (1, C, D, H, W).
        methods: Names.
        masks: Of each image which pixels are the object, (H, W); None leaves the pointing game out.
        progress: Called after each image of each method.

    Raises:
        ConfigError: A method does not fit the network.
    """
    other = scrambled(net)
    targets = _predicted(net, images)
    found = []
    for method in dict.fromkeys([*methods, *BASELINES]):
        row = Faithfulness(method)
        for i, (image, target) in enumerate(zip(images, targets, strict=True)):
            start = time.perf_counter()
            values = explain(net, image, method, target).map
            row.seconds.append(time.perf_counter() - start)
            row.curves.append(curves(net, image, values, target))
            if masks is not None:
                row.pointing.append(points_at(values, masks[i]))
                row.on_object.append(share_on(values, masks[i]))
            if i < NUM_SCRAMBLED:
                scrambled_values = explain(other, image, method, target).map
                row.correlation.append(rank_correlation(values, scrambled_values))
            progress()
        found.append(row)
    return found


def pointing(
    net: nn.Module,
    images: Sequence[Tensor],
    methods: Iterable[str],
    masks: Sequence[Tensor],
    progress: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Play the pointing game alone; returns the share of hits by method. Arguments as in `measure`.

    Raises:
        ConfigError: A method does not fit the network.
    """
    targets, found = _predicted(net, images), {}
    for method in dict.fromkeys([*methods, *BASELINES]):
        hits = []
        for image, target, mask in zip(images, targets, masks, strict=True):
            hits.append(points_at(explain(net, image, method, target).map, mask))
            progress()
        found[method] = sum(hits) / len(hits)
    return found


@torch.no_grad()
def _predicted(net: nn.Module, images: Sequence[Tensor]) -> list[int]:
    """Return the predicted class of each image."""
    return [int(net.forward(image).argmax()) for image in images]
