"""The scan as three `torch.library` operators, the same for every fast backend.

    mambavision_lab::selective_scan            y, last_state; where no gradient is wanted
    mambavision_lab::selective_scan_train      also what backward needs; differentiable once
    mambavision_lab::selective_scan_backward   one gradient per tensor input, empty where that was None

The backend's name is an argument, so that compile, export, flop counters and translations need one
registration each. "auto" is resolved when the operator runs: an exported graph takes the best backend
of the machine that it runs on.
"""

import functools
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mambavision_lab.ops.selective_scan.backends.registry import resolve

_NUM_TENSORS = 8  # u, delta, A, B, C, D, delta_bias, initial_state


def _operator(name: str) -> Callable[[Callable], Any]:
    """Make a function an operator.

    As `torch.library.custom_op` does, but that imports torch's compiler at the first call, which takes
    longer than all else.
    """

    def register(function: Callable) -> Any:
        @functools.cache
        def not_traced() -> Callable:
            return torch._dynamo.disable(function)

        def kernel(*arguments: Any) -> Any:
            # The compiler, once there, would try to compile what we call from Python.
            run = not_traced() if "torch._dynamo" in sys.modules else function
            return run(*arguments)

        schema = torch.library.infer_schema(function, mutates_args=())
        tags = (torch.Tag.pt2_compliant_tag,)
        torch.library.define(f"mambavision_lab::{name}", schema, tags=tags)
        torch.library.impl(f"mambavision_lab::{name}", "default", kernel)
        return getattr(torch.ops.mambavision_lab, name).default

    return register


@_operator("selective_scan")
def scan_inference(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    initial_state: Tensor | None,
    delta_softplus: bool,
    reverse: bool,
    backend: str,
) -> tuple[Tensor, Tensor]:
    """Return y, (batch, length, dim), and the last state, (batch, dim, d_state)."""
    inputs = (u, delta, A, B, C, D, delta_bias, initial_state)
    y, last_state, _ = _forward(inputs, delta_softplus, reverse, backend, save=False)
    return y, last_state


@_operator("selective_scan_train")
def scan_train(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    initial_state: Tensor | None,
    delta_softplus: bool,
    reverse: bool,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return y, the last state, and the states from which the backend's backward pass starts."""
    inputs = (u, delta, A, B, C, D, delta_bias, initial_state)
    y, last_state, saved = _forward(inputs, delta_softplus, reverse, backend, save=True)
    assert saved is not None
    return y, last_state, saved


@_operator("selective_scan_backward")
def scan_backward(
    grad_y: Tensor,
    grad_last_state: Tensor | None,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    initial_state: Tensor | None,
    delta_softplus: bool,
    reverse: bool,
    backend: str,
    saved: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of u, delta, A, B, C, D, delta_bias and initial_state."""
    inputs = (u, delta, A, B, C, D, delta_bias, initial_state)
    if u.numel() == 0:
        grads = [None if x is None else torch.zeros_like(x) for x in inputs]
        if grad_last_state is not None and initial_state is not None:
            grads[-1] = grad_last_state.to(initial_state.dtype, copy=True)
    else:
        run = resolve(backend, u, A).backward
        with torch.autocast(u.device.type, enabled=False):
            grads = [*run(grad_y, grad_last_state, *inputs, delta_softplus, reverse, saved)]
    a, b, c, d, e, f, g, h = (u.new_empty(0) if grad is None else grad for grad in grads)
    return a, b, c, d, e, f, g, h


def state_dtype(u: Tensor) -> torch.dtype:
    """Dtype in which the recurrence of u runs."""
    return torch.float64 if u.dtype == torch.float64 else torch.float32


def _forward(
    inputs: tuple[Any, ...], delta_softplus: bool, reverse: bool, backend: str, save: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    u, A, initial_state = inputs[0], inputs[2], inputs[-1]
    run: Any = resolve(backend, u, A).forward
    if u.numel() == 0:  # nothing to scan: no backend needs to know
        last_state = u.new_zeros(_state_shape(u, A), dtype=state_dtype(u))
        if initial_state is not None:
            last_state.copy_(initial_state)
        return u.new_empty(u.shape), last_state, u.new_empty(0, dtype=state_dtype(u))
    with torch.autocast(u.device.type, enabled=False):
        return run(*inputs, delta_softplus, reverse, save)


def _state_shape(u: Tensor, A: Tensor) -> tuple[int, int, int]:
    return u.shape[0], u.shape[2], A.shape[1]


@torch.library.register_fake(scan_inference)
def _(u, delta, A, B, C, D, delta_bias, initial_state, delta_softplus, reverse, backend):
    return u.new_empty(u.shape), u.new_empty(_state_shape(u, A), dtype=state_dtype(u))


@torch.library.register_fake(scan_train)
def _(u, delta, A, B, C, D, delta_bias, initial_state, delta_softplus, reverse, backend):
    y, last_state = u.new_empty(u.shape), u.new_empty(_state_shape(u, A), dtype=state_dtype(u))
    shape = resolve(backend, u, A).saved_shape(u, A)
    return y, last_state, u.new_empty(shape, dtype=state_dtype(u))


@torch.library.register_fake(scan_backward)
def _(grad_y, grad_last_state, *inputs_and_options):
    inputs = inputs_and_options[:_NUM_TENSORS]
    grads = [inputs[0].new_empty(0) if x is None else x.new_empty(x.shape) for x in inputs]
    return tuple(grads)


def _setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
    ctx.set_materialize_grads(False)  # no zeros for the saved states, which have no gradient
    ctx.save_for_backward(*inputs[:_NUM_TENSORS], output[2])
    ctx.options = inputs[_NUM_TENSORS:]


def _backward(ctx: Any, grad_y: Tensor | None, grad_last_state: Tensor | None, _: Any) -> tuple:
    *inputs, saved = ctx.saved_tensors
    no_gradients = (None,) * (_NUM_TENSORS + len(ctx.options))
    if grad_y is None and grad_last_state is None:
        return no_gradients
    if grad_y is None:
        grad_y = torch.zeros_like(inputs[0])
    grads = scan_backward(grad_y, grad_last_state, *inputs, *ctx.options, saved)
    given = (None if x is None else grad for x, grad in zip(inputs, grads, strict=True))
    return (*given, *no_gradients[_NUM_TENSORS:])


def _no_second_derivative(ctx: Any, *grads: Any) -> Any:
    raise NotImplementedError(
        "selective_scan can be differentiated once; for second derivatives use backend='reference'"
    )


torch.library.register_autograd(scan_train, _backward, setup_context=_setup_context)
torch.library.register_autograd(scan_backward, _no_second_derivative)
