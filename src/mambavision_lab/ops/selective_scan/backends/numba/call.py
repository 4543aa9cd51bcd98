"""Define the record of a call that the numba kernels read, and the layout of their scratch.

This module does not import numba.
"""

import numpy as np

LANES = 16  # channels of a block
BLOCK = 4 * LANES  # bytes of its float32
CHUNK_STATES = 128  # steps of a chunk times d_state

# Tensors over (batch, length, ...): an address, two strides in bytes and the kind of the elements.
# Those of grad_B and grad_C, always float32, are (task, length, d_state).
SEQUENCE = np.dtype([(name, np.int64) for name in ("start", "b", "t", "kind")])
FLOAT32 = 0  # and 1 is bfloat16
_SEQUENCES = ("u", "delta", "B", "C", "y", "grad_y", "grad_u", "grad_delta", "grad_B", "grad_C")
_STATES = ("first_state", "last_state", "saved")  # 0 where there is none
_CHANNELS = ("A", "D", "delta_bias", "grad_A", "grad_D", "grad_bias")
_SIZES = ("batch", "length", "dim", "d_state", "groups", "softplus", "scratch", "scratch_bytes")
_COUNTERS = ("next_task", "next_worker")
CALL = np.dtype(
    [(name, SEQUENCE) for name in _SEQUENCES]
    + [(name, np.int64) for name in _STATES + _CHANNELS + _SIZES + _COUNTERS]
)
NEXT_TASK, NEXT_WORKER = CALL.itemsize - 16, CALL.itemsize - 8  # offsets of the counters

# A worker's scratch begins with arrays of one vector per step. Their distances are no multiples of a page:
# the processor would mistake a load for one of a value stored just before, a page away.
_ARRAY = (CHUNK_STATES + 1) * BLOCK
STEPS, DELTA_U, INPUTS = 0, _ARRAY, 2 * _ARRAY
OUTPUTS = 3 * _ARRAY  # forward
GRADS, SLOPES, GRAD_DELTA_U, GRAD_EXPONENTS, DECAYS, STATES = (i * _ARRAY for i in range(3, 9))
ARRAYS = 9 * _ARRAY


def chunk_steps(d_state: int) -> int:
    """Return the number of steps in a chunk."""
    return max(1, CHUNK_STATES // d_state)


def scratch_bytes(dim: int, d_state: int) -> int:
    """Return the bytes of scratch that one worker needs."""
    states = chunk_steps(d_state) * d_state
    vectors = 2 * states + 1 + 2 * -(-dim // LANES) * d_state
    page = 4096
    return -(-(ARRAYS + 8 * states + BLOCK + BLOCK * vectors) // page) * page + page
