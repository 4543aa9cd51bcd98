"""What depends on the number of spatial axes: 2 for images (H, W), 3 for volumes and clips (D, H, W)."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_T = TypeVar("_T", int, int | None)


class Conv2d(nn.Conv2d):
    """torch's, in float32 where it is wrong in bfloat16 on a CPU: see `_is_misread`."""

    def forward(self, input: Tensor) -> Tensor:
        """Convolve images (N, C, H, W)."""
        if _is_misread(input, self.kernel_size):
            return _in_float32(F.conv2d, self, input)
        return super().forward(input)


class Conv3d(nn.Conv3d):
    """torch's, in float32 where it is wrong in bfloat16 on a CPU: see `_is_misread`."""

    def forward(self, input: Tensor) -> Tensor:
        """Convolve volumes (N, C, D, H, W)."""
        if _is_misread(input, self.kernel_size):
            return _in_float32(F.conv3d, self, input)
        return super().forward(input)


def _is_misread(input: Tensor, kernel_size: Sequence[int]) -> bool:
    """Tell whether a convolution is one that oneDNN reads and writes beyond its memory.

    In bfloat16, where the input is narrower than the kernel along an axis, gradients of the weights, and of
    one slice the outputs, can be what the memory held before (torch 2.14.1 on AVX-512 with bfloat16).
    """
    # The sides last, or a graph of float32 would depend on them.
    return _is_bfloat16_on_cpu(input) and any(
        side < k for side, k in zip(input.shape[2:], kernel_size, strict=True)
    )


def _in_float32(convolve: Callable[..., Tensor], layer: Any, input: Tensor) -> Tensor:
    bias = None if layer.bias is None else layer.bias.float()
    options = (layer.stride, layer.padding, layer.dilation, layer.groups)
    with torch.autocast("cpu", enabled=False):
        return convolve(input.float(), layer.weight.float(), bias, *options).bfloat16()


def _is_bfloat16_on_cpu(values: Tensor) -> bool:
    if values.device.type != "cpu":
        return False
    if torch.is_autocast_enabled("cpu"):
        return torch.get_autocast_dtype("cpu") == torch.bfloat16
    return values.dtype == torch.bfloat16


CONV: dict[int, Any] = {2: Conv2d, 3: Conv3d}
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
