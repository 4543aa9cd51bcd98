"""The public selective scan: checks the call and hands it to a backend.

A backend is a module with `is_available()`, `why_not(u, A)` and `scan(...)`. To add one, write its
file beside this one and name it in `_ORDER`; the shared tests pick it up.
"""

import logging
from typing import Protocol

import torch
from torch import Tensor

from mambavision_lab.ops.selective_scan import pytorch, reference

log = logging.getLogger(__name__)


class BackendUnavailableError(RuntimeError):
    """The backend that was named cannot take this call."""


class Backend(Protocol):
    """What `_ORDER` holds: a module that can run the scan."""

    def is_available(self) -> bool:
        """Say whether the backend's own requirements are installed."""

    def why_not(self, u: Tensor, A: Tensor) -> str | None:
        """Say why this call cannot be taken, or None if it can."""

    def scan(
        self,
        u: Tensor,
        delta: Tensor,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        D: Tensor | None,
        delta_bias: Tensor | None,
        delta_softplus: bool,
    ) -> Tensor:
        """Run the scan on checked arguments; differentiable in every tensor."""


# "auto" takes the first that is available and has no reason to refuse.
_ORDER: dict[str, Backend] = {"torch": pytorch, "reference": reference}
_logged: set[str] = set()


def available_backends() -> list[str]:
    """Names that `selective_scan(backend=...)` accepts on this machine, in the order of "auto"."""
    return [name for name, backend in _ORDER.items() if backend.is_available()]


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    *,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    backend: str = "auto",
) -> Tensor:
    """Run the input-dependent linear recurrence along the length axis.

    h[t] = exp(delta[t] A) h[t-1] + delta[t] B[t] u[t];  y[t] = C[t] h[t] + D u[t];  h[-1] = 0

    Args:
        u: Sequence, (batch, length, dim), float64, float32, bfloat16 or float16.
        delta: Step size, dimensionless, shaped like u.
        A: Decay rates, < 0, (dim, d_state), float32 (float64 for a float64 u).
        B: Input map, (batch, length, d_state).
        C: Output map, (batch, length, d_state).
        D: Skip weight, (dim,), or None for no skip.
        delta_bias: Added to delta before the softplus, (dim,), or None.
        delta_softplus: Whether delta passes through softplus.
        backend: "auto" or a name from `available_backends()`.

    Returns:
        y, shape and dtype of u; the state h is summed in float32 (float64 for a float64 u).

    Raises:
        ValueError: Shapes, dtypes or devices disagree, or the backend's name is unknown.
        BackendUnavailableError: The named backend cannot take this call; the message says why.

    Source: Gu and Dao 2023, arXiv:2312.00752, Algorithm 2, with B discretised as delta * B.
    """
    _check(u, delta, A, B, C, D, delta_bias)
    name = _choose(backend, u, A)
    return _ORDER[name].scan(u, delta, A, B, C, D, delta_bias, delta_softplus)


def _check(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
) -> None:
    given = {"u": u, "delta": delta, "A": A, "B": B, "C": C, "D": D, "delta_bias": delta_bias}
    tensors = {name: tensor for name, tensor in given.items() if tensor is not None}
    if u.ndim != 3 or A.ndim != 2:
        raise ValueError(
            f"selective_scan wants u (batch, length, dim) and A (dim, d_state), got {_shapes(tensors)}"
        )
    batch, length, dim = u.shape
    d_state = A.shape[1]
    wanted = {
        "delta": (batch, length, dim),
        "A": (dim, d_state),
        "B": (batch, length, d_state),
        "C": (batch, length, d_state),
        "D": (dim,),
        "delta_bias": (dim,),
    }
    if wrong := [n for n in wanted if n in tensors and tuple(tensors[n].shape) != wanted[n]]:
        expected = ", ".join(f"{name} {wanted[name]}" for name in wrong)
        raise ValueError(f"selective_scan wants {expected}, got {_shapes(tensors)}")
    if not all(tensor.is_floating_point() for tensor in tensors.values()):
        dtypes = ", ".join(f"{name} {tensor.dtype}" for name, tensor in tensors.items())
        raise ValueError(f"selective_scan wants real floating-point tensors, got {dtypes}")
    if any(tensor.device != u.device for tensor in tensors.values()):
        devices = ", ".join(f"{name} {tensor.device}" for name, tensor in tensors.items())
        raise ValueError(f"selective_scan wants all tensors on one device, got {devices}")


def _shapes(tensors: dict[str, Tensor]) -> str:
    return ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in tensors.items())


def _choose(backend: str, u: Tensor, A: Tensor) -> str:
    if backend != "auto":
        if backend not in _ORDER:
            raise ValueError(
                f"backend {backend!r} is unknown; choose auto or one of {list(_ORDER)}"
            )
        if reason := _why_not(_ORDER[backend], u, A):
            raise BackendUnavailableError(f"backend {backend!r} cannot take this call: {reason}")
        return backend
    name = next(name for name, candidate in _ORDER.items() if not _why_not(candidate, u, A))
    if not torch.compiler.is_compiling() and name not in _logged:
        _logged.add(name)
        log.info("selective_scan runs on backend %r", name)
    return name


def _why_not(backend: Backend, u: Tensor, A: Tensor) -> str | None:
    if not backend.is_available():
        return "it is not installed"
    return backend.why_not(u, A)
