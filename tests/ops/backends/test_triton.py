"""The Triton scan value by value, in Triton's interpreter on any machine and on a GPU where there is one.

The interpreter is chosen when Triton is first imported, so its tests run in a process of their own.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from scan_cases import admit, as_inputs, assert_same, expect, make_args, pattern, run
from tolerances import TOLERANCES

from mambavision_lab.ops.selective_scan import BackendUnavailableError, selective_scan
from mambavision_lab.ops.selective_scan.backends.registry import resolve
from mambavision_lab.ops.selective_scan.backends.triton import backend as triton

pytest.importorskip("triton", reason="Triton has no wheel for this platform")
on_kernels = pytest.mark.skipif(
    not triton.is_available(), reason="no CUDA device; the interpreter's process runs this"
)
needs_no_cuda = pytest.mark.skipif(
    triton.is_interpreted(), reason="holds outside of the interpreter only"
)


@pytest.mark.slow
@needs_no_cuda
def test_triton_scan_passes_its_tests_in_the_interpreter():
    folder = Path(__file__).parent
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
    command += [str(folder / "test_triton.py"), f"--rootdir={folder.parents[1]}"]
    result = subprocess.run(
        [*command, "-k", "kernels", "-rs"],
        env={**os.environ, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "passed" in result.stdout
    assert "skipped" not in result.stdout


@on_kernels
@pytest.mark.gpu
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize(
    ("length", "dim", "d_state", "dtype"),
    [
        (1, 3, 8, torch.float32),
        (7, 33, 5, torch.float32),
        (49, 1, 1, torch.float32),
        (63, 3, 16, torch.float32),
        (196, 3, 8, torch.float32),
        (2, 160, 8, torch.float32),
        (7, 33, 8, torch.bfloat16),
        (7, 33, 8, torch.float16),
    ],
    ids=str,
)
def test_kernels_match_reference(length, dim, d_state, dtype, reverse):
    args = make_args(length, dtype, batch=1 if length > 40 else 2, dim=dim, d_state=d_state)
    actual = run("triton", args, reverse=reverse)
    assert actual["y"].dtype == dtype
    assert all(actual[name].dtype == args[name].dtype for name in args)
    assert_same(actual, expect(args, reverse=reverse))


@on_kernels
@pytest.mark.gpu
@pytest.mark.parametrize("length", [31, 32, 33, 64, 65, 97])
def test_kernels_match_reference_around_chunk_borders(length):
    args = make_args(length, batch=1, dim=2, d_state=2)
    assert_same(run("triton", args), expect(args))


@on_kernels
@pytest.mark.gpu
def test_kernels_roundings_do_not_add_up_over_long_sequences():
    args = make_args(512, batch=1, dim=32, d_state=8)
    args["A"] *= 1e-4  # nearly neutral
    expected = expect(args, softplus=False)
    for name, x in run("triton", args, softplus=False).items():
        error = (x.double().cpu() - expected[name].cpu()).norm() / expected[name].norm().cpu()
        assert error <= 1e-6, name  # as in test_scan_accuracy.py, which is slow in the interpreter


@on_kernels
@pytest.mark.gpu
@pytest.mark.parametrize("missing", ["D", "delta_bias", "initial_state", "all"])
@pytest.mark.parametrize("softplus", [True, False], ids=["softplus", "plain"])
def test_kernels_match_reference_without_each_option(missing, softplus):
    names = ["D", "delta_bias", "initial_state"] if missing == "all" else [missing]
    args = make_args(5, without=names)
    options = {"softplus": softplus, "last_state": "initial_state" not in names}
    assert_same(run("triton", args, **options), expect(args, **options))


@on_kernels
@pytest.mark.gpu
def test_kernels_keep_the_softplus_exact_where_it_is_small_or_large():
    args = make_args(13, batch=1, dim=1, d_state=1, without=["delta_bias"])
    args["delta"] = torch.linspace(-60, 60, 13).reshape(1, 13, 1)
    args["u"] = torch.ones(1, 13, 1)
    args["A"] = -torch.full((1, 1), 1e3)  # nothing is carried from step to step ..
    args["B"] = args["C"] = torch.ones(1, 13, 1)
    args["D"] = args["initial_state"] = None
    args["delta"] = args["delta"].flip(1)  # .. and the small steps come last
    wide = expect(args, last_state=False)
    actual = run("triton", args, last_state=False)
    for name in ("y", "u", "delta"):
        torch.testing.assert_close(actual[name].double().cpu(), wide[name], rtol=3e-6, atol=0)


@on_kernels
@pytest.mark.gpu
def test_kernels_take_strided_inputs_and_mixed_dtypes():
    args = make_args(9, dim=4)
    args["u"] = args["u"].transpose(1, 2).contiguous().transpose(1, 2).bfloat16()
    args["delta"] = torch.cat([args["delta"]] * 2, dim=2)[..., 4:]
    args["B"] = args["B"][:1].expand(2, 9, 4)
    args["C"] = torch.stack([args["C"]] * 2, dim=3)[..., 1].half()
    args["A"] = args["A"].t().contiguous().t()
    grad_y = torch.ones(()).expand(2, 9, 4)
    actual = run("triton", args, grad_y=grad_y)
    assert all(actual[name].dtype == args[name].dtype for name in args)
    assert_same(actual, expect(args, grad_y=grad_y))


@on_kernels
@pytest.mark.gpu
@pytest.mark.parametrize("name", ["u", "delta"])
def test_kernels_pass_nan_on_to_later_steps_of_its_channel_only(name):
    args = make_args(5, dim=3)
    clean = run("triton", args)["y"]
    args[name][0, 2, 1] = torch.nan
    y = run("triton", args)["y"]
    is_hit = torch.zeros_like(y, dtype=torch.bool)
    is_hit[0, 2:, 1] = True
    assert torch.equal(y.isnan(), is_hit)
    assert torch.equal(y[~is_hit], clean[~is_hit])


@on_kernels
@pytest.mark.gpu
def test_kernels_read_no_uninitialised_memory_and_repeat_to_the_bit(nan_buffers):
    args = make_args(66, batch=1, dim=3, d_state=3)
    first, second = run("triton", args), run("triton", args)
    assert_same(first, expect(args))
    assert all(torch.equal(first[name], second[name]) for name in first)


@on_kernels
@pytest.mark.gpu
def test_kernels_give_the_last_state_and_its_gradient_alone():
    args = make_args(6)
    grads = []
    for name in ("triton", "reference"):
        given = {k: x.requires_grad_() for k, x in admit(name, args).items()}
        _, state = selective_scan(**given, return_last_state=True, backend=name)
        assert not state.isnan().any()
        del given["C"], given["D"]  # which the state does not depend on
        grads.append(torch.autograd.grad(state, list(given.values()), pattern(state)))
    for actual, expected in zip(*grads, strict=True):
        torch.testing.assert_close(actual.cpu(), expected, **TOLERANCES[torch.float32])


@on_kernels
@pytest.mark.gpu
@pytest.mark.parametrize("shape", [(2, 0), (0, 5)], ids=["no length", "no batch"])
def test_kernels_are_not_needed_for_a_scan_of_nothing(shape):
    args = make_args(shape[1], batch=shape[0])
    results = run("triton", args)
    assert results["y"].shape == (*shape, 6)
    assert torch.equal(results["last_state"], admit("triton", args)["initial_state"])
    assert torch.equal(results["A"], torch.zeros_like(results["A"]))


@on_kernels
@pytest.mark.gpu
def test_kernels_refuse_what_they_cannot_take():
    for changes, message in [
        ({"dtype": torch.float64}, "in float32, and u is float64; take 'torch'"),
        ({"d_state": 65}, "d_state up to 64, and A has 65; take 'torch'"),
    ]:
        args = make_args(2, **changes)
        if torch.cuda.is_available():
            args = {name: x.cuda() for name, x in args.items()}
        with pytest.raises(BackendUnavailableError, match=message):
            selective_scan(**args, backend="triton")


@needs_no_cuda
@pytest.mark.parametrize("length", [0, 3])
def test_triton_names_the_device_of_tensors_that_it_cannot_take(length):
    message = (
        "'triton' cannot take this call: it runs on CUDA devices alone, and u is on cpu; move it"
    )
    with pytest.raises(BackendUnavailableError, match=message):
        selective_scan(**make_args(length), backend="triton")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_auto_takes_triton_for_cuda_tensors():
    args = {name: x.cuda() for name, x in make_args(2).items()}
    assert resolve("auto", as_inputs(args)) is triton


def test_auto_never_takes_triton_for_cpu_tensors():
    args = make_args(2)
    assert resolve("auto", as_inputs(args)) is not triton


def test_no_import_imports_triton_and_no_scan_on_the_cpu_its_kernels():
    # By a scan, Triton may well be: torch's custom operators load its compiler, which does so.
    code = (
        "import sys, torch\n"
        "from mambavision_lab.ops.selective_scan import selective_scan\n"
        "print('triton' in sys.modules)\n"
        "x = torch.ones(1, 2, 1)\n"
        "selective_scan(x, x, -x[0, :1], x, x)\n"
        "print('mambavision_lab.ops.selective_scan.backends.triton.kernels' in sys.modules)\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["False", "False"]
