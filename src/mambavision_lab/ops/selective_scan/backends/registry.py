"""The fast backends of the scan, and which of them takes a call.

A backend is a module of the shape of `Backend`. To add one, write its file beside this one and name
it in `BACKENDS`; the shared tests pick it up. Importing this module imports no optional package:
a backend imports what it needs when it is first asked.
"""

import logging
from typing import Protocol

from torch import Tensor

from mambavision_lab.errors import ConfigError
from mambavision_lab.ops.selective_scan.backends import mamba_ssm, pytorch
from mambavision_lab.ops.selective_scan.backends.numba import backend as numba
from mambavision_lab.ops.selective_scan.backends.triton import backend as triton

log = logging.getLogger(__name__)

Saved = tuple[Tensor, Tensor, Tensor | None]
Gradients = tuple[Tensor | None, ...]


class BackendUnavailableError(ConfigError):
    """The backend that was named cannot take this call."""


class Backend(Protocol):
    """A module that runs the scan, both ways without autograd. Arguments are those of the public call.

    Inputs may be strided and of mixed dtypes; y has u's dtype, states are float32 (float64 for a
    float64 u), each gradient has its input's dtype. Length and batch are at least 1. What `why_not`
    says comes before what `is_available` says, so it imports nothing.
    """

    def is_available(self) -> bool:
        """Say whether the backend's own requirements are installed."""

    def why_not(self, u: Tensor, A: Tensor) -> str | None:
        """Say why this call cannot be taken, or None if it can."""

    def saved_shape(self, u: Tensor, A: Tensor) -> tuple[int, ...]:
        """Shape of what `forward` saves, from shapes alone (they may be symbolic)."""

    def forward(
        self,
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
    ) -> Saved:
        """Return y, the last state (batch, dim, d_state) and, if `save`, what `backward` wants."""

    def backward(
        self,
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
    ) -> Gradients:
        """Return the gradients of the eight tensors from u to initial_state, None where that was None."""


# "auto" takes the first that is available and has no reason to refuse. (`reference`, plain autograd
# and no operator, is known to `api.py` alone.)
BACKENDS: dict[str, Backend] = {
    "triton": triton,
    "mamba_ssm": mamba_ssm,
    "numba": numba,
    "torch": pytorch,
}
# Never taken by "auto"; Triton's interpreter is for tests.
NAMED_ONLY: set[str] = {"mamba_ssm"} | ({"triton"} if triton.is_interpreted() else set())
_logged: set[str] = set()


def resolve(backend: str, u: Tensor, A: Tensor) -> Backend:
    """The backend that takes this call; the choice of "auto" is logged once per process.

    Raises:
        BackendUnavailableError: The named backend cannot take this call; the message says why.
    """
    if backend != "auto":
        if reason := _why_not(backend, u, A):
            raise BackendUnavailableError(f"backend {backend!r} cannot take this call: {reason}")
        return BACKENDS[backend]
    candidates = (name for name in BACKENDS if name not in NAMED_ONLY)
    name = next(name for name in candidates if not _why_not(name, u, A))
    if name not in _logged:
        _logged.add(name)
        log.info("selective_scan runs on backend %r", name)
    return BACKENDS[name]


def _why_not(name: str, u: Tensor, A: Tensor) -> str | None:
    if reason := BACKENDS[name].why_not(u, A):
        return reason
    return (
        None if BACKENDS[name].is_available() else "it is not installed; install it, or take 'auto'"
    )
