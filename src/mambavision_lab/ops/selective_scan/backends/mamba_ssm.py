"""The selective scan of the package mamba_ssm, for comparisons; taken only when it is named.

Its `selective_scan_fn` wants (batch, dim, length) and (batch, d_state, length), so every sequence is
transposed on the way in and out, and flipped for `reverse`. It takes no initial state and gives the
last state no gradient: both are refused. Backward runs its forward once more.
"""

import functools
import importlib
import importlib.util
from typing import Any

import torch
from torch import Tensor

_MAX_D_STATE = 256  # of its CUDA kernels
_NAMES = ("u", "delta", "A", "B", "C", "D", "delta_bias")


def is_available() -> bool:
    """Whether the package is installed, and a CUDA device is there."""
    return importlib.util.find_spec("mamba_ssm") is not None and torch.cuda.is_available()


def why_not(u: Tensor, A: Tensor) -> str | None:
    """Only CUDA, no float64, and a limit to d_state."""
    if u.device.type != "cuda":
        return f"it runs on CUDA devices alone, and u is on {u.device}; move it, or take 'auto'"
    if u.dtype == torch.float64:
        return "it computes in float32, and u is float64; take 'torch'"
    if A.shape[1] > _MAX_D_STATE:
        return f"it takes d_state up to {_MAX_D_STATE}, and A has {A.shape[1]}; take 'torch'"
    return None


def saved_shape(u: Tensor, A: Tensor) -> tuple[int, ...]:
    """Nothing is saved."""
    return (0,)


def forward(
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
    save: bool,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return y, the last state and, if `save`, an empty tensor."""
    _refuse(initial_state, "takes no initial_state")
    given = _converted(u, delta, A, B, C, D, delta_bias, reverse)
    y, last_state = _scan()(**given, delta_softplus=delta_softplus, return_last_state=True)
    saved = last_state.new_empty(0, dtype=torch.float32) if save else None
    return _back(y, reverse), last_state.float().contiguous(), saved


def backward(
    grad_y: Tensor,
    grad_last_state: Tensor | None,
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
    saved: Tensor,
) -> tuple[Tensor | None, ...]:
    """Return the gradients of the eight tensors from u to initial_state."""
    _refuse(grad_last_state, "gives no gradient of the last state")
    given = _converted(u, delta, A, B, C, D, delta_bias, reverse)
    leaves = {k: x.detach().requires_grad_() for k, x in given.items() if x is not None}
    with torch.enable_grad():
        y = _scan()(**given | leaves, delta_softplus=delta_softplus)
    grads = torch.autograd.grad(y, list(leaves.values()), _there(grad_y.to(y.dtype), reverse))
    named = dict(zip(leaves, grads, strict=True))
    for name in ("u", "delta", "B", "C"):
        named[name] = _back(named[name], reverse)
    inputs = dict(zip(_NAMES, (u, delta, A, B, C, D, delta_bias), strict=True))
    found = (None if x is None else named[name].to(x.dtype) for name, x in inputs.items())
    return (*found, None)


@functools.cache
def _scan() -> Any:
    module = importlib.import_module("mamba_ssm.ops.selective_scan_interface")
    return module.selective_scan_fn


def _converted(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    reverse: bool,
) -> dict[str, Tensor | None]:
    """In its layout and dtypes: sequences in u's, parameters in float32."""
    sequences = (_there(x.to(u.dtype), reverse) for x in (u, delta, B, C))
    wide = (None if x is None else x.float().contiguous() for x in (A, D, delta_bias))
    return dict(
        zip(("u", "delta", "B", "C", "A", "D", "delta_bias"), (*sequences, *wide), strict=True)
    )


def _there(x: Tensor, reverse: bool) -> Tensor:
    """(batch, length, channels) to (batch, channels, length), in the order of the scan."""
    return (x.flip(1) if reverse else x).transpose(1, 2).contiguous()


def _back(x: Tensor, reverse: bool) -> Tensor:
    x = x.transpose(1, 2)
    return x.flip(1) if reverse else x.contiguous()


def _refuse(x: Tensor | None, what: str) -> None:
    if x is not None:
        # `backends` imports this file.
        from mambavision_lab.ops.selective_scan.backends.registry import BackendUnavailableError

        raise BackendUnavailableError(
            f"backend 'mamba_ssm' cannot take this call: it {what}; take 'auto'"
        )
