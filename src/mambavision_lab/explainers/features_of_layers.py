"""The features of layers over many images: how alike layers are, and how many directions they use.

Source of the similarity: Kornblith et al. 2019, arXiv:1905.00414 (linear centred kernel alignment).
"""

import torch
from torch import Tensor


def similarity(maps: dict[str, Tensor]) -> Tensor:
    """Return linear CKA of the pooled features of each pair of layers, (layers, layers), 0 to 1.

    Args:
        maps: Features (N, C, *sides) of each layer, of the same images.
    """
    pooled = [m.double().mean(dim=[*range(2, m.ndim)]) for m in maps.values()]
    centred = [x - x.mean(dim=0) for x in pooled]
    kernels = [x @ x.T for x in centred]
    norms = [k.norm().clamp_min(1e-30) for k in kernels]
    rows = [
        [(a * b).sum() / (na * nb) for b, nb in zip(kernels, norms, strict=True)]
        for a, na in zip(kernels, norms, strict=True)
    ]
    return torch.tensor(rows)


def singular_values(features: Tensor) -> Tensor:
    """Return the singular values of the centred features (N, C, *sides) of all places, the largest as 1."""
    x = features.double().transpose(0, 1).flatten(1).T
    x = x - x.mean(dim=0)
    # Of the small covariance, which is as wide as the channels.
    values = torch.linalg.eigvalsh(x.T @ x).flip(0).clamp_min(0).sqrt()
    return values / values[0].clamp_min(1e-30)
