"""The scan of the package mamba_ssm, through a stand-in of the true signature (it needs CUDA to install)."""

import sys
from types import ModuleType

import pytest
import torch
from scan_cases import admit, as_inputs, assert_same, expect, make_args, run

from mambavision_lab.ops.selective_scan import (
    BackendUnavailableError,
    selective_scan,
)
from mambavision_lab.ops.selective_scan.backends import mamba_ssm, pytorch
from mambavision_lab.ops.selective_scan.backends import registry as backends
from mambavision_lab.ops.selective_scan.backends.base import ScanInputs


class StandIn(torch.autograd.Function):
    """Like theirs, an autograd function around kernels; here those of the backend "torch"."""

    @staticmethod
    def forward(ctx, delta_softplus, u, delta, A, B, C, D, delta_bias):
        assert u.shape == delta.shape
        assert B.shape == C.shape == (u.shape[0], A.shape[1], u.shape[2])
        assert u.dtype == delta.dtype == B.dtype == C.dtype
        sequences = [x.transpose(1, 2) for x in (u, delta, B, C)]
        u, delta, B, C = sequences
        ctx.given = ScanInputs(u, delta, A, B, C, D, delta_bias, None, delta_softplus, False)
        y, state, ctx.starts = pytorch.forward(ctx.given, save=True)
        ctx.mark_non_differentiable(state)
        return y.transpose(1, 2), state

    @staticmethod
    def backward(ctx, grad_y, _):
        grads = [*pytorch.backward(ctx.given, grad_y.transpose(1, 2), None, ctx.starts)[:7]]
        for index in (0, 1, 3, 4):
            grads[index] = grads[index].transpose(1, 2)
        return (None, *grads)


def selective_scan_fn(
    u,
    delta,
    A,
    B,
    C,
    D=None,
    z=None,
    delta_bias=None,
    delta_softplus=False,
    return_last_state=False,
):
    y, state = StandIn.apply(delta_softplus, u, delta, A, B, C, D, delta_bias)
    return (y, state) if return_last_state else y


@pytest.fixture
def _stand_in(monkeypatch):
    module = ModuleType("mamba_ssm.ops.selective_scan_interface")
    module.selective_scan_fn = selective_scan_fn
    for name in ("mamba_ssm", "mamba_ssm.ops"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(mamba_ssm, "is_available", lambda: True)
    monkeypatch.setattr(mamba_ssm, "why_not", lambda inputs: None)
    mamba_ssm._scan.cache_clear()
    yield
    mamba_ssm._scan.cache_clear()


@pytest.mark.usefixtures("_stand_in")
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("without", [(), ("D",), ("D", "delta_bias")], ids=str)
def test_mamba_ssm_scan_matches_reference(without, dtype, reverse):
    args = make_args(7, dtype, without=("initial_state", *without))
    options = {"reverse": reverse, "last_state": False}
    assert_same(run("mamba_ssm", args, **options), expect(args, **options))


@pytest.mark.usefixtures("_stand_in")
def test_mamba_ssm_refuses_an_initial_state():
    with pytest.raises(BackendUnavailableError, match="takes no initial_state; take 'auto'"):
        selective_scan(**make_args(3), backend="mamba_ssm")


@pytest.mark.usefixtures("_stand_in")
def test_mamba_ssm_refuses_a_gradient_of_the_last_state():
    args = make_args(3, without=["initial_state"])
    with pytest.raises(BackendUnavailableError, match="no gradient of the last state; take 'auto'"):
        run("mamba_ssm", args)


@pytest.mark.usefixtures("_stand_in")
@pytest.mark.parametrize("shape", [(2, 0), (0, 5)], ids=["no length", "no batch"])
def test_mamba_ssm_scan_of_nothing_is_empty(shape):
    args = make_args(shape[1], batch=shape[0], without=["initial_state"])
    results = run("mamba_ssm", args, last_state=False)
    assert results["y"].shape == (*shape, 6)
    assert torch.equal(results["A"], torch.zeros(6, 4))


@pytest.mark.usefixtures("_stand_in")
def test_auto_never_takes_mamba_ssm():
    args = make_args(2)
    assert "mamba_ssm" in backends.NAMED_ONLY
    assert backends.resolve("auto", as_inputs(args)) is not mamba_ssm


@pytest.mark.parametrize("length", [0, 3])
def test_mamba_ssm_names_the_device_of_tensors_that_it_cannot_take(length):
    message = "'mamba_ssm' cannot take this call: it runs on CUDA devices alone, and u is on cpu"
    with pytest.raises(BackendUnavailableError, match=message):
        selective_scan(**make_args(length), backend="mamba_ssm")


def test_a_backend_that_is_missing_says_what_to_do(monkeypatch):
    monkeypatch.setattr(mamba_ssm, "is_available", lambda: False)
    monkeypatch.setattr(mamba_ssm, "why_not", lambda inputs: None)
    with pytest.raises(BackendUnavailableError, match="it is not installed; install it, or take"):
        selective_scan(**make_args(3), backend="mamba_ssm")


@pytest.mark.gpu
@pytest.mark.skipif(not mamba_ssm.is_available(), reason="needs a CUDA device and mamba_ssm")
def test_installed_mamba_ssm_matches_reference():
    args = make_args(49, dim=32, d_state=8, without=["initial_state"])
    assert admit("mamba_ssm", args)["u"].is_cuda
    assert_same(run("mamba_ssm", args, last_state=False), expect(args, last_state=False))
