"""Count the scan's floating-point operations, for `torch.utils.flop_counter`.

Importing this module registers the formula. Counted per step, channel and state: delta A, its
exponential, (delta u) B, a multiply-add for the state and one for the output: 7; per step and channel
delta u: 1. The counter halves operations into multiply-accumulates as it does for matrices.
"""

from typing import Any

import torch
from torch.utils.flop_counter import register_flop_formula

from mambavision_lab.ops.selective_scan import api  # noqa: F401  (registers the operators)

ops = torch.ops.mambavision_lab


def scan_flops(u_shape: Any, A_shape: Any) -> int:
    """Count the operations of one forward scan for u (batch, length, dim) and A (dim, d_state)."""
    batch, length, dim = u_shape
    return batch * length * dim * (7 * A_shape[1] + 1)


@register_flop_formula([ops.selective_scan, ops.selective_scan_train])
def _forward(u_shape: Any, delta_shape: Any, A_shape: Any, *args: Any, **kwargs: Any) -> int:
    return scan_flops(u_shape, A_shape)


@register_flop_formula(ops.selective_scan_backward)
def _backward(
    grad_y: Any, grad_state: Any, u_shape: Any, delta: Any, A_shape: Any, *args: Any, **kwargs: Any
) -> int:
    """Count the states once more and two products of each in reverse: three times the forward."""
    return 3 * scan_flops(u_shape, A_shape)
