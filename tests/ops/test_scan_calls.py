"""The selective scan's public call: what it refuses, and how it chooses a backend."""

import logging
from types import SimpleNamespace

import pytest
import torch
from scan_cases import FAST, NAMES, admit, make_args

from mambavision_lab.ops.selective_scan import (
    BackendUnavailableError,
    available_backends,
    selective_scan,
)
from mambavision_lab.ops.selective_scan.backends import registry as backends


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"u": (7, 6)}, r"wants u \(batch, length, dim\) and A \(dim, d_state\), got u \(7, 6\), "),
        ({"A": (6,)}, r"wants u \(batch, length, dim\) and A .*, A \(6,\), B \(2, 7, 4\)"),
        (
            {"A": (6, 0), "B": (2, 7, 0), "C": (2, 7, 0), "initial_state": (2, 6, 0)},
            r"wants a d_state of at least 1, got .* A \(6, 0\)",
        ),
        ({"delta": (2, 7, 5)}, r"wants delta \(2, 7, 6\), got u \(2, 7, 6\), delta \(2, 7, 5\)"),
        ({"A": (5, 4)}, r"wants A \(6, 4\), got .* A \(5, 4\)"),
        ({"B": (2, 8, 4)}, r"wants B \(2, 7, 4\), got .* B \(2, 8, 4\)"),
        ({"C": (2, 7, 3)}, r"wants C \(2, 7, 4\), got .* C \(2, 7, 3\)"),
        ({"D": (1,)}, r"wants D \(6,\), got .* D \(1,\)"),
        ({"initial_state": (2, 4, 6)}, r"wants initial_state \(2, 6, 4\), got "),
        ({"delta_bias": (6, 1)}, r"wants delta_bias \(6,\), got .* delta_bias \(6, 1\)"),
        (
            {"B": (1, 7, 4), "D": (5,)},
            r"wants B \(2, 7, 4\), D \(6,\), got .* B \(1, 7, 4\).* D \(5,\)",
        ),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else "",
)
def test_scan_names_wrong_shapes(changes, message):
    args = make_args(7) | {name: torch.zeros(shape) for name, shape in changes.items()}
    with pytest.raises(ValueError, match=message):
        selective_scan(**args)


@pytest.mark.parametrize("dtype", [torch.int64, torch.complex64], ids=str)
def test_scan_names_wrong_dtypes(dtype):
    args = make_args(7)
    args["C"] = args["C"].to(dtype)
    with pytest.raises(
        ValueError, match=f"real floating-point tensors, got u torch.float32.*C {dtype}"
    ):
        selective_scan(**args)


def test_scan_names_differing_devices():
    args = make_args(7)
    args["B"] = args["B"].to("meta")
    with pytest.raises(ValueError, match=r"all tensors on one device, got u cpu, .*B meta, C cpu"):
        selective_scan(**args)


def test_scan_lists_known_backends_for_an_unknown_one():
    with pytest.raises(
        ValueError, match=r"backend 'fast' is unknown; choose auto or one of .*'torch'.*'reference'"
    ):
        selective_scan(**make_args(7), backend="fast")


@pytest.fixture
def stub_backends(monkeypatch):
    """Backends of which the first is missing, the second refuses and the third must be named."""

    def stub(is_available, reason):
        return SimpleNamespace(is_available=lambda: is_available, why_not=lambda inputs: reason)

    order = {"missing": stub(False, None), "fussy": stub(True, "length 7 is odd")}
    torch_backend = backends.BACKENDS["torch"]
    order |= {"shy": torch_backend, "torch": torch_backend}
    monkeypatch.setattr(backends, "NAMED_ONLY", {"shy"})
    monkeypatch.setattr(backends, "_logged", set())
    backends_before = dict(backends.BACKENDS)
    backends.BACKENDS.clear()
    backends.BACKENDS.update(order)
    yield
    backends.BACKENDS.clear()
    backends.BACKENDS.update(backends_before)


@pytest.mark.parametrize(
    ("backend", "reason"), [("missing", "it is not installed"), ("fussy", "length 7 is odd")]
)
def test_named_backend_never_falls_back(stub_backends, backend, reason):
    message = f"backend '{backend}' cannot take this call: {reason}"
    with pytest.raises(BackendUnavailableError, match=message):
        selective_scan(**make_args(7), backend=backend)


def test_auto_takes_first_backend_that_can_and_logs_it_once(stub_backends, caplog):
    args = make_args(7)
    with caplog.at_level(logging.INFO, logger=backends.__name__):
        selective_scan(**args)
        y = selective_scan(**args)
    assert torch.equal(y, selective_scan(**args, backend="shy"))
    assert caplog.messages == ["selective_scan runs on backend 'torch'"]
    assert available_backends() == ["fussy", "shy", "torch", "reference"]


@pytest.mark.parametrize("backend", ["reference", *FAST])
@pytest.mark.parametrize("name", NAMES)
def test_every_backend_refuses_what_does_not_fit(backend, name):
    args = make_args(7)
    changes = {
        "floating-point tensors": args[name].long(),
        "on one device": args[name].to("meta"),
        # Of u or A the first size differs from that of all others.
        "selective_scan wants .*, got u ": args[name][:1],
    }
    for message, changed in changes.items():
        with pytest.raises(ValueError, match=message):
            selective_scan(**args | {name: changed}, backend=backend)


def test_numba_names_what_it_cannot_take():
    pytest.importorskip("numba")
    message = "backend 'numba' cannot take this call: it computes in float32, and u is float64"
    with pytest.raises(BackendUnavailableError, match=message):
        selective_scan(**make_args(7, torch.float64), backend="numba")


@pytest.mark.parametrize("backend", ["reference", *FAST])
@pytest.mark.parametrize("name", NAMES)
def test_nan_passes_through_and_stays_in_its_sample_or_channel(backend, name):
    args = admit(backend, make_args(40))
    args[name].view(-1)[0] = torch.nan
    inputs = {k: x.requires_grad_() for k, x in args.items()}
    y = selective_scan(**inputs, delta_softplus=True, backend=backend)
    y.sum().backward()
    assert y[0, 0, 0].isnan()
    assert y[1, :, 1].isfinite().all()  # another sample's other channel
