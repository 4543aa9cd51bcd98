"""Check a call of the selective scan, and run it on a backend.

To choose a backend, name it: `selective_scan(..., backend="torch")`, `scan_backend="torch"` when a
network is made, `ops.selective_scan.backend=torch` on the command line.
"""

from typing import Literal, overload

import torch
from torch import Tensor
from torch.autograd import forward_ad

from mambavision_lab.ops.selective_scan import reference
from mambavision_lab.ops.selective_scan.backends.base import NUM_TENSORS, ScanInputs
from mambavision_lab.ops.selective_scan.backends.registry import BACKENDS
from mambavision_lab.ops.selective_scan.operators import scan_inference, scan_train


def available_backends() -> list[str]:
    """List the names that `selective_scan(backend=...)` accepts here, in the order of "auto"."""
    return [name for name, backend in BACKENDS.items() if backend.is_available()] + ["reference"]


def check_backend_name(backend: str) -> None:
    """Refuse the name of a backend that does not exist.

    Raises:
        ValueError: The name is unknown; the message lists those known.
    """
    known = [*BACKENDS, "reference"]
    if backend != "auto" and backend not in known:
        raise ValueError(f"backend {backend!r} is unknown; choose auto or one of {known}")


@overload
def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = ...,
    *,
    delta_bias: Tensor | None = ...,
    delta_softplus: bool = ...,
    initial_state: Tensor | None = ...,
    return_last_state: Literal[False] = ...,
    reverse: bool = ...,
    backend: str = ...,
) -> Tensor: ...


@overload
def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = ...,
    *,
    delta_bias: Tensor | None = ...,
    delta_softplus: bool = ...,
    initial_state: Tensor | None = ...,
    return_last_state: Literal[True],
    reverse: bool = ...,
    backend: str = ...,
) -> tuple[Tensor, Tensor]: ...


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
    initial_state: Tensor | None = None,
    return_last_state: bool = False,
    reverse: bool = False,
    backend: str = "auto",
) -> Tensor | tuple[Tensor, Tensor]:
    """Run the input-dependent linear recurrence along the length axis.

    h[t] = exp(delta[t] A) h[t-1] + delta[t] B[t] u[t];  y[t] = C[t] h[t] + D u[t]

    Args:
        u: Sequence, (batch, length, dim), float64, float32, bfloat16 or float16.
        delta: Step size, dimensionless, shaped like u.
        A: Decay rates, < 0, (dim, d_state), float32 (float64 for a float64 u).
        B: Input map, (batch, length, d_state).
        C: Output map, (batch, length, d_state).
        D: Skip weight, (dim,), or None for no skip.
        delta_bias: Added to delta before the softplus, (dim,), or None.
        delta_softplus: Whether delta passes through softplus.
        initial_state: h before the first step, (batch, dim, d_state), or None for zeros.
        return_last_state: Whether to return h after the last step as well; given to the next call as
            its initial_state, it lets a long sequence be scanned in parts.
        reverse: Whether to run from the last token to the first: flipping u, delta, B and C along the
            length and y back gives the same. The last state is then the one after token 0.
        backend: "auto" or a name from `available_backends()`.

    Returns:
        y, shape and dtype of u; with return_last_state also the last state, shaped like
        initial_state. States are float32 (float64 for a float64 u), also in lower precision.

    Raises:
        ValueError: Shapes, dtypes or devices disagree, or the backend's name is unknown.
        BackendUnavailableError: The named backend cannot take this call; the message says why.
        NotImplementedError: A second or a forward-mode derivative is taken, or one by a transform of
            torch.func, with a backend other than "reference".

    Source: Gu and Dao 2023, arXiv:2312.00752, Algorithm 2, with B discretised as delta * B.
    """
    inputs = ScanInputs(u, delta, A, B, C, D, delta_bias, initial_state, delta_softplus, reverse)
    check_backend_name(backend)
    tensors = _check(inputs)
    if backend == "reference":
        y, last_state = reference.scan(inputs)
    else:
        _refuse_forward_mode(tensors)
        if torch.is_grad_enabled() and any(x.requires_grad for x in tensors):
            y, last_state = _scan_train(inputs, backend)
        else:
            y, last_state = scan_inference(*inputs, backend)
    return (y, last_state) if return_last_state else y


def _check(inputs: ScanInputs) -> list[Tensor]:
    """Check shapes, dtypes and devices; returns the tensors that were given."""
    named = zip(ScanInputs._fields, inputs[:NUM_TENSORS], strict=False)
    tensors = {name: x for name, x in named if x is not None}
    u, A = inputs.u, inputs.A
    if u.ndim != 3 or A.ndim != 2:
        raise ValueError(
            f"selective_scan wants u (batch, length, dim) and A (dim, d_state), got {_shapes(tensors)}"
        )
    batch, length, dim = u.shape
    d_state = A.shape[1]
    if not d_state:
        raise ValueError(f"selective_scan wants a d_state of at least 1, got {_shapes(tensors)}")
    wanted = {
        "delta": (batch, length, dim),
        "A": (dim, d_state),
        "B": (batch, length, d_state),
        "C": (batch, length, d_state),
        "D": (dim,),
        "delta_bias": (dim,),
        "initial_state": (batch, dim, d_state),
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
    return list(tensors.values())


def _shapes(tensors: dict[str, Tensor]) -> str:
    return ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in tensors.items())


def _scan_train(inputs: ScanInputs, backend: str) -> tuple[Tensor, Tensor]:
    try:
        y, last_state, _ = scan_train(*inputs, backend)
    except RuntimeError as error:
        if "setup_context" not in str(error):  # what torch.func says of operators like ours
            raise
        raise NotImplementedError(
            "selective_scan has no derivative inside transforms of torch.func (grad, vjp, jacrev, "
            "hessian, vmap over what requires gradients); use torch.autograd, or backend='reference', "
            "in a network scan_backend='reference'"
        ) from error
    return y, last_state


def _refuse_forward_mode(tensors: list[Tensor]) -> None:
    """Raise if a tensor carries a tangent, which the operators would drop silently."""
    if torch.compiler.is_compiling() or forward_ad._current_level < 0:
        return
    if any(forward_ad.unpack_dual(x).tangent is not None for x in tensors):
        raise NotImplementedError(
            "selective_scan has no forward-mode derivative; use reverse mode, or backend='reference'"
        )
