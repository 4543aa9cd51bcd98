"""The selective scan as its formula reads: a loop over time in plain autograd.

Slow (its backward is quadratic in the length) and obvious; every other backend is tested against
it, in float64 where precision matters.

Source: Gu and Dao 2023, arXiv:2312.00752, Algorithm 2.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    initial_state: Tensor | None,
    delta_softplus: bool,
    reverse: bool,
) -> tuple[Tensor, Tensor]:
    """Run the scan step by step; arguments as in `selective_scan`. Returns y and the last state."""
    dtype = torch.float64 if u.dtype == torch.float64 else torch.float32
    u_in, u = u, u.to(dtype)
    delta, A, B, C = delta.to(dtype), A.to(dtype), B.to(dtype), C.to(dtype)
    if delta_bias is not None:
        delta = delta + delta_bias.to(dtype)
    if delta_softplus:
        delta = F.softplus(delta)
    h = u.new_zeros(u.shape[0], u.shape[2], A.shape[1])
    if initial_state is not None:
        h = h + initial_state.to(dtype)
    y = torch.zeros_like(u)
    for t in reversed(range(u.shape[1])) if reverse else range(u.shape[1]):
        decay = torch.exp(delta[:, t, :, None] * A)
        h = decay * h + (delta[:, t] * u[:, t])[:, :, None] * B[:, t, None, :]
        y[:, t] = (h * C[:, t, None, :]).sum(-1)
    if D is not None:
        y = y + D.to(dtype) * u
    return y.to(u_in.dtype), h
