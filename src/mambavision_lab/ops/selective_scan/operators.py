"""The scan as three `torch.library` operators, the same for every fast backend.

    mambavision_lab::selective_scan            y, last_state; where no gradient is needed
    mambavision_lab::selective_scan_train      also what backward starts from; differentiable once
    mambavision_lab::selective_scan_backward   one gradient per tensor input, empty where that was None

The backend's name is an argument, so that compile, export, flop counters and translations need one
registration each. "auto" is resolved when the operator runs: an exported graph takes the best backend
of the machine that it runs on.

Exported files and translations refer to the operators' names and flat arguments. In Python these travel
as one `ScanInputs`, whose fields have the same names and order.
"""

import functools
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mambavision_lab.ops.selective_scan.backends.base import NUM_TENSORS, Saved, ScanInputs
from mambavision_lab.ops.selective_scan.backends.registry import resolve

_ARGUMENTS = (
    "Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor? D, Tensor? delta_bias, "
    "Tensor? initial_state, bool delta_softplus, bool reverse, str backend"
)
_GRADIENTS = ", ".join(["Tensor"] * NUM_TENSORS)


def _operator(schema: str) -> Callable[[Callable], Any]:
    """Make a function the operator of a schema, "name(arguments) -> (results)".

    As `torch.library.custom_op` does, but that imports torch's compiler at the first call, which takes
    longer than all else.
    """

    def register(function: Callable) -> Any:
        @functools.cache
        def not_traced() -> Callable:
            return torch.compiler.disable(function)

        def kernel(*arguments: Any) -> Any:
            # The compiler, once imported, would try to compile what we call from Python.
            run = not_traced() if "torch._dynamo" in sys.modules else function
            return run(*arguments)

        name, _, signature = schema.partition("(")
        tags = (torch.Tag.pt2_compliant_tag,)
        torch.library.define(f"mambavision_lab::{name}", f"({signature}", tags=tags)
        torch.library.impl(f"mambavision_lab::{name}", "default", kernel)
        return getattr(torch.ops.mambavision_lab, name).default

    return register


@_operator(f"selective_scan({_ARGUMENTS}) -> (Tensor, Tensor)")
def scan_inference(*arguments: Any) -> tuple[Tensor, Tensor]:
    """Return y, (batch, length, dim), and the last state, (batch, dim, d_state)."""
    y, last_state, _ = _forward(arguments, save=False)
    return y, last_state


@_operator(f"selective_scan_train({_ARGUMENTS}) -> (Tensor, Tensor, Tensor)")
def scan_train(*arguments: Any) -> Saved:
    """Return y, the last state, and the states from which the backend's backward pass starts."""
    return _forward(arguments, save=True)


@_operator(
    f"selective_scan_backward(Tensor grad_y, Tensor? grad_last_state, {_ARGUMENTS}, Tensor saved)"
    f" -> ({_GRADIENTS})"
)
def scan_backward(
    grad_y: Tensor, grad_last_state: Tensor | None, *arguments: Any
) -> tuple[Tensor, ...]:
    """Return the gradients of u, delta, A, B, C, D, delta_bias and initial_state."""
    *fields, backend, saved = arguments
    inputs = ScanInputs(*fields)
    tensors = inputs[:NUM_TENSORS]
    if inputs.u.numel() == 0:
        grads = [None if x is None else torch.zeros_like(x) for x in tensors]
        if grad_last_state is not None and inputs.initial_state is not None:
            grads[-1] = grad_last_state.clone()
    else:
        run = resolve(backend, inputs).backward
        with torch.autocast(inputs.u.device.type, enabled=False):
            grads = [*run(inputs, grad_y, grad_last_state, saved)]
    return tuple(
        inputs.u.new_empty(0) if x is None or grad is None else grad.to(x.dtype).contiguous()
        for x, grad in zip(tensors, grads, strict=True)
    )


def _forward(arguments: tuple[Any, ...], save: bool) -> Saved:
    inputs = ScanInputs(*arguments[:-1])
    u = inputs.u
    run = resolve(arguments[-1], inputs).forward
    if u.numel() == 0:  # nothing to scan: no backend needs to know
        last_state = u.new_zeros(inputs.state_shape, dtype=inputs.state_dtype)
        if inputs.initial_state is not None:
            last_state.copy_(inputs.initial_state)
        return u.new_empty(u.shape), last_state, last_state.new_empty(0)
    with torch.autocast(u.device.type, enabled=False):
        return run(inputs, save)


@torch.library.register_fake(scan_inference)
def _(*arguments: Any) -> tuple[Tensor, Tensor]:
    inputs = ScanInputs(*arguments[:-1])
    last_state = inputs.u.new_empty(inputs.state_shape, dtype=inputs.state_dtype)
    return inputs.u.new_empty(inputs.u.shape), last_state


@torch.library.register_fake(scan_train)
def _(*arguments: Any) -> Saved:
    *fields, backend = arguments
    inputs = ScanInputs(*fields)
    shapes = inputs.state_shape, resolve(backend, inputs).saved_shape(inputs)
    last_state, saved = (inputs.u.new_empty(shape, dtype=inputs.state_dtype) for shape in shapes)
    return inputs.u.new_empty(inputs.u.shape), last_state, saved


@torch.library.register_fake(scan_backward)
def _(grad_y: Tensor, grad_last_state: Tensor | None, *arguments: Any) -> tuple[Tensor, ...]:
    tensors = arguments[:NUM_TENSORS]
    return tuple(arguments[0].new_empty(0) if x is None else x.new_empty(x.shape) for x in tensors)


def _setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
    ctx.set_materialize_grads(False)  # no zeros for the saved states, which have no gradient
    ctx.save_for_backward(*inputs[:NUM_TENSORS], output[2])
    ctx.options = inputs[NUM_TENSORS:]


def _backward(ctx: Any, grad_y: Tensor | None, grad_last_state: Tensor | None, _: Any) -> tuple:
    *inputs, saved = ctx.saved_tensors
    no_gradients = (None,) * (NUM_TENSORS + len(ctx.options))
    if grad_y is None and grad_last_state is None:
        return no_gradients
    if grad_y is None:
        grad_y = torch.zeros_like(inputs[0])
    grads = scan_backward(grad_y, grad_last_state, *inputs, *ctx.options, saved)
    given = (None if x is None else grad for x, grad in zip(inputs, grads, strict=True))
    return (*given, *no_gradients[NUM_TENSORS:])


def _no_second_derivative(ctx: Any, *grads: Any) -> Any:
    raise NotImplementedError(
        "selective_scan can be differentiated once; for second derivatives use backend='reference'"
    )


torch.library.register_autograd(scan_train, _backward, setup_context=_setup_context)
torch.library.register_autograd(scan_backward, _no_second_derivative)
