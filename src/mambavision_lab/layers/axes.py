"""What depends on the number of spatial axes: 2 for images (H, W), 3 for volumes and clips (D, H, W)."""

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_T = TypeVar("_T", int, int | None)


class Conv3d(nn.Conv3d):
    """torch's, in float32 where its gradient in bfloat16 is wrong on a CPU.

    Of two or more slices, and fewer than the kernel is deep, oneDNN leaves the weights' gradient unwritten:
    it is what the memory held before (torch 2.14.1 on AVX-512 with bfloat16).
    """

    def forward(self, input: Tensor) -> Tensor:
        """Convolve volumes (N, C, D, H, W)."""
        if not (_is_bfloat16_on_cpu(input) and 1 < input.shape[2] < self.kernel_size[0]):
            return super().forward(input)
        options: Any = (self.stride, self.padding, self.dilation, self.groups)
        bias = None if self.bias is None else self.bias.float()
        with torch.autocast("cpu", enabled=False):
            outputs = F.conv3d(input.float(), self.weight.float(), bias, *options)
        return outputs.bfloat16()


def _is_bfloat16_on_cpu(values: Tensor) -> bool:
    if values.device.type != "cpu":
        return False
    if torch.is_autocast_enabled("cpu"):
        return torch.get_autocast_dtype("cpu") == torch.bfloat16
    return values.dtype == torch.bfloat16


CONV: dict[int, Any] = {2: nn.Conv2d, 3: Conv3d}
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
