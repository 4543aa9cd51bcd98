"""Every backend of the selective scan against the reference, and the checks of the public call."""

import itertools
import logging
from types import SimpleNamespace

import pytest
import torch
from tolerances import TOLERANCES, assert_close

from mambavision_lab.ops.selective_scan import (
    BackendUnavailableError,
    api,
    available_backends,
    pytorch,
    selective_scan,
)

FAST = [name for name in available_backends() if name != "reference"]
NAMES = ("u", "delta", "A", "B", "C", "D", "delta_bias")
each_backend = pytest.mark.parametrize("backend", FAST)


def make_args(length, dtype=torch.float32, batch=2, dim=6, d_state=4, D=True, delta_bias=True):
    """Random arguments by name: data in dtype, parameters in float32 (float64 with float64)."""
    wide = torch.promote_types(dtype, torch.float32)
    args = {
        "u": torch.randn(batch, length, dim),
        "delta": torch.rand(batch, length, dim),
        "A": -torch.rand(dim, d_state) - 0.1,
        "B": torch.randn(batch, length, d_state),
        "C": torch.randn(batch, length, d_state),
        "D": torch.randn(dim) if D else None,
        "delta_bias": torch.rand(dim) if delta_bias else None,
    }
    dtypes = {name: wide if name in ("A", "D", "delta_bias") else dtype for name in NAMES}
    return {name: x if x is None else x.to(dtypes[name]) for name, x in args.items()}


def admit(backend, args):
    """Move the arguments to a device that the backend takes; where there is none, skip and say why."""
    for device in ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]:
        moved = {name: x if x is None else x.detach().to(device) for name, x in args.items()}
        reason = api._why_not(api._ORDER[backend], moved["u"], moved["A"])
        if reason is None:
            return moved
    return pytest.skip(f"{backend}: {reason}")


def run(backend, args, grad_y=None, softplus=True):
    """Return y and the gradient of every argument for the output gradient grad_y."""
    leaves = admit(backend, args)
    given = {name: x.requires_grad_() for name, x in leaves.items() if x is not None}
    y = selective_scan(**leaves, delta_softplus=softplus, backend=backend)
    if grad_y is None:  # multiples of 1/4, exact in every dtype
        grad_y = ((torch.arange(y.numel()) * 7 % 9 - 4) / 4).reshape(y.shape)
    grads = torch.autograd.grad(y, list(given.values()), grad_y.to(y))
    return {"y": y.detach(), **dict(zip(given, grads, strict=True))}


def expect(args, **options):
    """What the reference gives in float64."""
    return run("reference", {k: x if x is None else x.double() for k, x in args.items()}, **options)


def assert_same(actual, expected):
    """Compare output and gradients, each at the tolerance of its own dtype."""
    assert actual.keys() == expected.keys()
    for name, x in actual.items():
        torch.testing.assert_close(
            x.double().cpu(),
            expected[name].double().cpu(),
            **TOLERANCES[x.dtype],
            msg=lambda text, name=name: f"{name}: {text}",
        )


@pytest.mark.parametrize("backend", ["reference", *FAST])
def test_scan_equals_its_unrolled_sum(backend):
    args = make_args(6, torch.float64)
    u, delta, A, B, C, D, bias = args.values()
    # y[t] = D u[t] + sum over s <= t of C[t] exp(A (delta[s+1] + ... + delta[t])) B[s] delta[s] u[s]
    delta = torch.log1p(torch.exp(delta + bias))
    elapsed = delta.cumsum(1)[:, :, None] - delta.cumsum(1)[:, None]  # (batch, t, s, dim)
    decay = torch.exp(elapsed[..., None] * A) * torch.ones(6, 6).tril()[:, :, None, None]
    expected = D * u + torch.einsum("btn,btsdn,bsn,bsd->btd", C, decay, B, delta * u)
    assert_close(run(backend, args)["y"].cpu(), expected, torch.float64)


@each_backend
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("length", [1, 7, 63, 196])
def test_scan_matches_reference(backend, length, dtype):
    args = make_args(length, dtype)
    actual = run(backend, args)
    assert actual["y"].dtype == dtype
    assert all(actual[name].dtype == args[name].dtype for name in NAMES)
    assert_same(actual, expect(args))


@each_backend
@pytest.mark.parametrize("length", [128, 129, 256])
def test_scan_matches_reference_around_chunk_borders(backend, length):
    args = make_args(length, torch.float64)
    assert pytorch._chunk_steps(args["u"], args["A"]) == 128
    assert_same(run(backend, args), expect(args))


@pytest.mark.parametrize("length", [3, 4, 5, 12, 14])
def test_torch_scan_does_not_depend_on_chunk_size(length, monkeypatch):
    args = make_args(length, torch.float64)
    whole = run("torch", args)
    monkeypatch.setattr(pytorch, "_CHUNK_ELEMENTS", 1)
    assert pytorch._chunk_steps(args["u"], args["A"]) == 4
    assert_same(run("torch", args), whole)


@each_backend
@pytest.mark.parametrize(
    ("D", "delta_bias", "softplus"), list(itertools.product([True, False], repeat=3))
)
def test_scan_matches_reference_with_each_option(backend, D, delta_bias, softplus):
    args = make_args(9, torch.float64, D=D, delta_bias=delta_bias)
    actual = run(backend, args, softplus=softplus)
    assert_same(actual, expect(args, softplus=softplus))


@each_backend
@pytest.mark.parametrize(("batch", "dim", "d_state"), [(1, 1, 1), (1, 5, 1), (3, 1, 16)])
def test_scan_matches_reference_with_axes_of_one(backend, batch, dim, d_state):
    args = make_args(5, torch.float64, batch=batch, dim=dim, d_state=d_state)
    assert_same(run(backend, args), expect(args))


@each_backend
@pytest.mark.parametrize(
    "grad_y", [torch.ones(()).expand(2, 11, 6), torch.arange(132.0).view(6, 11, 2).permute(2, 1, 0)]
)
def test_scan_matches_reference_on_strided_inputs(backend, grad_y):
    args = make_args(11, torch.float64)
    batch, length, dim = args["u"].shape
    strided = {
        "u": args["u"].transpose(1, 2).contiguous().transpose(1, 2),
        "delta": torch.cat([args["delta"]] * 2, dim=2)[..., dim:],
        "A": args["A"].t().contiguous().t(),
        "B": args["B"][:1].expand(batch, length, -1),
        "C": torch.stack([args["C"]] * 2, dim=3)[..., 1],
        "D": args["D"].repeat(2)[::2],
        "delta_bias": args["delta_bias"][:1].expand(dim),
    }
    assert not any(x.is_contiguous() for x in [grad_y, *strided.values()])
    assert_same(run(backend, strided, grad_y=grad_y), expect(strided, grad_y=grad_y))


@each_backend
@pytest.mark.parametrize("shape", [(2, 0), (0, 5)], ids=["no length", "no batch"])
def test_scan_of_nothing_is_empty_and_has_zero_gradients(backend, shape, nan_buffers):
    batch, length = shape
    args = make_args(length, batch=batch)
    actual = run(backend, args)
    assert actual.pop("y").shape == (batch, length, 6)
    for name, grad in actual.items():
        assert grad.shape == args[name].shape
        assert (grad == 0).all()


@each_backend
@pytest.mark.parametrize("length", [1, 130])
def test_scan_reads_no_uninitialised_memory(backend, length, nan_buffers):
    args = make_args(length)
    assert_same(run(backend, args), expect(args))


@each_backend
@pytest.mark.parametrize("name", ["u", "delta"])
def test_scan_passes_nan_on_to_later_steps_of_its_channel_only(backend, name):
    args = make_args(8)
    clean = run(backend, args)["y"]
    args[name][0, 3, 1] = torch.nan
    y = run(backend, args)["y"]
    is_hit = torch.zeros_like(y, dtype=torch.bool)
    is_hit[0, 3:, 1] = True
    assert torch.equal(y.isnan(), is_hit)
    assert torch.equal(y[~is_hit], clean[~is_hit])


@pytest.mark.parametrize("backend", ["reference", *FAST])
@pytest.mark.parametrize("softplus", [True, False])
def test_scan_gradients_match_finite_differences(backend, softplus):
    args = admit(backend, make_args(5, torch.float64, dim=3, d_state=2))
    inputs = [x.requires_grad_() for x in args.values()]

    def scan(*tensors):
        given = dict(zip(NAMES, tensors, strict=True))
        return selective_scan(**given, delta_softplus=softplus, backend=backend)

    assert torch.autograd.gradcheck(scan, inputs)


@pytest.mark.parametrize("length", [7, 196])
def test_torch_operators_are_registered_correctly(length):
    u, delta, A, B, C, *_ = make_args(length).values()
    y, starts = torch.ops.mambavision_lab.scan_forward(u, delta, A, B, C)
    torch.library.opcheck(
        torch.ops.mambavision_lab.scan_backward.default,
        (torch.randn_like(y), u, delta, A, B, C, starts),
    )
    torch.library.opcheck(torch.ops.mambavision_lab.scan_inference.default, (u, delta, A, B, C))
    inputs = [x.requires_grad_() for x in (u, delta, A, B, C)]
    torch.library.opcheck(torch.ops.mambavision_lab.scan_forward.default, tuple(inputs))


@each_backend
@pytest.mark.parametrize("dynamic", [False, True])
def test_compiled_scan_equals_eager(backend, dynamic):
    def loss(u, delta, A, B, C, D, delta_bias):
        y = selective_scan(
            u, delta, A, B, C, D, delta_bias=delta_bias, delta_softplus=True, backend=backend
        )
        return y.sin().sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    for length in (7, 140) if dynamic else (7,):
        inputs = [x.requires_grad_() for x in admit(backend, make_args(length)).values()]
        expected = loss(*inputs)
        actual = compiled(*inputs)
        assert_close(actual, expected, torch.float32)
        grads = zip(
            torch.autograd.grad(actual, inputs), torch.autograd.grad(expected, inputs), strict=True
        )
        for grad, expected_grad in grads:
            assert_close(grad, expected_grad, torch.float32)


@each_backend
@pytest.mark.parametrize(
    "names",
    [
        ["y"],
        NAMES,
    ],
    ids=["output", "gradients"],
)
def test_scan_keeps_float32_under_autocast(backend, names):
    args = admit(backend, make_args(20))
    expected = run(backend, args)
    with torch.autocast(args["u"].device.type, torch.bfloat16):
        actual = run(backend, args)
    assert_same({n: actual[n] for n in names}, {n: expected[n] for n in names})


@each_backend
def test_scan_takes_mixed_dtypes(backend):
    args = make_args(9, torch.float64)
    args["B"], args["C"] = args["B"].bfloat16(), args["C"].float()
    assert_same(run(backend, args), expect(args))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"u": (7, 6)}, r"wants u \(batch, length, dim\) and A \(dim, d_state\), got u \(7, 6\), "),
        ({"A": (6,)}, r"wants u \(batch, length, dim\) and A .*, A \(6,\), B \(2, 7, 4\)"),
        ({"delta": (2, 7, 5)}, r"wants delta \(2, 7, 6\), got u \(2, 7, 6\), delta \(2, 7, 5\)"),
        ({"A": (5, 4)}, r"wants A \(6, 4\), got .* A \(5, 4\)"),
        ({"B": (2, 8, 4)}, r"wants B \(2, 7, 4\), got .* B \(2, 8, 4\)"),
        ({"C": (2, 7, 3)}, r"wants C \(2, 7, 4\), got .* C \(2, 7, 3\)"),
        ({"D": (1,)}, r"wants D \(6,\), got .* D \(1,\)"),
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


def test_scan_names_known_backends_when_asked_for_another():
    with pytest.raises(
        ValueError, match=r"backend 'fast' is unknown; choose auto or one of \['torch'"
    ):
        selective_scan(**make_args(7), backend="fast")


@pytest.fixture
def stub_backends(monkeypatch):
    """An order whose first backend is missing and whose second refuses; the third is the reference."""

    def stub(is_available, reason):
        return SimpleNamespace(is_available=lambda: is_available, why_not=lambda u, A: reason)

    order = {"missing": stub(False, None), "fussy": stub(True, "length 7 is odd")}
    monkeypatch.setattr(api, "_ORDER", {**order, "reference": api._ORDER["reference"]})
    monkeypatch.setattr(api, "_logged", set())


@pytest.mark.parametrize(
    ("backend", "reason"), [("missing", "it is not installed"), ("fussy", "length 7 is odd")]
)
def test_named_backend_never_falls_back(stub_backends, backend, reason):
    message = f"backend '{backend}' cannot take this call: {reason}"
    with pytest.raises(BackendUnavailableError, match=message):
        selective_scan(**make_args(7), backend=backend)


def test_auto_takes_first_backend_without_objection_and_logs_it_once(stub_backends, caplog):
    args = make_args(7)
    with caplog.at_level(logging.INFO, logger=api.__name__):
        selective_scan(**args)
        y = selective_scan(**args)
    assert torch.equal(y, selective_scan(**args, backend="reference"))
    assert caplog.messages == ["selective_scan runs on backend 'reference'"]
    assert available_backends() == ["fussy", "reference"]
