"""The selective scan in plain PyTorch with a hand-written backward pass, for any device.

The loop over time does one fused multiply-add a step; everything else is done for a chunk of steps
at once, laid out (steps, batch, d_state, dim) so that each step is one contiguous block and the
widest axis is innermost. Forward keeps the inputs and the state at each chunk's start; backward
recomputes one chunk's states and sweeps it in reverse, so memory beyond the inputs is one chunk.

Chunks are counted in the order of the scan. Reversed, the first chunk is the end of the sequence,
and within a chunk steps are visited from high to low index; nothing is flipped.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

# A chunk's decay factors and its states, for this many samples, stay in a core's cache: the number
# of steps must not depend on the batch, which compiled and exported graphs leave open.
_CHUNK_ELEMENTS = 2**18
_NOMINAL_BATCH = 16
_MIN_STEPS, _MAX_STEPS = 4, 128
# Where steps hardly decay, every step's rounding stays to the end. Longer sequences than this go from
# chunk to chunk by one factor each, at the price of a second sweep.
_LONG = 256


def is_available() -> bool:
    """Plain PyTorch: always."""
    return True


def why_not(u: Tensor, A: Tensor) -> str | None:
    """Nothing is refused."""
    return None


def saved_shape(u: Tensor, A: Tensor) -> tuple[int, ...]:
    """(chunks, batch, d_state, dim)."""
    steps = _chunk_steps(A)
    return (u.shape[1] + steps - 1) // steps, u.shape[0], A.shape[1], A.shape[0]


def forward(
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
    save: bool,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return y, the last state and, if `save`, the chunks' first states."""
    dtype = _wide(u)
    rates = A.t().to(dtype).contiguous()
    starts = u.new_empty(saved_shape(u, A), dtype=dtype) if save else None
    y = torch.empty_like(u, memory_format=torch.contiguous_format)
    y_steps, u, delta, B, C = _time_first(y, u, delta, B, C)
    is_long = u.shape[0] > _LONG
    state = _first_state(u, rates, initial_state)
    for chunk, part in enumerate(_chunks(u.shape[0], _chunk_steps(A), reverse)):
        if starts is not None:
            starts[chunk] = state
        u_k, B_k, C_k = (_dense(x[part], dtype) for x in (u, B, C))
        delta_k = _step_sizes(delta[part], delta_bias, delta_softplus, dtype)
        decay, states = _decays_and_drives(u_k, delta_k, rates, B_k)
        from_zero = torch.zeros_like(state) if is_long else None
        state_after = _sweep(states, decay, state, reverse, from_zero)
        y_k = torch.matmul(C_k.unsqueeze(2), states).squeeze(2)
        if D is not None:
            y_k.addcmul_(u_k, D.to(dtype))
        y_steps[part] = y_k
        if from_zero is not None:
            state_after = from_zero.addcmul_(_whole_decay(delta_k, rates), state)
        state = state_after
    return y, state.transpose(1, 2).contiguous(), starts


def backward(
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
    saved: Tensor,
) -> tuple[Tensor | None, ...]:
    """Return the gradients of the eight tensors from u to initial_state."""
    dtype = _wide(u)
    rates = A.t().to(dtype).contiguous()
    grads = [torch.empty_like(x, memory_format=torch.contiguous_format) for x in (u, delta, B, C)]
    grad_rates = torch.zeros_like(rates)
    grad_D, grad_bias = (x if x is None else rates.new_zeros(x.shape) for x in (D, delta_bias))
    du, ddelta, dB, dC = _time_first(*grads)
    grad_y, u, delta, B, C = _time_first(grad_y, u, delta, B, C)
    carry, is_long = _first_state(u, rates, grad_last_state), u.shape[0] > _LONG
    parts = [*_chunks(u.shape[0], _chunk_steps(A), reverse)]
    for part, start in zip(reversed(parts), reversed(saved.unbind(0)), strict=True):
        u_k, B_k, C_k, grad_k = (_dense(x[part], dtype) for x in (u, B, C, grad_y))
        delta_k = _step_sizes(delta[part], delta_bias, delta_softplus, dtype)
        decay, states = _decays_and_drives(u_k, delta_k, rates, B_k)
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
        grad_drive = torch.matmul(B_k.unsqueeze(2), g).squeeze(2)  # of delta * u
        grad_u = grad_drive * delta_k
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
        grad_delta = grad_drive.mul_(u_k).add_(g.mul_(rates).sum(2))
        if delta_softplus:
            grad_delta.mul_(-torch.expm1(-delta_k))  # the sigmoid, from the softplus
        if grad_bias is not None:
            grad_bias += grad_delta.sum((0, 1))
        ddelta[part] = grad_delta
    du, ddelta, dB, dC = grads
    grad_A = grad_rates.t().contiguous()
    grad_state = carry.transpose(1, 2).contiguous()
    results = (du, ddelta, grad_A, dB, dC, grad_D, grad_bias, grad_state)
    inputs = (u, delta, A, B, C, D, delta_bias, initial_state)
    pairs = zip(inputs, results, strict=True)
    return tuple(None if x is None or grad is None else grad.to(x.dtype) for x, grad in pairs)


def _wide(u: Tensor) -> torch.dtype:
    return torch.float64 if u.dtype == torch.float64 else torch.float32


def _chunk_steps(A: Tensor) -> int:
    per_step = max(1, _NOMINAL_BATCH * A.shape[0] * A.shape[1])
    return min(_MAX_STEPS, max(_MIN_STEPS, _CHUNK_ELEMENTS // per_step))


def _chunks(length: int, steps: int, reverse: bool) -> list[slice]:
    """Slices of the time axis in the order of the scan."""
    starts = range(0, length, steps)
    if reverse:
        return [slice(max(0, length - start - steps), length - start) for start in starts]
    return [slice(start, start + steps) for start in starts]


def _time_first(*tensors: Tensor) -> list[Tensor]:
    return [tensor.transpose(0, 1) for tensor in tensors]


def _first_state(u: Tensor, rates: Tensor, given: Tensor | None) -> Tensor:
    """A state (batch, d_state, dim), zero or as given in the layout of the public call."""
    if given is None:
        return rates.new_zeros(u.shape[1], *rates.shape)
    return given.transpose(1, 2).to(rates.dtype).contiguous()


def _dense(x: Tensor, dtype: torch.dtype) -> Tensor:
    """A chunk with its steps outermost, which all that is made of it inherits."""
    return x.to(dtype).contiguous()


def _step_sizes(delta: Tensor, bias: Tensor | None, softplus: bool, dtype: torch.dtype) -> Tensor:
    delta = _dense(delta, dtype)
    if bias is not None:
        delta = delta + bias.to(dtype)
    return F.softplus(delta) if softplus else delta


def _decays_and_drives(u: Tensor, delta: Tensor, rates: Tensor, B: Tensor) -> tuple[Tensor, Tensor]:
    """Return exp(delta A) and delta B u of one chunk, both (steps, batch, d_state, dim)."""
    # Near 0 torch's exp2 rounds correctly on CPUs; its exp does not, which adds up in slow decays.
    decay = (delta.unsqueeze(2) * (rates * math.log2(math.e))).exp2_()
    return decay, (delta * u).unsqueeze(2) * B.unsqueeze(3)


def _whole_decay(delta: Tensor, rates: Tensor) -> Tensor:
    """The decay over all steps of a chunk, (batch, d_state, dim)."""
    return (delta.sum(0).unsqueeze(1) * (rates * math.log2(math.e))).exp2_()


def _next(decay: Tensor, reverse: bool) -> list[Tensor]:
    """Each step's factor, that of the step which comes after it in the scan; 1 for the last."""
    factors, one = [*decay.unbind(0)], decay.new_ones(())
    return [one, *factors[:-1]] if reverse else [*factors[1:], one]


def _sweep(
    values: Tensor,
    factors: Tensor | list[Tensor],
    h: Tensor,
    reverse: bool,
    from_zero: Tensor | None = None,
) -> Tensor:
    """Run h = factor h + value through a chunk's steps, in place, and from_zero as well; the last h."""
    steps = [*zip(values.unbind(0), factors, strict=True)]
    for value, factor in reversed(steps) if reverse else steps:
        if from_zero is not None:
            torch.addcmul(value, factor, from_zero, out=from_zero)
        h = value.addcmul_(factor, h)
    return h
