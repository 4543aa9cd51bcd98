"""The selective scan as its formula reads: a loop over time in plain autograd.

Slow (its backward is quadratic in the length) and obvious; every other backend is tested against
it, in float64 where precision matters.

Source: Gu and Dao 2023, arXiv:2312.00752, Algorithm 2.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mambavision_lab.ops.selective_scan.backends.base import ScanInputs


def scan(inputs: ScanInputs) -> tuple[Tensor, Tensor]:
    """Run the scan step by step. Returns y and the last state."""
    dtype = inputs.state_dtype
    u, delta, A, B, C = (x.to(dtype) for x in inputs[:5])
    if inputs.delta_bias is not None:
        delta = delta + inputs.delta_bias.to(dtype)
    if inputs.delta_softplus:
        delta = F.softplus(delta)
    h = u.new_zeros(inputs.state_shape)
    if inputs.initial_state is not None:
        h = h + inputs.initial_state.to(dtype)
    length = u.shape[1]
    outputs = [h] * length
    for t in reversed(range(length)) if inputs.reverse else range(length):
        decay = torch.exp(delta[:, t, :, None] * A)
        h = decay * h + (delta[:, t] * u[:, t])[:, :, None] * B[:, t, None, :]
        outputs[t] = (h * C[:, t, None, :]).sum(-1)
    y = torch.stack(outputs, dim=1) if length else torch.zeros_like(u)
    if inputs.D is not None:
        y = y + inputs.D.to(dtype) * u
    return y.to(inputs.u.dtype), h
