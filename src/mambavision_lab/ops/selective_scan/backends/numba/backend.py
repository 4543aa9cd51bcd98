"""The selective scan compiled by numba, for CPUs; the kernels are in `kernels.py`.

float32 and bfloat16 are read and written as they are, float16 is widened first; states are float32.
They are compiled when first needed and kept; see `compiled.py`.
"""

import functools
import importlib.util
import logging

import numpy as np
import torch
from torch import Tensor

from mambavision_lab.ops.selective_scan.backends.numba import openmp
from mambavision_lab.ops.selective_scan.backends.numba.call import (
    CALL,
    LANES,
    chunk_steps,
    scratch_bytes,
)
from mambavision_lab.ops.selective_scan.backends.numba.compiled import is_compiled, kernel_address

log = logging.getLogger(__name__)
# What the kernels write to, whatever torch's default dtype and device are at the moment.
_empty = functools.partial(torch.empty, dtype=torch.float32, device="cpu")
_zeros = functools.partial(torch.zeros, dtype=torch.float32, device="cpu")


@functools.cache
def is_available() -> bool:
    """Whether numba is installed and, where the kernels are yet to be compiled, can be imported."""
    if importlib.util.find_spec("numba") is None:
        return False
    try:
        if not is_compiled():
            import numba  # noqa: F401
    except Exception as error:
        log.warning("numba is installed but cannot be imported: %s", error)
        return False
    return True


def why_not(u: Tensor, A: Tensor) -> str | None:
    """Only CPUs, and no float64."""
    if u.device.type != "cpu":
        return f"it runs on the CPU alone, and u is on {u.device}"
    if u.dtype == torch.float64:
        return "it computes in float32, and u is float64"
    return None


def saved_shape(u: Tensor, A: Tensor) -> tuple[int, ...]:
    """The state before each chunk: (batch, chunks, blocks, d_state, lanes)."""
    steps = chunk_steps(A.shape[1])
    chunks, blocks = (u.shape[1] + steps - 1) // steps, -(-A.shape[0] // LANES)
    return u.shape[0], chunks, blocks, A.shape[1], LANES


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
    """Return y, the last state and, if `save`, the states before each chunk."""
    call = _Call(u, delta, A, B, C, D, delta_bias, delta_softplus, reverse)
    y = call.sequence("y", call.u.new_empty(u.shape))
    last_state = _empty(u.shape[0], *A.shape)
    call.address(first_state=_dense(initial_state), last_state=last_state)
    saved = _empty(saved_shape(u, A)) if save else None
    call.address(saved=saved)
    call.run("forward")
    return y.to(u.dtype), last_state, saved


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
    call = _Call(u, delta, A, B, C, D, delta_bias, delta_softplus, reverse)
    call.sequence("grad_y", grad_y)
    grad_u = call.sequence("grad_u", call.u.new_empty(u.shape))
    grad_delta = call.sequence("grad_delta", call.delta.new_empty(u.shape))
    tasks = u.shape[0] * call.groups
    grad_B = call.sequence("grad_B", _empty(tasks, *B.shape[1:]))
    grad_C = call.sequence("grad_C", _empty(tasks, *B.shape[1:]))
    grad_state = _empty(u.shape[0], *A.shape)
    call.address(first_state=_dense(grad_last_state), last_state=grad_state, saved=saved)
    batch, _, blocks, d_state, lanes = saved.shape
    grad_A = _zeros(batch, blocks, d_state, lanes)
    grad_D, grad_bias = _zeros(2, batch, blocks, lanes).unbind(0)
    call.address(grad_A=grad_A, grad_D=grad_D, grad_bias=grad_bias)
    call.run("backward")
    if call.groups > 1:
        grad_B, grad_C = (x.view(batch, call.groups, *B.shape[1:]).sum(1) for x in (grad_B, grad_C))
    dim = A.shape[0]
    grad_A = grad_A.sum(0).transpose(1, 2).reshape(-1, d_state)[:dim]
    grad_D, grad_bias = (x.sum(0).flatten()[:dim] for x in (grad_D, grad_bias))
    results = (grad_u, grad_delta, grad_A, grad_B, grad_C, grad_D, grad_bias, grad_state)
    inputs = (u, delta, A, B, C, D, delta_bias, initial_state)
    pairs = zip(inputs, results, strict=True)
    return tuple(None if x is None else grad.to(x.dtype).contiguous() for x, grad in pairs)


class _Call:
    """The record that the kernels read, and the tensors that must live as long as it."""

    def __init__(
        self,
        u: Tensor,
        delta: Tensor,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        D: Tensor | None,
        delta_bias: Tensor | None,
        delta_softplus: bool,
        reverse: bool,
    ) -> None:
        self.reverse = reverse
        self.record = np.zeros((), CALL)
        self.tensors: list[Tensor] = []
        self.u, self.delta = self.sequence("u", u), self.sequence("delta", delta)
        self.sequence("B", B)
        self.sequence("C", C)
        batch, length, dim = u.shape
        self.address(A=_dense(A), D=_dense(D), delta_bias=_dense(delta_bias))
        blocks = -(-dim // LANES)
        # One task a sample; where those are too few for the cores, several share its blocks.
        threads = openmp.num_workers(batch * blocks)
        self.groups = 1 if batch % threads == 0 else min(blocks, -(-4 * threads // batch))
        self.workers = openmp.num_workers(batch * self.groups)
        each = scratch_bytes(dim, A.shape[1])
        sizes = {"batch": batch, "length": length, "dim": dim, "d_state": A.shape[1]}
        sizes |= {"groups": self.groups, "softplus": delta_softplus, "scratch_bytes": each}
        for name, size in sizes.items():
            self.record[name] = size
        self.address(scratch=_empty(self.workers * each, dtype=torch.uint8))

    def sequence(self, name: str, x: Tensor) -> Tensor:
        """Name a tensor (batch, length, ...); returns it, or a copy that the kernels can read."""
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
        """Name contiguous float32 tensors; None is the address 0."""
        for name, x in tensors.items():
            if x is not None:
                self.record[name] = x.data_ptr()
                self.tensors.append(x)

    def run(self, kernel: str) -> None:
        """Run a kernel on all cores."""
        openmp.run(kernel_address(kernel), self.record.ctypes.data, self.workers)


def _dense(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.float().contiguous()
