"""The selective scan of the package mamba_ssm, for comparisons; used only when it is named.

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

from mambavision_lab.ops.selective_scan.backends.base import (
    NUM_TENSORS,
    BackendUnavailableError,
    Gradients,
    Saved,
    ScanInputs,
)

_MAX_D_STATE = 256  # of its CUDA kernels
_SEQUENCES = ("u", "delta", "B", "C")
_PARAMETERS = ("A", "D", "delta_bias")


def is_available() -> bool:
    """Return whether the package is installed and there is a CUDA device."""
    return importlib.util.find_spec("mamba_ssm") is not None and torch.cuda.is_available()


def why_not(inputs: ScanInputs) -> str | None:
    """Refuse other devices than CUDA, float64 and a large d_state."""
    if inputs.u.device.type != "cuda":
        return (
            f"it runs on CUDA devices alone, and u is on {inputs.u.device}; move it, or take 'auto'"
        )
    if inputs.u.dtype == torch.float64:
        return "it computes in float32, and u is float64; take 'torch'"
    if inputs.A.shape[1] > _MAX_D_STATE:
        return f"it takes d_state up to {_MAX_D_STATE}, and A has {inputs.A.shape[1]}; take 'torch'"
    return None


def saved_shape(inputs: ScanInputs) -> tuple[int, ...]:
    """Return the shape of nothing: backward starts from the inputs."""
    return (0,)


def forward(inputs: ScanInputs, save: bool) -> Saved:
    """Return y, the last state and, if `save`, an empty tensor."""
    _refuse(inputs.initial_state, "takes no initial_state")
    arguments = _convert(inputs)
    options = {"delta_softplus": inputs.delta_softplus, "return_last_state": True}
    y, last_state = _scan()(**arguments, **options)
    saved = last_state.new_empty(0, dtype=torch.float32) if save else None
    return _to_channels_last(y, inputs.reverse), last_state.float().contiguous(), saved


def backward(
    inputs: ScanInputs, grad_y: Tensor, grad_last_state: Tensor | None, saved: Tensor
) -> Gradients:
    """Return the gradients of the tensors from u to initial_state."""
    _refuse(grad_last_state, "gives no gradient of the last state")
    arguments = _convert(inputs)
    leaves = {k: x.detach().requires_grad_() for k, x in arguments.items() if x is not None}
    with torch.enable_grad():
        y = _scan()(**arguments | leaves, delta_softplus=inputs.delta_softplus)
    grad_y = _to_channels_first(grad_y.to(y.dtype), inputs.reverse)
    grads = dict(zip(leaves, torch.autograd.grad(y, [*leaves.values()], grad_y), strict=True))
    for name in _SEQUENCES:
        grads[name] = _to_channels_last(grads[name], inputs.reverse)
    return tuple(grads.get(name) for name in ScanInputs._fields[:NUM_TENSORS])


@functools.cache
def _scan() -> Any:
    module = importlib.import_module("mamba_ssm.ops.selective_scan_interface")
    return module.selective_scan_fn


def _convert(inputs: ScanInputs) -> dict[str, Tensor | None]:
    """Bring the tensors into the package's layout and dtypes: sequences u's, parameters float32."""
    named: dict[str, Any] = inputs._asdict()
    sequences = {
        k: _to_channels_first(named[k].to(inputs.u.dtype), inputs.reverse) for k in _SEQUENCES
    }
    parameters = {
        k: None if named[k] is None else named[k].float().contiguous() for k in _PARAMETERS
    }
    return sequences | parameters


def _to_channels_first(x: Tensor, reverse: bool) -> Tensor:
    """Bring (batch, length, channels) into (batch, channels, length), in the order of the scan."""
    return (x.flip(1) if reverse else x).transpose(1, 2).contiguous()


def _to_channels_last(x: Tensor, reverse: bool) -> Tensor:
    x = x.transpose(1, 2)
    return x.flip(1) if reverse else x.contiguous()


def _refuse(x: Tensor | None, what: str) -> None:
    if x is not None:
        raise BackendUnavailableError(
            f"backend 'mamba_ssm' cannot take this call: it {what}; take 'auto'"
        )
