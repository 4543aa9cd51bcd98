"""The selective scan's operators under torch's transformations: compile, export, autocast and others."""

import pytest
import torch
from scan_cases import NAMES, admit, assert_same, each_backend, expect, make_args, run
from tolerances import assert_close

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
