"""The selective scan in plain PyTorch with a hand-written backward pass, for any device.

The loop over time does one fused multiply-add a step; everything else is done for a chunk of steps
at once, laid out (steps, batch, d_state, dim) so that each step is one contiguous block and the
widest axis is innermost. Forward saves the inputs and the state at each chunk's start; backward
recomputes one chunk's states and sweeps it in reverse, so memory beyond the inputs is one chunk.

Chunks are counted in the order of the scan. Reversed, the first chunk is the end of the sequence,
and within a chunk steps are visited from high to low index; nothing is flipped.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from mambavision_lab.ops.selective_scan.backends.base import Gradients, Saved, ScanInputs

# A chunk's decay factors and its states, for this many samples, stay in a core's cache: the number
# of steps must not depend on the batch, which compiled and exported graphs leave open.
_CHUNK_ELEMENTS = 2**18
_NOMINAL_BATCH = 16
_MIN_STEPS, _MAX_STEPS = 4, 128
# Where steps hardly decay, every step's rounding stays to the end. Longer sequences than this go from
# chunk to chunk by one factor each, at the price of a second sweep.
_LONG = 256


def is_available() -> bool:
    """Tell that plain PyTorch is always there."""
    return True


def why_not(inputs: ScanInputs) -> str | None:
    """Refuse nothing."""
    return None


def saved_shape(inputs: ScanInputs) -> tuple[int, ...]:
    """Return the shape of the chunks' first states, (chunks, batch, d_state, dim)."""
    (batch, length, dim), steps = inputs.u.shape, _chunk_steps(inputs.A)
    return (length + steps - 1) // steps, batch, inputs.A.shape[1], dim


def forward(inputs: ScanInputs, save: bool) -> Saved:
    """Return y, the last state and, if `save`, the chunks' first states."""
    dtype, reverse = inputs.state_dtype, inputs.reverse
    rates = inputs.A.t().to(dtype).contiguous()
    starts = inputs.u.new_empty(saved_shape(inputs), dtype=dtype) if save else None
    y = torch.empty_like(inputs.u, memory_format=torch.contiguous_format)
    y_steps, u, delta, B, C = _time_first(y, inputs.u, inputs.delta, inputs.B, inputs.C)
    is_long = u.shape[0] > _LONG
    state = _first_state(u, rates, inputs.initial_state)
    for chunk, part in enumerate(_chunks(u.shape[0], _chunk_steps(inputs.A), reverse)):
        if starts is not None:
            starts[chunk] = state
        u_k, B_k, C_k = (_dense(x[part], dtype) for x in (u, B, C))
        delta_k = _step_sizes(delta[part], inputs)
        decay, states = _decays_and_inputs(u_k, delta_k, rates, B_k)
        from_zero = torch.zeros_like(state) if is_long else None
        state_after = _sweep(states, decay, state, reverse, from_zero)
        y_k = torch.matmul(C_k.unsqueeze(2), states).squeeze(2)
        if inputs.D is not None:
            y_k.addcmul_(u_k, inputs.D.to(dtype))
        y_steps[part] = y_k
        if from_zero is not None:
            state_after = from_zero.addcmul_(_whole_decay(delta_k, rates), state)
        state = state_after
    return y, state.transpose(1, 2).contiguous(), starts


def backward(
    inputs: ScanInputs, grad_y: Tensor, grad_last_state: Tensor | None, saved: Tensor
) -> Gradients:
    """Return the gradients of the tensors from u to initial_state."""
    dtype, reverse = inputs.state_dtype, inputs.reverse
    sequences = (inputs.u, inputs.delta, inputs.B, inputs.C)
    D, delta_bias = inputs.D, inputs.delta_bias
    rates = inputs.A.t().to(dtype).contiguous()
    grads = [torch.empty_like(x, memory_format=torch.contiguous_format) for x in sequences]
    grad_rates = torch.zeros_like(rates)
    grad_D, grad_bias = (x if x is None else rates.new_zeros(x.shape) for x in (D, delta_bias))
    du, ddelta, dB, dC = _time_first(*grads)
    grad_y, u, delta, B, C = _time_first(grad_y, *sequences)
    carry, is_long = _first_state(u, rates, grad_last_state), u.shape[0] > _LONG
    parts = [*_chunks(u.shape[0], _chunk_steps(inputs.A), reverse)]
    for part, start in zip(reversed(parts), reversed(saved.unbind(0)), strict=True):
        u_k, B_k, C_k, grad_k = (_dense(x[part], dtype) for x in (u, B, C, grad_y))
        delta_k = _step_sizes(delta[part], inputs)
        decay, states = _decays_and_inputs(u_k, delta_k, rates, B_k)
        _sweep(states, decay, start, reverse)
        dC[part] = torch.matmul(states, grad_k.unsqueeze(3)).squeeze(3)
        # g[t] = grad_y[t] C[t] + decay[t+1] g[t+1]; carry is decay g of the step after the chunk.
        g = grad_k.unsqueeze(2) * C_k.unsqueeze(3)
        from_zero = torch.zeros_like(carry) if is_long else None
        first_decay = decay[-1 if reverse else 0]
        first_g = _sweep(g, _next(decay, reverse), carry, not reverse, from_zero)
        if from_zero is None:
            carry = first_g * first_decay
        else:
            whole = _whole_decay(delta_k, rates)
            carry = from_zero.mul_(first_decay).addcmul_(whole, carry)
        grad_product = torch.matmul(B_k.unsqueeze(2), g).squeeze(2)  # of delta * u
        grad_u = grad_product * delta_k
        if D is not None and grad_D is not None:
            grad_u.addcmul_(grad_k, D.to(dtype))
            grad_D += (grad_k * u_k).sum((0, 1))
        du[part] = grad_u
        dB[part] = torch.matmul(g, (delta_k * u_k).unsqueeze(3)).squeeze(3)
        # grad of delta * A, in place: g decay h[t-1]
        g.mul_(decay)
        g[-1 if reverse else 0].mul_(start)
        if reverse:
            g[:-1].mul_(states[1:])
        else:
            g[1:].mul_(states[:-1])
        grad_rates += torch.mul(g, delta_k.unsqueeze(2), out=states).sum((0, 1))
        grad_delta = grad_product.mul_(u_k).add_(g.mul_(rates).sum(2))
        if inputs.delta_softplus:
            grad_delta.mul_(-torch.expm1(-delta_k))  # the sigmoid, from the softplus
        if grad_bias is not None:
            grad_bias += grad_delta.sum((0, 1))
        ddelta[part] = grad_delta
    du, ddelta, dB, dC = grads
    grad_A = grad_rates.t().contiguous()
    grad_state = carry.transpose(1, 2).contiguous()
    return du, ddelta, grad_A, dB, dC, grad_D, grad_bias, grad_state


def _chunk_steps(A: Tensor) -> int:
    per_step = max(1, _NOMINAL_BATCH * A.shape[0] * A.shape[1])
    return min(_MAX_STEPS, max(_MIN_STEPS, _CHUNK_ELEMENTS // per_step))


def _chunks(length: int, steps: int, reverse: bool) -> list[slice]:
    """Return slices of the time axis in the order of the scan."""
    starts = range(0, length, steps)
    if reverse:
        return [slice(max(0, length - start - steps), length - start) for start in starts]
    return [slice(start, start + steps) for start in starts]


def _time_first(*tensors: Tensor) -> list[Tensor]:
    return [tensor.transpose(0, 1) for tensor in tensors]


def _first_state(u: Tensor, rates: Tensor, given: Tensor | None) -> Tensor:
    """Return a state (batch, d_state, dim): zero, or the given one of the public call's layout."""
    if given is None:
        return rates.new_zeros(u.shape[1], *rates.shape)
    return given.transpose(1, 2).to(rates.dtype).contiguous()


def _dense(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Copy a chunk with its steps outermost, a layout which all that is computed from it inherits."""
    return x.to(dtype).contiguous()


def _step_sizes(delta: Tensor, inputs: ScanInputs) -> Tensor:
    """Return the step sizes of a chunk of delta, after the bias and the softplus."""
    delta = _dense(delta, inputs.state_dtype)
    if inputs.delta_bias is not None:
        delta = delta + inputs.delta_bias.to(delta.dtype)
    return F.softplus(delta) if inputs.delta_softplus else delta


def _decays_and_inputs(u: Tensor, delta: Tensor, rates: Tensor, B: Tensor) -> tuple[Tensor, Tensor]:
    """Return exp(delta A) and delta B u of one chunk, both (steps, batch, d_state, dim)."""
    # Near 0 torch's exp2 rounds correctly on CPUs; its exp does not, which adds up in slow decays.
    decay = (delta.unsqueeze(2) * (rates * math.log2(math.e))).exp2_()
    return decay, (delta * u).unsqueeze(2) * B.unsqueeze(3)


def _whole_decay(delta: Tensor, rates: Tensor) -> Tensor:
    """Return the decay over all steps of a chunk, (batch, d_state, dim)."""
    return (delta.sum(0).unsqueeze(1) * (rates * math.log2(math.e))).exp2_()


def _next(decay: Tensor, reverse: bool) -> list[Tensor]:
    """Return for each step the decay of the step after it in the scan; 1 for the last."""
    factors, one = [*decay.unbind(0)], decay.new_ones(())
    return [one, *factors[:-1]] if reverse else [*factors[1:], one]


def _sweep(
    values: Tensor,
    factors: Tensor | list[Tensor],
    h: Tensor,
    reverse: bool,
    from_zero: Tensor | None = None,
) -> Tensor:
    """Run h = factor h + value through a chunk's steps, in place; returns the last h.

    from_zero, where given, is run through the same steps and changed in place.
    """
    steps = [*zip(values.unbind(0), factors, strict=True)]
    for value, factor in reversed(steps) if reverse else steps:
        if from_zero is not None:
            torch.addcmul(value, factor, from_zero, out=from_zero)
        h = value.addcmul_(factor, h)
    return h
