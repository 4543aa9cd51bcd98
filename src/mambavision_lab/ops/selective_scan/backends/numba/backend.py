"""The selective scan compiled by numba, for CPUs: from tensors to the record that the kernels read.

float32 and bfloat16 are read and written as they are, float16 is widened first; states are float32.
"""

import functools
import importlib.util
import logging

import numpy as np
import torch
from torch import Tensor

from mambavision_lab.errors import reason
from mambavision_lab.ops.selective_scan.backends.base import Gradients, Saved, ScanInputs, dense
from mambavision_lab.ops.selective_scan.backends.numba import openmp
from mambavision_lab.ops.selective_scan.backends.numba.call import (
    CALL,
    LANES,
    chunk_steps,
    scratch_bytes,
)
from mambavision_lab.ops.selective_scan.backends.numba.compiled import is_compiled, kernel_address

log = logging.getLogger(__name__)
# For what the kernels write, whatever torch's default dtype and device are at the moment.
_empty = functools.partial(torch.empty, dtype=torch.float32, device="cpu")
_zeros = functools.partial(torch.zeros, dtype=torch.float32, device="cpu")


@functools.cache
def is_available() -> bool:
    """Return whether numba is installed and, where kernels are yet to be compiled, can be imported."""
    if importlib.util.find_spec("numba") is None:
        return False
    try:
        if not is_compiled():
            import numba  # noqa: F401
    except Exception as error:
        log.warning("numba is installed but cannot be imported: %s", reason(error))
        return False
    return True


def why_not(inputs: ScanInputs) -> str | None:
    """Refuse other devices than CPUs, and float64."""
    if inputs.u.device.type != "cpu":
        return f"it runs on the CPU alone, and u is on {inputs.u.device}"
    if inputs.u.dtype == torch.float64:
        return "it computes in float32, and u is float64"
    return None


def saved_shape(inputs: ScanInputs) -> tuple[int, ...]:
    """Return the shape of the states before the chunks: (batch, chunks, blocks, d_state, lanes)."""
    (batch, length, dim), d_state = inputs.u.shape, inputs.A.shape[1]
    steps = chunk_steps(d_state)
    return batch, (length + steps - 1) // steps, -(-dim // LANES), d_state, LANES


def forward(inputs: ScanInputs, save: bool) -> Saved:
    """Return y, the last state and, if `save`, the states before each chunk."""
    call = _Call(inputs)
    y = call.sequence("y", call.u.new_empty(inputs.u.shape))
    last_state = _empty(inputs.state_shape)
    saved = _empty(saved_shape(inputs)) if save else None
    call.address(first_state=dense(inputs.initial_state), last_state=last_state, saved=saved)
    call.run("forward")
    return y.to(inputs.u.dtype), last_state, saved


def backward(
    inputs: ScanInputs, grad_y: Tensor, grad_last_state: Tensor | None, saved: Tensor
) -> Gradients:
    """Return the gradients of the tensors from u to initial_state."""
    call = _Call(inputs)
    call.sequence("grad_y", grad_y)
    grad_u = call.sequence("grad_u", call.u.new_empty(inputs.u.shape))
    grad_delta = call.sequence("grad_delta", call.delta.new_empty(inputs.u.shape))
    batch, _, blocks, d_state, lanes = saved.shape
    length, dim = inputs.u.shape[1:]
    grad_B = call.sequence("grad_B", _empty(batch * call.groups, length, d_state))
    grad_C = call.sequence("grad_C", _empty(batch * call.groups, length, d_state))
    grad_state = _empty(inputs.state_shape)
    call.address(first_state=dense(grad_last_state), last_state=grad_state, saved=saved)
    grad_A = _zeros(batch, blocks, d_state, lanes)
    grad_D, grad_bias = _zeros(2, batch, blocks, lanes).unbind(0)
    call.address(grad_A=grad_A, grad_D=grad_D, grad_bias=grad_bias)
    call.run("backward")
    if call.groups > 1:
        grad_B, grad_C = (x.view(batch, -1, length, d_state).sum(1) for x in (grad_B, grad_C))
    grad_A = grad_A.sum(0).transpose(1, 2).reshape(-1, d_state)[:dim]
    grad_D, grad_bias = (x.sum(0).flatten()[:dim] for x in (grad_D, grad_bias))
    return grad_u, grad_delta, grad_A, grad_B, grad_C, grad_D, grad_bias, grad_state


class _Call:
    """The record that the kernels read, and the tensors that must live as long as it."""

    def __init__(self, inputs: ScanInputs) -> None:
        self.reverse = inputs.reverse
        self.record = np.zeros((), CALL)
        self.tensors: list[Tensor] = []
        self.u = self.sequence("u", inputs.u)
        self.delta = self.sequence("delta", inputs.delta)
        self.sequence("B", inputs.B)
        self.sequence("C", inputs.C)
        self.address(A=dense(inputs.A), D=dense(inputs.D), delta_bias=dense(inputs.delta_bias))
        (batch, length, dim), d_state = inputs.u.shape, inputs.A.shape[1]
        blocks = -(-dim // LANES)
        # One task a sample; where those are too few for the cores, several share its blocks.
        threads = openmp.num_workers(batch * blocks)
        self.groups = 1 if batch % threads == 0 else min(blocks, -(-4 * threads // batch))
        self.workers = openmp.num_workers(batch * self.groups)
        each = scratch_bytes(dim, d_state)
        sizes = {"batch": batch, "length": length, "dim": dim, "d_state": d_state}
        sizes |= {"groups": self.groups, "softplus": inputs.delta_softplus, "scratch_bytes": each}
        for name, size in sizes.items():
            self.record[name] = size
        self.address(scratch=_empty(self.workers * each, dtype=torch.uint8))

    def sequence(self, name: str, x: Tensor) -> Tensor:
        """Record a tensor (batch, length, ...); returns it, or a copy that the kernels can read."""
        if x.dtype not in (torch.float32, torch.bfloat16):
            x = x.float()
        if x.stride(2) != 1 and x.shape[2] > 1:
            x = x.contiguous()
        self.tensors.append(x)
        item = x.element_size()
        start, step = x.data_ptr(), item * x.stride(1)
        if self.reverse:
            start, step = start + (x.shape[1] - 1) * step, -step
        self.record[name] = start, item * x.stride(0), step, x.dtype == torch.bfloat16
        return x

    def address(self, **tensors: Tensor | None) -> None:
        """Record the addresses of contiguous tensors; None is the address 0."""
        for name, x in tensors.items():
            if x is not None:
                self.record[name] = x.data_ptr()
                self.tensors.append(x)

    def run(self, kernel: str) -> None:
        """Run a kernel on all cores."""
        openmp.run(kernel_address(kernel), self.record.ctypes.data, self.workers)
