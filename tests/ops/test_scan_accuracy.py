"""The accuracy of float32: every backend's outputs and gradients in float32 against float64."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from scan_cases import each_backend, run

from mambavision_lab.ops.selective_scan import selective_scan

LARGEST_ERROR = 1e-6  # of each result as a whole: norm of the difference over the norm; 17 x 2**-24
REGIMES = {
    "usual": {"rates": (-16.0, -1.0), "steps": (0.0, 0.1)},
    "strong decay": {"rates": (-16.0, -1.0), "steps": (0.5, 2.0)},
    "large steps": {"rates": (-16.0, -0.1), "steps": (0.0, 20.0)},
    "nearly neutral": {"rates": (-1e-4, 0.0), "steps": (0.0, 1.0)},
    "nearly neutral, large steps": {"rates": (-1e-4, 0.0), "steps": (0.0, 20.0)},
}


def make_args(length, rates, steps):
    dim, d_state = 18, 8

    def between(low, high, *shape):
        return low + (high - low) * torch.rand(shape)

    return {
        "u": torch.randn(2, length, dim),
        "delta": between(*steps, 2, length, dim),
        "A": between(*rates, dim, d_state),
        "B": torch.randn(2, length, d_state),
        "C": torch.randn(2, length, d_state),
        "D": torch.randn(dim),
        "delta_bias": torch.zeros(dim),
        "initial_state": torch.randn(2, dim, d_state),
    }


@each_backend
@pytest.mark.parametrize("length", [1, 7, 49, 63, 196, 4096])
@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("softplus", [False, True], ids=["plain", "softplus"])
def test_float32_scan_is_accurate(backend, length, regime, softplus):
    args = make_args(length, **REGIMES[regime])
    if softplus:  # the same steps, through the softplus and its bias
        args["delta_bias"] -= 0.5
        args["delta"] = torch.log(torch.expm1(args["delta"].double() + 1e-3)).float() + 0.5
    grad_y = torch.randn_like(args["u"])
    # `torch` in float64, which equals the reference there: the reference takes minutes for 4096 steps.
    wide = {name: x.double() for name, x in args.items()}
    expected = run("torch", wide, grad_y=grad_y, softplus=softplus)
    actual = run(backend, args, grad_y=grad_y, softplus=softplus)
    errors = {
        name: ((x.double().cpu() - expected[name]).norm() / expected[name].norm()).item()
        for name, x in actual.items()
    }
    assert max(errors.values()) <= LARGEST_ERROR, errors


def test_torch_backend_in_float64_equals_the_reference_over_long_sequences():
    args = {n: x.double() for n, x in make_args(1200, **REGIMES["large steps"]).items()}
    y, expected = (selective_scan(**args, backend=b) for b in ("torch", "reference"))
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.slow
def test_numba_scan_is_accurate_on_processors_without_avx512(tmp_path):
    vectors = pytest.importorskip("mambavision_lab.ops.selective_scan.backends.numba.vectors")
    if not vectors.HAS_AVX512:
        pytest.skip("this processor has no AVX-512: the other tests are of this")
    program = """
import torch
from llvmlite import binding as llvm
from mambavision_lab.ops.selective_scan.backends.numba import compiled, vectors

key, _ = compiled._key_and_machine()
target = llvm.Target.from_default_triple()
older = target.create_target_machine(cpu="haswell", opt=3, codemodel="jitdefault", jit=True)
compiled._key_and_machine = lambda: (key, older)
vectors.HAS_AVX512 = False

from scan_cases import assert_same, expect, make_args, run
from test_scan_accuracy import REGIMES, test_float32_scan_is_accurate

torch.manual_seed(0)
for regime in REGIMES:
    for softplus in (False, True):
        test_float32_scan_is_accurate("numba", 300, regime, softplus)
args = make_args(40, torch.bfloat16, dim=37)
assert_same(run("numba", args), expect(args))
"""
    here = Path(__file__).parent
    path = os.pathsep.join(map(str, [here, here.parent, *sys.path]))
    environment = os.environ | {"PYTHONPATH": path, "NUMBA_CACHE_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
    assert {path.suffix for path in tmp_path.iterdir()} == {".o"}
