"""Define what a backend of the scan receives, returns and offers."""

from typing import Final, NamedTuple, Protocol

import torch
from torch import Tensor

from mambavision_lab.errors import ConfigError

NUM_TENSORS: Final = 8  # the first fields of ScanInputs


class BackendUnavailableError(ConfigError):
    """The backend that was named cannot take this call."""


class ScanInputs(NamedTuple):
    """The arguments of one scan, as `selective_scan` describes them and in the operators' order.

    Tensors come first. They may be strided and of mixed dtypes.
    """

    u: Tensor
    delta: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor | None
    delta_bias: Tensor | None
    initial_state: Tensor | None
    delta_softplus: bool
    reverse: bool

    @property
    def state_shape(self) -> tuple[int, int, int]:
        """Shape of a state, (batch, dim, d_state)."""
        return self.u.shape[0], self.u.shape[2], self.A.shape[1]

    @property
    def state_dtype(self) -> torch.dtype:
        """Dtype in which the recurrence runs: float64 for a float64 u, else float32."""
        return torch.float64 if self.u.dtype == torch.float64 else torch.float32


# y in u's dtype, the last state, and, if they were to be saved, the states that backward starts from.
Saved = tuple[Tensor, Tensor, Tensor | None]
# Of the tensors of ScanInputs, in their order and in any floating-point dtype. Where the input is None,
# the gradient is ignored.
Gradients = tuple[Tensor | None, ...]


class Backend(Protocol):
    """A module that runs the scan forward and backward, without autograd.

    Autograd records nothing inside an operator, not even under `enable_grad`. Length and batch are at
    least 1 in `forward` and `backward`.
    """

    def is_available(self) -> bool:
        """Return whether the backend's own requirements are installed."""

    def why_not(self, inputs: ScanInputs) -> str | None:
        """Explain why this call cannot be taken, or return None if it can.

        Asked before `is_available`, so it must import nothing optional.
        """

    def saved_shape(self, inputs: ScanInputs) -> tuple[int, ...]:
        """Return the shape of what `forward` saves, from shapes alone (they may be symbolic)."""

    def forward(self, inputs: ScanInputs, save: bool) -> Saved:
        """Return y, the last state and, if `save`, what `backward` starts from."""

    def backward(
        self, inputs: ScanInputs, grad_y: Tensor, grad_last_state: Tensor | None, saved: Tensor
    ) -> Gradients:
        """Return the gradients of the tensors from u to initial_state."""


def dense(x: Tensor | None) -> Tensor | None:
    """Return what kernels read as float32 without gaps; None stays."""
    return None if x is None else x.float().contiguous()
