"""Whether a map tells the truth: deletion and insertion, the pointing game, the randomisation check.

Deletion removes the pixels that a map ranks highest, first; the probability of the class should fall fast.
Insertion adds them to the empty image; it should rise fast. A removed pixel has the image's mean colour, 0
after normalisation. Pointing: does the largest value lie on the object? Randomisation: does the map change
when the weights do? Sources: Petsiuk et al. 2018, arXiv:1806.07421; Zhang et al. 2016, arXiv:1608.00507;
Adebayo et al. 2018, arXiv:1810.03292.
"""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mambavision_lab.explainers.base import in_batches

NUM_STEPS = 16  # of a curve


@dataclass(frozen=True)
class Curves:
    """Probability of the class along the curves of an image.

    Attributes:
        deletion: After each share of the pixels was removed, (NUM_STEPS + 1,).
        insertion: After each share was added, (NUM_STEPS + 1,).
    """

    deletion: Tensor
    insertion: Tensor


@torch.no_grad()
def curves(net: nn.Module, image: Tensor, values: Tensor, target: int) -> Curves:
    """Run both curves of an image or volume (1, C, *sides) in the order of its map (*sides)."""
    order = values.flatten().argsort(descending=True, stable=True)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order))
    shares = torch.linspace(0, 1, NUM_STEPS + 1)
    is_first = (rank < (shares * len(order))[:, None]).view(-1, 1, *values.shape)
    empty = torch.zeros_like(image)
    batch = torch.cat([torch.where(is_first, empty, image), torch.where(is_first, image, empty)])
    logits = torch.cat([net.forward(part) for part in in_batches(batch)])
    probabilities = logits.float().softmax(dim=1)[:, target].cpu()
    return Curves(*probabilities.split(NUM_STEPS + 1))


def area(curve: Tensor) -> float:
    """Return the area under a curve over the shares from 0 to 1."""
    return float(torch.trapezoid(curve, dx=1 / NUM_STEPS))


def points_at(values: Tensor, mask: Tensor) -> float:
    """Return whether a map (H, W) is largest on the object (H, W), as 1 or 0; places that tie share it."""
    largest = values == values.max()
    return float((largest & mask).sum() / largest.sum())


def share_on(values: Tensor, mask: Tensor) -> float:
    """Return the share of a map's sum that lies on the object."""
    return float(values[mask].sum() / values.sum().clamp_min(1e-30))


def scrambled(net: nn.Module, seed: int = 0) -> nn.Module:
    """Copy a network with the values of each parameter in another order."""
    other = copy.deepcopy(net)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in other.parameters():
            order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
            parameter.copy_(parameter.flatten()[order].view_as(parameter))
    return other


def rank_correlation(first: Tensor, second: Tensor) -> float:
    """Return Spearman's correlation of two maps: 1 where both rank the pixels alike, 0 where unrelated."""
    ranks = torch.stack([x.flatten().argsort(stable=True).argsort() for x in (first, second)])
    constant = any(bool((x == x.max()).all()) for x in (first, second))
    return 0.0 if constant else float(torch.corrcoef(ranks.double())[0, 1])
