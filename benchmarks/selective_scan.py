"""Time the selective scan's backends: python benchmarks/selective_scan.py (about five minutes).

    loop     what implementations without a kernel do, in Mamba's own layout: decay factors
             (batch, dim, length, d_state) for all steps first, then one slice a step under autograd,
             whose gradient is a tensor of full size each time (so not tried backward on long sequences)
    mambapy  the parallel scan of mambapy, on the same factors; pip install 'mambavision-lab[bench]'
    c++      the numba kernels' algorithm, built with g++ on the spot where there is one

Forward, and forward with backward, interleaved in one process, one core and two, float32 and bfloat16;
a row is printed only after all have agreed with `torch` in float64. Extra peak memory is that of the
process over what it held before the call (Linux).
"""

import argparse
import ctypes
import gc
import platform
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor

from mambavision_lab.ops.selective_scan import available_backends, numba, selective_scan

# (batch, dim, length, d_state): the two token stages of the published T at 224 px with batch 32, and
# long sequences.
SHAPES = [(32, 160, 196, 8), (32, 320, 49, 8), (2, 192, 4096, 8), (2, 192, 4096, 16)]
FLAGS = ["-O3", "-march=native", "-ffp-contract=fast", "-shared", "-fPIC"]
Scan = Callable[..., Tensor]


def make_inputs(
    batch: int, dim: int, length: int, d_state: int, dtype: torch.dtype
) -> list[Tensor]:
    """Random arguments u, delta, A, B, C as the mixer gives them."""
    torch.manual_seed(0)
    u, delta = torch.randn(2, batch, length, dim).to(dtype).unbind(0)
    A = -torch.arange(1.0, d_state + 1).repeat(dim, 1)
    B, C = torch.randn(2, batch, length, d_state).to(dtype).unbind(0)
    return [x.contiguous().requires_grad_() for x in (u, delta - 3, A, B, C)]


def factors(u: Tensor, delta: Tensor, A: Tensor, B: Tensor) -> tuple[Tensor, Tensor]:
    """Decay and drive of all steps, (batch, length, dim, d_state)."""
    delta = F.softplus(delta.float())
    decay = torch.exp(delta.unsqueeze(3) * A)
    return decay, (delta * u.float()).unsqueeze(3) * B.float().unsqueeze(2)


def loop(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """The recurrence step by step on precomputed factors (batch, dim, length, d_state)."""
    decay, drive = (x.transpose(1, 2).contiguous() for x in factors(u, delta, A, B))
    h = torch.zeros_like(drive[:, :, 0])
    outputs = []
    for t in range(u.shape[1]):
        h = decay[:, :, t] * h + drive[:, :, t]
        outputs.append(torch.einsum("bdn,bn->bd", h, C[:, t].float()))
    return torch.stack(outputs, dim=1).to(u.dtype)


def mambapy_scan(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """As in mambapy's own MambaBlock."""
    from mambapy.pscan import pscan

    states = pscan(*factors(u, delta, A, B))
    return (states @ C.float().unsqueeze(3)).squeeze(3).to(u.dtype)


def ours(backend: str) -> Scan:
    """A backend of the package."""
    return lambda *inputs: selective_scan(*inputs, delta_softplus=True, backend=backend)


def build_cpp() -> Scan | None:
    """The backend `numba` with its kernels replaced by those of C++, or None without a compiler."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        return None
    source = Path(__file__).with_suffix(".cpp")
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "scan.so")
        subprocess.run([compiler, *FLAGS, "-o", str(target), str(source)], check=True)
        library = ctypes.CDLL(str(target))

    def address(name: str) -> int | None:
        return ctypes.cast(getattr(library, name), ctypes.c_void_p).value

    def scan(*inputs: Tensor) -> Tensor:
        with mock.patch.object(numba, "kernel_address", address):
            y = ours("numba")(*inputs)
        if y.requires_grad:  # its backward runs later, and must find the same kernels
            y.register_hook(lambda grad: patched.start() and None)
            inputs[0].register_hook(lambda grad: None)
        return y

    patched = mock.patch.object(numba, "kernel_address", address)
    scan.patched = patched  # type: ignore[attr-defined]
    return scan


def contenders(dtype: torch.dtype) -> dict[str, Scan]:
    """Everything that can run here, by name."""
    found: dict[str, Scan] = {"loop": loop}
    try:
        import mambapy.pscan  # noqa: F401

        found["mambapy"] = mambapy_scan
    except ImportError:
        print("mambapy is not installed; pip install 'mambavision-lab[bench]'")
    if dtype == torch.float32 and (cpp := build_cpp()):
        found["c++"] = cpp
    names = [name for name in available_backends() if name in ("numba", "torch")]
    return found | {name: ours(name) for name in names}
