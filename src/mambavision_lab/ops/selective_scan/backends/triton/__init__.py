"""The scan in Triton, for CUDA devices.

How to read it
    1. `backend.py`, the door: limits, buffers, the launch.
    2. `kernels.py`: `forward_kernel`, then `backward_kernel`. It is imported by the first launch.

Memory
    Sequences are (batch, length, channels) in float32, bfloat16 or float16, with any strides but a dense
    last axis; in reverse, step t reads row length - 1 - t. States, and all that is summed, are float32.

Blocks and lanes
    A program is one warp, for one sample and a block of 32 channels, one to a lane; the grid is (blocks,
    samples). The state, (d_state, 32), lies in registers. A step loads u and delta in one coalesced access
    each and broadcasts B and C; the sum over d_state stays within a lane. d_state is padded to a power
    of two with zeros, and channels beyond the last read zeros and are not stored.

Chunks
    A chunk is 32 steps. Sequences of more than `_LONG` steps run a second recurrence from zero in each
    chunk: a chunk's last state is its first, decayed by one factor, plus that one's last (`_carry_over`).
    So roundings do not add up over thousands of steps.

Backward
    Forward saves the state before each chunk. Backward goes through the chunks from the last: it computes
    a chunk's states again into scratch, then sweeps the steps in reverse with `carry`, the gradient of the
    state. Each program writes its own share of the gradients of A, D and the bias (one per sample) and of
    B and C (one per block of channels), and torch adds them up. There are no atomics, so equal calls
    give equal bits.

Compiled code
    Triton compiles a kernel for each combination of dtypes and of the constants in `options_of`, on first
    use, and stores it in its own cache (TRITON_CACHE_DIR), whose names hold a hash of the source.

Testing a change
    `pytest tests/ops/backends` needs no GPU: it runs the kernels value by value in Triton's interpreter
    (TRITON_INTERPRET=1) and compiles them for real chips. On a machine with a GPU the same tests run there,
    and `tests/ops` adds accuracy, compile and export.
"""
