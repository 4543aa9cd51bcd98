"""What the numba kernels are told about a call, without importing numba."""

import numpy as np

LANES = 16  # channels of a block
CHUNK_STATES = 128  # steps of a chunk times d_state

# Tensors over (batch, length, ...) bring an address, two strides and the kind of their elements.
# Those of grad_B and grad_C, always float32, are (task, length, d_state).
_SEQUENCES = ("u", "delta", "B", "C", "y", "grad_y", "grad_u", "grad_delta", "grad_B", "grad_C")
_STATES = ("first_state", "last_state", "saved")  # 0 where there is none
_CHANNELS = ("rates", "D", "delta_bias", "grad_A", "grad_D", "grad_bias")
_WORK = ("scratch", "scratch_bytes", "next_task", "next_worker")
_SIZES = ("batch", "length", "dim", "d_state", "groups", "softplus")
CALL = np.dtype(
    [(name + part, np.int64) for name in _SEQUENCES for part in ("", "_b", "_t", "_kind")]
    + [(name, np.int64) for name in _STATES + _CHANNELS + _WORK + _SIZES]
)


def chunk_steps(d_state: int) -> int:
    """Steps of a chunk."""
    return max(1, CHUNK_STATES // d_state)


def scratch_bytes(dim: int, d_state: int) -> int:
    """What one worker needs."""
    steps = chunk_steps(d_state)
    vectors = (-(-dim // LANES) + 4 * steps + 4) * d_state + 4 * steps
    scalars = 2 * steps * d_state
    page = 4096
    return -(-4 * (vectors * LANES + scalars) // page) * page + page


def make_record(fields: dict[str, int]) -> np.ndarray:
    """A `CALL` with these fields, zero elsewhere."""
    return np.array([tuple(fields.get(name, 0) for name in CALL.names or ())], CALL)
