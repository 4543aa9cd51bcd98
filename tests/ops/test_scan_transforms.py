"""The selective scan's operators under torch's transformations: compile, export, autocast and others."""

import pytest
import torch
from scan_cases import NAMES, admit, assert_same, each_backend, expect, make_args, run
from tolerances import assert_close
from torch import nn
from torch.utils.checkpoint import checkpoint

from mambavision_lab.ops.selective_scan import selective_scan

ops = torch.ops.mambavision_lab


@each_backend
@pytest.mark.parametrize("length", [7, 140])
def test_operators_are_registered_correctly(backend, length):
    args = admit(backend, make_args(length))
    inputs, options = tuple(args.values()), (True, False, backend)
    y, last_state, saved = ops.selective_scan_train(*inputs, *options)
    grads = (torch.randn_like(y), torch.randn_like(last_state))
    torch.library.opcheck(ops.selective_scan.default, (*inputs, *options))
    torch.library.opcheck(ops.selective_scan_backward.default, (*grads, *inputs, *options, saved))
    leaves = tuple(x.requires_grad_() for x in inputs)
    torch.library.opcheck(ops.selective_scan_train.default, (*leaves, *options))


@each_backend
@pytest.mark.parametrize("dynamic", [False, True])
def test_compiled_scan_equals_eager(backend, dynamic):
    def loss(*inputs):
        args = dict(zip(NAMES, inputs, strict=True))
        y, last_state = selective_scan(**args, return_last_state=True, backend=backend)
        return y.sin().sum() + last_state.cos().sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    for batch, length in [(2, 7), (3, 7), (5, 140)] if dynamic else [(2, 7)]:
        args = admit(backend, make_args(length, batch=batch))
        inputs = [x.requires_grad_() for x in args.values()]
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
    [["y", "last_state"], NAMES],
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


@each_backend
def test_second_derivative_is_refused(backend):
    args = admit(backend, make_args(5))
    leaves = {name: x.requires_grad_() for name, x in args.items()}
    y = selective_scan(**leaves, backend=backend)
    (grad,) = torch.autograd.grad(y.sum(), leaves["u"], create_graph=True)
    with pytest.raises(NotImplementedError, match=r"differentiated once; .*backend='reference'"):
        torch.autograd.grad(grad.sum(), leaves["delta"])


@each_backend
@pytest.mark.parametrize("requires_grad", [False, True])
def test_forward_mode_derivative_is_refused(backend, requires_grad):
    args = admit(backend, make_args(5))
    args["A"].requires_grad_(requires_grad)
    u = args.pop("u")
    with pytest.raises(NotImplementedError, match=r"no forward-mode derivative; .*'reference'"):
        torch.func.jvp(lambda u: selective_scan(u, **args, backend=backend), (u,), (u,))


def scan_of_u(backend):
    args = admit(backend, make_args(5))
    u = args.pop("u")
    return (lambda u: selective_scan(u, **args, backend=backend)), u


TRANSFORMS = {
    "grad": lambda f, u: torch.func.grad(lambda u: f(u).sum())(u),
    "vjp": lambda f, u: torch.func.vjp(f, u)[1](u)[0],
    "hessian": lambda f, u: torch.func.hessian(lambda u: f(u).sum())(u),
    "vmap of grad": lambda f, u: torch.func.vmap(torch.func.grad(lambda u: f(u).sum()))(u[None])[0],
}


@each_backend
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_derivative_inside_torch_func_is_refused(backend, transform):
    with pytest.raises(NotImplementedError, match=r"torch\.func \(.*scan_backend='reference'$"):
        TRANSFORMS[transform](*scan_of_u(backend))


def test_reference_scan_takes_every_transform():
    f, u = scan_of_u("reference")
    (expected,) = torch.autograd.grad(f(u.requires_grad_()).sum(), u)
    for transform in ("grad", "vmap of grad"):
        assert_close(TRANSFORMS[transform](f, u.detach()), expected, torch.float32)
    assert TRANSFORMS["hessian"](f, u.detach()).shape == (*u.shape, *u.shape)
    args = make_args(5)
    rates = torch.stack([args["A"], 2 * args["A"]])
    actual = torch.func.vmap(lambda A: selective_scan(**{**args, "A": A}, backend="reference"))(
        rates
    )
    for y, A in zip(actual, rates, strict=True):
        expected = selective_scan(**{**args, "A": A}, backend="reference")
        assert_close(y, expected, torch.float32)


class Scan(nn.Module):
    def __init__(self, backend):
        super().__init__()
        self.backend = backend

    def forward(self, *inputs):
        args = dict(zip(NAMES, inputs, strict=True))
        return selective_scan(**args, return_last_state=True, backend=self.backend)


@each_backend
@pytest.mark.parametrize("requires_grad", [False, True])
def test_exported_scan_takes_any_batch_and_without_gradients_any_length(backend, requires_grad):
    batch = torch.export.Dim("batch")
    length = 20 if requires_grad else torch.export.Dim("length")
    sizes = {"u": {0: batch, 1: length}, "initial_state": {0: batch}}
    sizes |= dict.fromkeys(("delta", "B", "C"), sizes["u"])
    args = admit(backend, make_args(20))
    for x in args.values():
        x.requires_grad_(requires_grad)
    shapes = (tuple(sizes.get(name, {}) for name in NAMES),)
    exported = torch.export.export(Scan(backend), (*args.values(),), dynamic_shapes=shapes)
    for batch, length in [(2, 20), (5, 20)] if requires_grad else [(2, 20), (5, 7), (3, 300)]:
        inputs = admit(backend, make_args(length, batch=batch)).values()
        for actual, expected in zip(
            exported.module()(*inputs), Scan(backend)(*inputs), strict=True
        ):
            assert_close(actual, expected, torch.float32)


@each_backend
@pytest.mark.parametrize("use_reentrant", [False, True])
def test_scan_with_activation_checkpointing_has_the_same_gradients(backend, use_reentrant):
    args = admit(backend, make_args(40))
    inputs = [x.requires_grad_() for x in args.values()]
    results = []
    for scan in (
        Scan(backend),
        lambda *inputs: checkpoint(Scan(backend), *inputs, use_reentrant=use_reentrant),
    ):
        y, last_state = scan(*inputs)
        (y.sin().sum() + last_state.cos().sum()).backward()
        results.append([x.grad for x in inputs])
        for x in inputs:
            x.grad = None
    for actual, expected in zip(*results, strict=True):
        assert torch.equal(actual, expected)


@each_backend
def test_scan_in_inference_mode_equals_scan_in_training(backend):
    inputs = [x.requires_grad_() for x in admit(backend, make_args(40)).values()]
    expected = Scan(backend)(*inputs)
    with torch.inference_mode():
        actual = Scan(backend)(*inputs)
    for x, y in zip(actual, expected, strict=True):
        assert x.is_inference()
        assert torch.equal(x, y)


@each_backend
def test_inputs_and_states_at_chunk_boundaries_alone_are_saved_for_backward(backend):
    saved = {}
    for length in (512, 1024):
        args = admit(backend, make_args(length, dim=32, d_state=8))
        inputs = [x.requires_grad_() for x in args.values()]
        addresses = {x.data_ptr() for x in inputs}
        states = []

        def pack(x, addresses=addresses, states=states):
            if x.data_ptr() not in addresses:
                states.append(x.numel())
            return x

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            Scan(backend)(*inputs)
        saved[length] = sum(states)
        assert saved[length] <= args["u"].numel() * 8 / 16  # a sixteenth of all states
    assert saved[1024] == 2 * saved[512]
