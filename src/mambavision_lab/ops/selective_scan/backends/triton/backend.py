"""Launch the selective scan's kernels on CUDA devices.

float32, bfloat16 and float16 are read and written as they are; states are float32. Forward saves the
state before each chunk of steps; backward recomputes one chunk's states at a time. Nothing is added
by atomics, so equal calls give equal bits. Triton is imported when the first scan runs.
"""

import importlib.util
import math
import os
from typing import Any

import torch
from torch import Tensor

from mambavision_lab.ops.selective_scan.backends.base import Gradients, Saved, ScanInputs, dense

CHUNK = 32  # steps; the saved states shrink with it, and the scratch of backward grows
BLOCK = 32  # channels to a program: one to each lane of its one warp
# Where steps hardly decay, every step's rounding stays to the end. Longer sequences than this go from
# chunk to chunk by one factor each, for 1 to 11 % more instructions and up to two thirds more registers.
_LONG = 64
_MAX_D_STATE = 64  # a lane holds this many numbers several times over
_MAX_BATCH = 65535  # CUDA's limit to a grid's second axis


def is_interpreted() -> bool:
    """Return whether the kernels run as Python, by Triton's own switch, read when Triton is imported."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def is_available() -> bool:
    """Return whether Triton is installed and finds a CUDA device (in its interpreter it needs none)."""
    is_installed = importlib.util.find_spec("triton") is not None
    return is_installed and (is_interpreted() or torch.cuda.is_available())


def why_not(inputs: ScanInputs) -> str | None:
    """Refuse other devices than CUDA, float64, a large d_state and a very large batch."""
    if inputs.u.device.type != "cuda" and not is_interpreted():
        return (
            f"it runs on CUDA devices alone, and u is on {inputs.u.device}; move it, or take 'auto'"
        )
    if inputs.u.dtype == torch.float64:
        return "it computes in float32, and u is float64; take 'torch'"
    if inputs.A.shape[1] > _MAX_D_STATE:
        return f"it takes d_state up to {_MAX_D_STATE}, and A has {inputs.A.shape[1]}; take 'torch'"
    if inputs.u.shape[0] > _MAX_BATCH:
        return f"it takes batches up to {_MAX_BATCH}, and u has {inputs.u.shape[0]}; split it"
    return None


def saved_shape(inputs: ScanInputs) -> tuple[int, ...]:
    """Return the shape of the states before the chunks: (batch, chunks, blocks, padded d_state, lanes)."""
    batch, length, dim = inputs.u.shape
    chunks = (length + CHUNK - 1) // CHUNK
    return batch, chunks, _blocks(dim), _padded(inputs.A.shape[1]), BLOCK


def forward(inputs: ScanInputs, save: bool) -> Saved:
    """Return y, the last state and, if `save`, the states before each chunk."""
    sequences = [_rows(x) for x in (inputs.u, inputs.delta, inputs.B, inputs.C)]
    empty = _maker(inputs.u)
    y = inputs.u.new_empty(inputs.u.shape)
    last_state = empty(*inputs.state_shape)
    saved = empty(*saved_shape(inputs)) if save else None
    u, delta, B, C = sequences
    tensors: list[Tensor | None] = [u, delta, _rates(inputs.A), B, C]
    tensors += [dense(x) for x in (inputs.D, inputs.delta_bias, inputs.initial_state)]
    _launch("forward_kernel", [*tensors, y, last_state, saved], sequences, inputs)
    return y, last_state, saved


def backward(
    inputs: ScanInputs, grad_y: Tensor, grad_last_state: Tensor | None, saved: Tensor
) -> Gradients:
    """Return the gradients of the tensors from u to initial_state."""
    sequences = [_rows(x) for x in (grad_y, inputs.u, inputs.delta, inputs.B, inputs.C)]
    empty = _maker(inputs.u)
    batch, length, dim = inputs.u.shape
    d_state, blocks = inputs.A.shape[1], _blocks(dim)
    grad_y, u, delta, B, C = sequences
    D, bias = dense(inputs.D), dense(inputs.delta_bias)
    grad_u, grad_delta = inputs.u.new_empty(u.shape), inputs.delta.new_empty(u.shape)
    grad_B, grad_C = (empty(batch, blocks, length, d_state) for _ in range(2))
    grad_A, grad_state = (empty(batch, dim, d_state) for _ in range(2))
    grad_D, grad_bias = (None if x is None else empty(batch, dim) for x in (D, bias))
    scratch = empty(batch, blocks, CHUNK, _padded(d_state), BLOCK)
    tensors = [grad_y, dense(grad_last_state), u, delta, _rates(inputs.A), B, C, D, bias]
    tensors += [saved.contiguous(), scratch]
    tensors += [grad_u, grad_delta, grad_A, grad_B, grad_C, grad_D, grad_bias, grad_state]
    _launch("backward_kernel", tensors, sequences, inputs)
    grad_A, grad_D, grad_bias = (x if x is None else x.sum(0) for x in (grad_A, grad_D, grad_bias))
    grad_B, grad_C = grad_B.sum(1), grad_C.sum(1)
    return grad_u, grad_delta, grad_A, grad_B, grad_C, grad_D, grad_bias, grad_state


def _launch(
    kernel: str, tensors: list[Tensor | None], sequences: list[Tensor], inputs: ScanInputs
) -> None:
    """Run a kernel on (blocks of channels, samples), on the device that holds the tensors."""
    from mambavision_lab.ops.selective_scan.backends.triton import kernels

    batch, length, dim = inputs.u.shape
    strides = [stride for x in sequences for stride in x.stride()[:2]]
    options = options_of(length, inputs.A.shape[1], inputs.delta_softplus, inputs.reverse)
    with torch.cuda.device_of(inputs.u):
        run = getattr(kernels, kernel)[(_blocks(dim), batch)]
        run(*tensors, length, dim, *strides, **options, num_warps=1)


def options_of(length: int, d_state: int, delta_softplus: bool, reverse: bool) -> dict[str, Any]:
    """Return the constants that the kernels are compiled for."""
    sizes = {"D_STATE": d_state, "N": _padded(d_state), "BLOCK": BLOCK, "CHUNK": CHUNK}
    return sizes | {"LONG": length > _LONG, "SOFTPLUS": delta_softplus, "REVERSE": reverse}


def _padded(d_state: int) -> int:
    return 1 << (d_state - 1).bit_length()


def _blocks(dim: int) -> int:
    return -(-dim // BLOCK)


def _maker(u: Tensor) -> Any:
    """Make float32 buffers beside u, whatever torch's default dtype and device are at the moment."""
    return lambda *shape: u.new_empty(shape, dtype=torch.float32)


def _rows(x: Tensor) -> Tensor:
    """Return the tensor, or a copy whose last axis is dense."""
    if x.dtype == torch.float64:
        x = x.float()
    return x if x.stride(2) == 1 or x.shape[2] == 1 else x.contiguous()


def _rates(A: Tensor) -> Tensor:
    return (A.float() * math.log2(math.e)).contiguous()
