"""Every backend of the selective scan against the reference."""

import itertools

import pytest
import torch
from scan_cases import (
    FAST,
    NAMES,
    admit,
    assert_same,
    each_backend,
    expect,
    make_args,
    pattern,
    run,
)
from tolerances import TOLERANCES, assert_close

from mambavision_lab.ops.selective_scan import selective_scan
from mambavision_lab.ops.selective_scan.backends import pytorch


@pytest.mark.parametrize("backend", ["reference", *FAST])
def test_scan_equals_its_unrolled_sum(backend):
    args = make_args(6, torch.float64, without=["initial_state"])
    u, delta, A, B, C, D, bias, _ = args.values()
    # y[t] = D u[t] + sum over s <= t of C[t] exp(A (delta[s+1] + ... + delta[t])) B[s] delta[s] u[s]
    delta = torch.log1p(torch.exp(delta + bias))
    elapsed = delta.cumsum(1)[:, :, None] - delta.cumsum(1)[:, None]  # (batch, t, s, dim)
    decay = torch.exp(elapsed[..., None] * A) * torch.ones(6, 6).tril()[:, :, None, None]
    expected = D * u + torch.einsum("btn,btsdn,bsn,bsd->btd", C, decay, B, delta * u)
    assert_close(run(backend, args)["y"].cpu(), expected, torch.float64)


@each_backend
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("length", [1, 7, 63, 196])
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_scan_matches_reference(backend, reverse, length, dtype):
    args = make_args(length, dtype)
    actual = run(backend, args, reverse=reverse)
    assert actual["y"].dtype == dtype
    assert all(actual[name].dtype == args[name].dtype for name in NAMES)
    assert_same(actual, expect(args, reverse=reverse))


@each_backend
@pytest.mark.parametrize("length", [128, 129, 256])
def test_scan_matches_reference_around_chunk_borders(backend, length):
    args = make_args(length, torch.float64)
    assert pytorch._chunk_steps(args["A"]) == 128
    assert_same(run(backend, args), expect(args))


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("long", [0, 256], ids=["by chunks", "by steps"])
@pytest.mark.parametrize("length", [3, 4, 5, 12, 14])
def test_torch_scan_does_not_depend_on_its_chunks(length, long, reverse, monkeypatch):
    args = make_args(length, torch.float64)
    expected = expect(args, reverse=reverse)
    monkeypatch.setattr(pytorch, "_CHUNK_ELEMENTS", 1)
    monkeypatch.setattr(pytorch, "_LONG", long)
    assert pytorch._chunk_steps(args["A"]) == 4
    assert_same(run("torch", args, reverse=reverse), expected)


@each_backend
@pytest.mark.parametrize(
    "without",
    [
        names
        for count in range(4)
        for names in itertools.combinations(["D", "delta_bias", "initial_state"], count)
    ],
    ids="+".join,
)
@pytest.mark.parametrize("softplus", [True, False], ids=["softplus", "plain"])
def test_scan_matches_reference_without_each_option(backend, without, softplus):
    args = make_args(9, without=without)
    options = {"softplus": softplus, "last_state": "initial_state" not in without}
    assert_same(run(backend, args, **options), expect(args, **options))


@pytest.mark.parametrize("backend", ["reference", *FAST])
def test_reversed_scan_is_a_scan_of_flipped_tokens(backend):
    args = make_args(140)
    flipped = {k: v.flip(1) if v.ndim == 3 and v.shape[1] == 140 else v for k, v in args.items()}
    forward, backward = run(backend, flipped), run(backend, args, reverse=True)
    assert_same({"y": backward["y"].flip(1)}, {"y": forward["y"]})
    assert_same({"h": backward["last_state"]}, {"h": forward["last_state"]})


@pytest.mark.parametrize("backend", ["reference", *FAST])
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_scan_in_parts_equals_scan_at_once(backend, reverse):
    args = make_args(150)
    state, outputs = args["initial_state"], []
    for part in [slice(100, 150), slice(0, 100)] if reverse else [slice(0, 100), slice(100, 150)]:
        inputs = {
            k: v[:, part] if v.ndim == 3 and k in "u delta B C" else v for k, v in args.items()
        }
        results = run(backend, inputs | {"initial_state": state}, reverse=reverse)
        state = results["last_state"]
        outputs.append(results["y"])
    whole = run(backend, args, reverse=reverse)
    y = torch.cat(outputs[::-1] if reverse else outputs, dim=1)
    assert_same({"y": y, "h": state}, {"y": whole["y"], "h": whole["last_state"]})


@each_backend
def test_gradient_of_the_last_state_alone_matches_reference(backend):
    args = make_args(9)
    grads = []
    for name in (backend, "reference"):
        given = {k: x.requires_grad_() for k, x in admit(backend, args).items()}
        _, state = selective_scan(**given, return_last_state=True, backend=name)
        del given["C"], given["D"]  # which the state does not depend on
        grads.append(torch.autograd.grad(state.sin().sum(), list(given.values())))
    for actual, expected in zip(*grads, strict=True):
        assert_close(actual, expected, torch.float32)


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
        "initial_state": args["initial_state"].transpose(1, 2).contiguous().transpose(1, 2),
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
    assert torch.equal(actual.pop("last_state"), args["initial_state"])
    for name, grad in actual.items():
        assert grad.shape == args[name].shape
        expected = pattern(grad) if name == "initial_state" else 0 * grad  # it is the last state
        assert torch.equal(grad, expected)


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
        return selective_scan(
            **given, delta_softplus=softplus, return_last_state=True, backend=backend
        )

    assert torch.autograd.gradcheck(scan, inputs)


@each_backend
def test_scan_does_not_depend_on_the_default_dtype_and_device(backend):
    args = make_args(23, dtype=torch.bfloat16)
    options = {"grad_y": pattern(args["u"]), "last_state": False}
    expected = run(backend, args, **options)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device("meta"):
            actual = run(backend, args, **options)
    finally:
        torch.set_default_dtype(before)
    for name in ("y", "u", "A"):
        assert actual[name].equal(expected[name])
