"""The fast backends of the scan, and the choice of the one that takes a call.

A backend is a module with the functions of `Backend`. To add one, write its file or folder beside this one
and add it to `BACKENDS`; the shared tests include it. Importing this module imports no optional
package: a backend imports what it needs when it first runs.
"""

import logging

from mambavision_lab.ops.selective_scan.backends import mamba_ssm, pytorch
from mambavision_lab.ops.selective_scan.backends.base import (
    Backend,
    BackendUnavailableError,
    ScanInputs,
)
from mambavision_lab.ops.selective_scan.backends.numba import backend as numba
from mambavision_lab.ops.selective_scan.backends.triton import backend as triton

log = logging.getLogger(__name__)

# "auto" takes the first that is available and has no reason to refuse. (`reference`, plain autograd
# without an operator, is known to `api.py` alone.)
BACKENDS: dict[str, Backend] = {
    "triton": triton,
    "mamba_ssm": mamba_ssm,
    "numba": numba,
    "torch": pytorch,
}
# Never taken by "auto"; Triton's interpreter is for tests.
NAMED_ONLY: set[str] = {"mamba_ssm"} | ({"triton"} if triton.is_interpreted() else set())
_logged: set[str] = set()


def resolve(backend: str, inputs: ScanInputs) -> Backend:
    """Return the backend that takes this call; the choice of "auto" is logged once per process.

    Raises:
        BackendUnavailableError: The named backend cannot take this call; the message says why.
    """
    if backend != "auto":
        if reason := why_not(backend, inputs):
            raise BackendUnavailableError(f"backend {backend!r} cannot take this call: {reason}")
        return BACKENDS[backend]
    candidates = (name for name in BACKENDS if name not in NAMED_ONLY)
    name = next(name for name in candidates if not why_not(name, inputs))
    if name not in _logged:
        _logged.add(name)
        log.info("selective_scan runs on backend %r", name)
    return BACKENDS[name]


def why_not(name: str, inputs: ScanInputs) -> str | None:
    """Explain why a backend cannot take this call, or return None if it can."""
    if reason := BACKENDS[name].why_not(inputs):
        return reason
    if BACKENDS[name].is_available():
        return None
    return "it is not installed; install it, or take 'auto'"
