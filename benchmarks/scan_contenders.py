"""Define what `selective_scan.py` compares: the package's backends and alternatives to them.

loop     what implementations without a kernel do, in Mamba's own layout: the factors of all steps
         first, (batch, dim, length, d_state), then one slice a step under autograd, whose gradient is a
         tensor of full size each time (so it is not tried backward on long sequences)
mambapy  the parallel scan of mambapy on the same factors; pip install 'mambavision-lab[bench]'
c++      the numba kernels' algorithm, built by the benchmark with g++ or clang++, if installed; float32
"""

import ctypes
import importlib.util
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor

from mambavision_lab.ops.selective_scan import available_backends, selective_scan
from mambavision_lab.ops.selective_scan.backends.numba import backend as numba

# From u, delta, A, B, C and, for a backward pass, the gradient of y: y and the gradients of the five.
Call = Callable[[list[Tensor], Tensor | None], list[Tensor]]
Scan = Callable[..., Tensor]
LOOP_BACKWARD_LENGTH = 1024
FLAGS = ["-O3", "-march=native", "-ffp-contract=fast", "-shared", "-fPIC"]


def make_inputs(
    batch: int, dim: int, length: int, d_state: int, dtype: torch.dtype
) -> tuple[list[Tensor], Tensor]:
    """Make random u, delta, A, B, C in the ranges of a mixer, and a gradient of y."""
    torch.manual_seed(0)
    u, delta, grad_y = torch.randn(3, batch, length, dim).to(dtype).unbind(0)
    A = -torch.arange(1.0, d_state + 1).repeat(dim, 1)
    B, C = torch.randn(2, batch, length, d_state).to(dtype).unbind(0)
    inputs = [x.contiguous().requires_grad_() for x in (u, delta - 3, A, B, C)]
    return inputs, grad_y.contiguous()


def call(scan: Scan) -> Call:
    """Make a call of a scan: forward, or forward and backward."""

    def run(inputs: list[Tensor], grad_y: Tensor | None) -> list[Tensor]:
        if grad_y is None:
            with torch.no_grad():
                return [scan(*inputs)]
        y = scan(*inputs)
        return [y.detach(), *torch.autograd.grad(y, inputs, grad_y)]

    return run


def backend(name: str) -> Call:
    """Make a call of a backend of the package."""
    return call(lambda *inputs: selective_scan(*inputs, delta_softplus=True, backend=name))


def factors(u: Tensor, delta: Tensor, A: Tensor, B: Tensor) -> tuple[Tensor, Tensor]:
    """Compute decays and inputs of all steps, (batch, length, dim, d_state)."""
    delta = F.softplus(delta.float())
    decay = torch.exp(delta.unsqueeze(3) * A)
    return decay, (delta * u.float()).unsqueeze(3) * B.float().unsqueeze(2)


def loop(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """Run the recurrence step by step."""
    decay, added = (x.transpose(1, 2).contiguous() for x in factors(u, delta, A, B))
    h = torch.zeros_like(added[:, :, 0])
    outputs = []
    for t in range(u.shape[1]):
        h = decay[:, :, t] * h + added[:, :, t]
        outputs.append(torch.einsum("bdn,bn->bd", h, C[:, t].float()))
    return torch.stack(outputs, dim=1).to(u.dtype)


def mambapy(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """Run the parallel scan as mambapy's own block calls it."""
    from mambapy.pscan import pscan

    states = pscan(*factors(u, delta, A, B))
    return (states @ C.float().unsqueeze(3)).squeeze(3).to(u.dtype)


def build_cpp() -> Call | None:
    """Build the backend `numba` with its kernels replaced by those of C++; None without a compiler."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        return None
    source = Path(__file__).with_name("selective_scan.cpp")
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "scan.so")
        subprocess.run([compiler, *FLAGS, "-o", str(target), str(source)], check=True)
        library = ctypes.CDLL(str(target))

    def address(name: str) -> int | None:
        return ctypes.cast(getattr(library, name), ctypes.c_void_p).value

    def run(inputs: list[Tensor], grad_y: Tensor | None) -> list[Tensor]:
        with mock.patch.object(numba, "kernel_address", address):
            return backend("numba")(inputs, grad_y)

    return run


def contenders() -> dict[str, Call]:
    """Collect the contenders that can run here, by name."""
    found = {"loop": call(loop)}
    if importlib.util.find_spec("mambapy"):
        found["mambapy"] = call(mambapy)
    names = [name for name in ("numba", "torch") if name in available_backends()]
    if "numba" in names and (cpp := build_cpp()):
        found["c++"] = cpp
    return found | {name: backend(name) for name in names}


def can_take(name: str, length: int, dtype: torch.dtype, backward: bool) -> bool:
    """Tell whether a contender takes part."""
    if name == "c++":
        return dtype == torch.float32
    return not (name == "loop" and backward and length > LOOP_BACKWARD_LENGTH)
