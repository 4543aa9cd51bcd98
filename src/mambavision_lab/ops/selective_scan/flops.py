"""Floating-point operations of the scan, for `torch.utils.flop_counter`.

Importing this module registers the formula. Counted per step, channel and state: delta A, its
exponential, (delta u) B, a multiply-add for the state and one for the output: 7; per step and channel
delta u: 1. The counter halves operations into multiply-accumulates as it does for matrices.
"""

from typing import Any

import torch
from torch.utils.flop_counter import register_flop_formula

from mambavision_lab.ops.selective_scan import api  # noqa: F401  (registers the operators)

FORWARD = ("selective_scan", "selective_scan_train", "scan_forward", "scan_inference")
BACKWARD = ("selective_scan_backward", "scan_backward")


def scan_flops(u_shape: Any, A_shape: Any) -> int:
    """Operations of one forward scan for u (batch, length, dim) and A (dim, d_state)."""
    batch, length, dim = u_shape
    return batch * length * dim * (7 * A_shape[1] + 1)


def _forward(u_shape: Any, delta_shape: Any, A_shape: Any, *args: Any, **kwargs: Any) -> int:
    return scan_flops(u_shape, A_shape)


def _backward(grad_shape: Any, *args: Any, **kwargs: Any) -> int:
    """The states once more and the two products of each in reverse: three times the forward."""
    shapes = [shape for shape in args if isinstance(shape, torch.Size | tuple | list)]
    A_shape = next(shape for shape in shapes if len(shape) == 2 and shape[0] == grad_shape[-1])
    return 3 * scan_flops(grad_shape, A_shape)


for _names, _formula in ((FORWARD, _forward), (BACKWARD, _backward)):
    for _name in _names:
        if hasattr(torch.ops.mambavision_lab, _name):
            register_flop_formula(getattr(torch.ops.mambavision_lab, _name))(_formula)
