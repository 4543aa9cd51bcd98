"""The order in which tokens of a map are scanned.

Source: Yang et al. 2024, arXiv:2403.17695 (serpentine); Li et al. 2024, arXiv:2403.06977 (orders of clips).
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

ScanOrder = Literal["plain", "serpentine", "space_first", "time_first"]
_ROW_BY_ROW = ("plain", "space_first")  # a volume slice by slice
ORDERS = ("plain", "serpentine", "space_first", "time_first")


def check_scan_order(order: str, dims: int) -> None:
    """Refuse an order that does not exist for maps of so many axes.

    Raises:
        ValueError: It does not.
    """
    known = ORDERS if dims == 3 else ORDERS[:2]
    if order not in known:
        raise ValueError(f"scan_order={order!r} with dims={dims}: choose one of {', '.join(known)}")


def order_tokens(tokens: Tensor, order: ScanOrder, sides: Sequence[int]) -> Tensor:
    """Bring the tokens (N, length, C) of a map with these sides from row-by-row order into another."""
    if order in _ROW_BY_ROW:
        return tokens
    return tokens[:, _positions(order, sides).to(tokens.device)]


def restore_tokens(tokens: Tensor, order: ScanOrder, sides: Sequence[int]) -> Tensor:
    """Bring tokens (N, length, C) that lie in an order back into row-by-row order."""
    if order in _ROW_BY_ROW:
        return tokens
    return tokens[:, _positions(order, sides).argsort().to(tokens.device)]


def _positions(order: str, sides: Sequence[int]) -> Tensor:
    """Return where each token of the order lies in row-by-row order."""
    positions = torch.arange(math.prod(sides)).reshape(*sides)
    if order == "time_first":  # at each place all slices, one after the other
        return positions.movedim(0, -1).flatten()
    # Serpentine: every second slice from its last row to its first, every second row from right to left.
    for axis in range(len(sides) - 1):
        lines = positions.reshape(-1, sides[axis + 1], *sides[axis + 2 :]).clone()
        lines[1::2] = lines[1::2].flip(1)
        positions = lines
    return positions.flatten()
