"""The implicit attention of a Mamba mixer, exact: what each token's output takes from each token's input.

With delta, B and C held fixed the scan is linear in u: y[t] is the sum over s of alpha[t, s] u[s],

    alpha[t, s] = C[t] · exp(A · sum of delta over (s, t]) · delta[s] B[s]        for s <= t, else 0,

so a row of alpha is the gradient of y[t] with respect to u: one more scan, backwards, for all channels,
which do not mix, in memory linear in the tokens. The matrix is never made. D is left out.

Source: the view of Mamba as attention is that of Ali, Zimerman and Wolf 2024, arXiv:2403.01590.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mambavision_lab.explainers.base import Explanation, require_finite, to_image
from mambavision_lab.explainers.calls import ScanCall, require_layout
from mambavision_lab.explainers.record import restore_scan
from mambavision_lab.explainers.subject import Subject
from mambavision_lab.ops.selective_scan import selective_scan

_scan: Callable[..., Any] = selective_scan
_SMALLEST_STEP = 1e-20  # a step is divided by; exp(A · step) is 1 from far above it


def explain(subject: Subject) -> Explanation:
    """Map what the last mixer's scan takes from each token, over all tokens and the mean of channels.

    `layers` has the map of every mixer's scan; `details` for each mixer the map of its half-life (tokens)
    and of its step size, and the half-lives of its channels.

    Raises:
        ConfigError: The network has no Mamba blocks, or values are not finite.
    """
    calls = subject.scans("scan")
    layers, details = {}, {}
    for call in calls:
        layout = require_layout(call)
        weights = (~layout.is_padding()).to(call.x)  # what padding takes is not shown
        layers[call.name] = to_image(
            layout.to_grid(pulled(call, weights).mean(dim=-1)), subject.image
        )
        half_life, step = half_lives(call), step_sizes(call)
        details[f"{call.name} half-life"] = layout.to_grid(half_life.median(dim=-1).values)
        details[f"{call.name} step size"] = layout.to_grid(step.mean(dim=-1))
        details[f"{call.name} half-lives"] = half_life.flatten()
    last = calls[-1]
    directions = "forward and reverse" if last.mixer.bidirectional else "forward"
    source = f"implicit attention of the scan of {last.name} ({directions}), over all tokens"
    return Explanation(layers[last.name], source, layers, details)


def row(call: ScanCall, place: tuple[int, ...]) -> Tensor:
    """Return alpha[t, s] of the token t at a place of the map: (dim, *grid), signed.

    Outside its window that is 0.
    """
    layout = require_layout(call)
    sequence, position = layout.find(*place)
    weights = call.x.new_zeros(call.x.shape[:2])
    weights[sequence, position] = 1
    alpha = _pull(call, weights)
    return torch.stack([layout.to_grid(alpha[..., c]) for c in range(alpha.shape[-1])])


def pulled(call: ScanCall, weights: Tensor) -> Tensor:
    """Return |sum over t of weights[t] alpha[t, s]| for each s and channel; weights: (sequences, length)."""
    return require_finite(_pull(call, weights), f"the scan of {call.name}").abs()


def _pull(call: ScanCall, weights: Tensor) -> Tensor:
    directions = (pull_back(*given, weights) for given in call.arguments)
    return sum(directions, start=torch.zeros(()))


@torch.no_grad()
def pull_back(arguments: tuple[Any, ...], options: dict[str, Any], weights: Tensor) -> Tensor:
    """Return the sum over t of weights[t] alpha[t, s], by one scan.

    The gradient of a scan with respect to u is a scan in the other direction, in which B and C change places
    and each step uses the delta of the token behind it:

        p[s] = exp(A · delta[s + 1]) p[s + 1] + C[s] weights[s],    result[s] = delta[s] B[s] · p[s].

    Args:
        arguments: (u, delta, A, B, C, ...) of `selective_scan`.
        options: Its keywords.
        weights: Of the output tokens, (batch, length).

    Returns:
        Signed, (batch, length, dim).
    """
    _, _, A, B, C, *_ = arguments
    is_reverse, step = options.get("reverse", False), _step_sizes(arguments, options)
    behind = step.roll(1 if is_reverse else -1, 1).clamp_min(_SMALLEST_STEP)
    kept = {"reverse": not is_reverse, "backend": options.get("backend", "auto")}
    return step * _scan(weights[..., None].to(step) / behind, behind, A, C, B, None, **kept)


def mixer_map(call: ScanCall, weights: Tensor) -> Tensor:
    """Return how strongly each token of the whole mixer acts on the tokens weighted by weights.

    The gradient of the mixer's output with respect to its input, with delta, B and C held fixed:
    convolutions, scan, skip and the other branch as one map; the SiLUs by their slopes at this input.

    Args:
        call: A recorded mixer.
        weights: Of the output tokens, (sequences, length).

    Returns:
        The norm of the gradient of the channels' sum, (sequences, length).
    """
    mixer, own_scan = call.mixer, vars(call.mixer).get("scan")
    fixed = iter(call.arguments)

    def scan(u: Tensor, *given: Any, **options: Any) -> Tensor:
        (_, delta, A, B, C, D), keywords = next(fixed)
        skip = None if D is None else D.detach()
        plain = {k: x.detach() if isinstance(x, Tensor) else x for k, x in keywords.items()}
        fixed_maps = (x.detach() for x in (delta, A, B, C))
        return _scan(u, *fixed_maps, skip, **plain)

    x = call.x.detach().requires_grad_()
    try:
        mixer.scan = scan
        with torch.enable_grad():
            y = mixer.forward(x)
            (grad,) = torch.autograd.grad(y, x, weights[..., None].expand_as(y).to(y))
    finally:
        restore_scan(mixer, own_scan)
    return require_finite(grad.norm(dim=-1), f"the mixer of {call.name}")


@torch.no_grad()
def step_sizes(call: ScanCall) -> Tensor:
    """Return delta after the softplus, (sequences, length, dim)."""
    return _step_sizes(*call.arguments[0])


def _step_sizes(arguments: tuple[Any, ...], options: dict[str, Any]) -> Tensor:
    delta, bias = arguments[1], options.get("delta_bias")
    step = delta if bias is None else delta + bias
    return F.softplus(step) if options.get("delta_softplus") else step


@torch.no_grad()
def half_lives(call: ScanCall) -> Tensor:
    """Return after how many tokens the slowest state of a channel has halved, (sequences, length, dim).

    ln 2 / (delta |A|) at each token's delta, as if the following tokens had the same.
    """
    (_, _, A, *_), _ = call.arguments[0]
    return math.log(2) / (step_sizes(call) * A.abs().amin(dim=-1)).clamp_min(1e-12)
