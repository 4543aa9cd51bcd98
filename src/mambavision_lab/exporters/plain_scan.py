"""Run the selective scan in plain operations, for graphs that must load without our operator."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Recurrence = Callable[[Tensor, Tensor], Tensor]


def unrolled_scan(u: Tensor, *inputs: Any, **options: Any) -> Tensor:
    """Run `selective_scan` for one length, fixed when it is traced; arguments as there."""
    return _scan(_in_two_levels, u, *inputs, **options)


def scripted_scan(u: Tensor, *inputs: Any, **options: Any) -> Tensor:
    """Run `selective_scan` as a loop that TorchScript keeps; arguments as there."""
    return _scan(_scripted_loop(), u, *inputs, **options)


def _scan(
    recurrence: Recurrence,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    *,
    delta_bias: Tensor,
    delta_softplus: bool,
    reverse: bool,
    backend: str,
) -> Tensor:
    delta = delta + delta_bias
    delta = F.softplus(delta) if delta_softplus else delta
    # (batch, length, d_state, dim): the long axis last.
    decay = torch.exp(delta.unsqueeze(2) * A.t())
    inputs = (delta * u).unsqueeze(2) * B.unsqueeze(3)
    flip = (lambda x: x.flip(1)) if reverse else (lambda x: x)
    states = flip(recurrence(flip(decay), flip(inputs)))
    y = torch.matmul(C.unsqueeze(2), states).squeeze(2)
    return y if D is None else y + D * u


def _in_two_levels(decay: Tensor, inputs: Tensor) -> Tensor:
    """Return the states of h[t] = decay[t] h[t-1] + inputs[t], all (batch, length, ...).

    The length is cut into about as many chunks as each has steps. All chunks advance at once from
    zero, then the states at their ends are carried from one to the next: 2 sqrt(length) steps, and no
    quotients or logarithms that could overflow.
    """
    length, *rest = inputs.shape[1:]
    steps = next(n for n in range(1, length + 1) if n * n >= length)
    chunks = -(-length // steps)
    beyond = (0, 0) * len(rest) + (0, chunks * steps - length)
    decay = F.pad(decay, beyond).reshape(-1, chunks, steps, *rest)
    inputs = F.pad(inputs, beyond).reshape(-1, chunks, steps, *rest)
    state, product = inputs[:, :, 0], decay[:, :, 0]
    states, products = [state], [product]
    for t in range(1, steps):
        state = decay[:, :, t] * state + inputs[:, :, t]
        product = product * decay[:, :, t]
        states.append(state)
        products.append(product)
    carry = torch.zeros_like(state[:, 0])
    carries = [carry]
    for k in range(chunks - 1):
        carry = product[:, k] * carry + state[:, k]
        carries.append(carry)
    entering = torch.stack(carries, dim=1).unsqueeze(2)
    all_states = torch.stack(states, dim=2) + torch.stack(products, dim=2) * entering
    return all_states.reshape(-1, chunks * steps, *rest)[:, :length]


@cache
def _scripted_loop() -> Recurrence:
    return torch.jit.script(_loop)


def _loop(decay: Tensor, inputs: Tensor) -> Tensor:
    state = torch.zeros_like(inputs[:, 0])
    states: list[Tensor] = []
    for t in range(inputs.shape[1]):
        state = decay[:, t] * state + inputs[:, t]
        states.append(state)
    return torch.stack(states, dim=1)
