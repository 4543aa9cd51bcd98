"""The selective scan in plain PyTorch with a hand-written backward pass, for any device.

The loop over time does one fused multiply-add a step; everything else is done for a chunk of steps
at once, laid out (steps, batch, d_state, dim) so that each step is one contiguous block and the
widest axis is innermost. Forward keeps the inputs and the state at each chunk's start; backward
recomputes one chunk's states and sweeps it in reverse, so memory beyond the inputs is one chunk.

The operators `mambavision_lab::scan_forward` and `scan_backward`, and `scan_inference` where no
gradient is wanted, hold the recurrence alone, so that compile and export see one node; step bias,
softplus and the D skip are ordinary autograd.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

# A chunk's decay factors and its states stay in a core's cache: 2**18 float32 are 1 MiB each.
_CHUNK_ELEMENTS = 2**18
_MIN_STEPS, _MAX_STEPS = 4, 128


def is_available() -> bool:
    """Plain PyTorch: always."""
    return True


def why_not(u: Tensor, A: Tensor) -> str | None:
    """Nothing is refused."""
    return None


def scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
) -> Tensor:
    """Run the scan; arguments as in `selective_scan`."""
    dtype = torch.float64 if u.dtype == torch.float64 else torch.float32
    u_wide, delta = u.to(dtype), delta.to(dtype)
    if delta_bias is not None:
        delta = delta + delta_bias.to(dtype)
    if delta_softplus:
        delta = F.softplus(delta)
    inputs = (u_wide, delta, A.to(dtype), B.to(dtype), C.to(dtype))
    if torch.is_grad_enabled() and any(x.requires_grad for x in inputs):
        y, _ = scan_forward(*inputs)
    else:
        y = scan_inference(*inputs)
    if D is not None:
        y = torch.addcmul(y, u_wide, D.to(dtype))
    return y.to(u.dtype)


@torch.library.custom_op("mambavision_lab::scan_forward", mutates_args=())
def scan_forward(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor
) -> tuple[Tensor, Tensor]:
    """Return y (batch, length, dim) and the chunks' first states (chunks, batch, d_state, dim)."""
    batch, length, dim = u.shape
    chunks = -(-length // _chunk_steps(u, A))
    starts = u.new_empty(chunks, batch, A.shape[1], dim)
    return _run(u, delta, A, B, C, starts), starts


@torch.library.custom_op("mambavision_lab::scan_inference", mutates_args=())
def scan_inference(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """Return y alone: the number of chunks, which depends on the batch, stays inside."""
    return _run(u, delta, A, B, C, starts=None)


def _run(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, starts: Tensor | None
) -> Tensor:
    """Return y and, where wanted, fill in the chunks' first states."""
    batch, length, dim = u.shape
    steps = _chunk_steps(u, A)
    rates = A.t().contiguous()
    u, delta, B, C = _time_first(u, delta, B, C)
    y = u.new_empty(length, batch, dim)
    state = u.new_zeros(batch, A.shape[1], dim)
    for chunk, start in enumerate(range(0, length, steps)):
        part = slice(start, start + steps)
        if starts is not None:
            starts[chunk] = state
        _, states = _chunk_states(u[part], delta[part], rates, B[part], state)
        torch.matmul(C[part].unsqueeze(2), states, out=y[part].unsqueeze(2))
        state = states[-1]
    return y.transpose(0, 1).contiguous()


@torch.library.custom_op("mambavision_lab::scan_backward", mutates_args=())
def scan_backward(
    grad_y: Tensor, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, starts: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of u, delta, A, B and C."""
    steps = _chunk_steps(u, A)
    rates = A.t().contiguous()
    grads = [torch.empty_like(x, memory_format=torch.contiguous_format) for x in (u, delta, B, C)]
    grad_rates = torch.zeros_like(rates)
    du, ddelta, dB, dC = _time_first(*grads)
    grad_y, u, delta, B, C = _time_first(grad_y, u, delta, B, C)
    carry = starts.new_zeros(starts.shape[1:])
    for chunk in reversed(range(starts.shape[0])):
        part = slice(chunk * steps, (chunk + 1) * steps)
        u_k, delta_k, B_k, C_k, grad_k = u[part], delta[part], B[part], C[part], grad_y[part]
        decay, states = _chunk_states(u_k, delta_k, rates, B_k, starts[chunk])
        dC[part] = torch.matmul(states, grad_k.unsqueeze(3)).squeeze(3)
        # grad of the state: g[t] = grad_y[t] C[t] + decay[t+1] g[t+1]
        g = grad_k.unsqueeze(2) * C_k.unsqueeze(3)
        g_steps, decay_steps = g.unbind(0), decay.unbind(0)
        g_steps[-1].add_(carry)
        for t in reversed(range(len(g_steps) - 1)):
            g_steps[t].addcmul_(decay_steps[t + 1], g_steps[t + 1])
        carry = g_steps[0] * decay_steps[0]
        grad_drive = torch.matmul(B_k.unsqueeze(2), g).squeeze(2)  # of delta * u
        torch.mul(grad_drive, delta_k, out=du[part])
        dB[part] = torch.matmul(g, (delta_k * u_k).unsqueeze(3)).squeeze(3)
        # grad of delta * A, in place: g decay h[t-1]
        g.mul_(decay)
        g[0].mul_(starts[chunk])
        g[1:].mul_(states[:-1])
        grad_rates += torch.mul(g, delta_k.unsqueeze(2), out=states).sum((0, 1))
        ddelta[part] = grad_drive.mul_(u_k).add_(g.mul_(rates).sum(2))
    du, ddelta, dB, dC = grads
    return du, ddelta, grad_rates.t().contiguous(), dB, dC


def _chunk_steps(u: Tensor, A: Tensor) -> int:
    per_step = max(1, u.shape[0] * u.shape[2] * A.shape[1])
    return min(_MAX_STEPS, max(_MIN_STEPS, _CHUNK_ELEMENTS // per_step))


def _time_first(*tensors: Tensor) -> list[Tensor]:
    return [tensor.transpose(0, 1) for tensor in tensors]


def _chunk_states(
    u: Tensor, delta: Tensor, rates: Tensor, B: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """Return decay factors and states of one chunk, both (steps, batch, d_state, dim)."""
    decay = (delta.unsqueeze(2) * rates).exp_()
    states = (delta * u).unsqueeze(2) * B.unsqueeze(3)
    for state_t, decay_t in zip(states.unbind(0), decay.unbind(0), strict=True):
        state = state_t.addcmul_(decay_t, state)
    return decay, states


@scan_forward.register_fake
def _(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
    batch, length, dim = u.shape
    chunks = -(-length // _chunk_steps(u, A))
    return u.new_empty(batch, length, dim), u.new_empty(chunks, batch, A.shape[1], dim)


@scan_inference.register_fake
def _(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    return u.new_empty(u.shape)


@scan_backward.register_fake
def _(
    grad_y: Tensor, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, starts: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    du, ddelta, dA, dB, dC = (x.new_empty(x.shape) for x in (u, delta, A, B, C))
    return du, ddelta, dA, dB, dC


def _setup_context(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs, output[1])


def _backward(ctx, grad_y, _grad_starts):
    # Autocast would run the matrix products of a backward pass called inside it in half precision.
    with torch.autocast(grad_y.device.type, enabled=False):
        return scan_backward(grad_y, *ctx.saved_tensors)


scan_forward.register_autograd(_backward, setup_context=_setup_context)
