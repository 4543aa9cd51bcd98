"""What depends on the number of spatial axes: 2 for images (H, W), 3 for volumes and clips (D, H, W)."""

from collections.abc import Sequence
from typing import Any, TypeVar

from torch import nn

_T = TypeVar("_T", int, int | None)

CONV: dict[int, Any] = {2: nn.Conv2d, 3: nn.Conv3d}
BATCH_NORM: dict[int, Any] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


def check_dims(dims: int) -> None:
    """Refuse a number of axes for which there are no networks.

    Raises:
        ValueError: It is neither 2 nor 3.
    """
    if dims not in CONV:
        raise ValueError(f"dims={dims!r}: wanted 2 (images) or 3 (volumes and clips)")


def per_axis(name: str, value: _T | Sequence[_T], dims: int) -> tuple[_T, ...]:
    """Return one value for each axis: a single one stands for all of them.

    Raises:
        ValueError: There are not as many values as axes.
    """
    if not isinstance(value, Sequence):
        return (value,) * dims
    if len(value) != dims:
        raise ValueError(f"{name}={list(value)}: wanted one value or {dims}, one for each axis")
    return tuple(value)
