"""Maps that know nothing of the network: what a method must beat."""

import torch

from mambavision_lab.explainers.base import Explanation, to_image
from mambavision_lab.explainers.subject import Subject

_GRID = 7  # random values a side, enlarged as a map of tokens is


def centre(subject: Subject) -> Explanation:
    """Map the closeness to the centre: a Gaussian, its standard deviation a quarter of the side."""
    down, across = (torch.linspace(-1, 1, side) for side in subject.image.shape[-2:])
    distance = down[:, None] ** 2 + across[None, :] ** 2
    return Explanation(
        torch.exp(-distance / (2 * 0.5**2)), "centre prior, the same for every image"
    )


def random(subject: Subject) -> Explanation:
    """Map random values, which follow from the image's pixels."""
    seed = int(subject.image.detach().double().sum().abs() * 1e6) % 2**31
    grid = torch.rand(_GRID, _GRID, generator=torch.Generator().manual_seed(seed))
    return Explanation(to_image(grid, subject.image), "random map")
