"""Muon, timm's, for parameter groups of ours.

Source: Jordan et al. 2024, kellerjordan.github.io/posts/muon, as in timm. Vectors and what does not decay,
such as a scan's decay rates and position embeddings, are no matrices of weights: they follow AdamW.
"""

from collections.abc import Iterable
from typing import Any

from timm.optim.muon import Muon
from torch import Tensor


def muon(
    params: Iterable[Tensor] | Iterable[dict[str, Any]],
    *,
    lr: float = 1e-3,
    weight_decay: float = 0.05,
    momentum: float = 0.95,
    nesterov: bool = True,
    betas: tuple[float, float] = (0.9, 0.95),
) -> Muon:
    """Make Muon for matrices and convolutions; vectors and groups that do not decay follow AdamW.

    Args:
        params: Parameters, or groups of them; groups with a weight_decay of 0 follow AdamW.
        lr: Learning rate of both: updates of matrices are scaled to the size of AdamW's.
        weight_decay: Of groups without one of their own.
        momentum: Of the matrices.
        nesterov: Whether that is Nesterov's; AdamW's is then as well (NAdamW).
        betas: AdamW's.
    """
    given: list[Any] = list(params)
    groups = given if isinstance(given[0], dict) else [{"params": given}]
    for group in groups:
        group["use_fallback"] = group.get("weight_decay") == 0
    return Muon(
        groups, lr=lr, weight_decay=weight_decay, momentum=momentum, nesterov=nesterov, betas=betas
    )
