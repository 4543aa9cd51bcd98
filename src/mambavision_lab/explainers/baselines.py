"""Maps that know nothing of the network: what a method must beat."""

import torch
from torch import Tensor

from mambavision_lab.explainers.base import Explanation, to_image
from mambavision_lab.explainers.subject import Subject

_GRID = 7  # random values a side, enlarged as a map of tokens is


def centre(subject: Subject) -> Explanation:
    """Map the closeness to the centre: a Gaussian, its standard deviation a quarter of the side."""
    lines = [_from_centre(side) ** 2 for side in subject.image.shape[2:]]
    distance = sum(torch.meshgrid(lines, indexing="ij"), start=torch.zeros(()))
    return Explanation(
        torch.exp(-distance / (2 * 0.5**2)), "centre prior, the same for every image"
    )


def random(subject: Subject) -> Explanation:
    """Map random values, which follow from the image's pixels."""
    seed = int(subject.image.detach().double().sum().abs() * 1e6) % 2**31
    sides = [_GRID] * (subject.image.ndim - 2)
    grid = torch.rand(sides, generator=torch.Generator().manual_seed(seed))
    return Explanation(to_image(grid, subject.image), "random map")


def _from_centre(side: int) -> Tensor:
    """Return how far from the centre each place of a side lies, -1 to 1."""
    return torch.linspace(-1, 1, side) if side > 1 else torch.zeros(1)
