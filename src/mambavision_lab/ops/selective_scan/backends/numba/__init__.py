"""The scan compiled by numba, for CPUs.

How to read it
    1. `backend.py`, the door: checks, buffers, and the record of a call.
    2. `call.py`: that record (`CALL`) and the layout of a worker's scratch.
    3. `kernels.py`: `forward` and `backward` at the end of the file first, then the functions of a block.
    4. `blocks.py`: a block's steps as float32, from whatever lies in memory.
    5. `vectors.py`: the vector instructions that the two are written in.
    6. `compiled.py`, `openmp.py`: machine code in files, and threads. Neither knows the scan.

Memory
    Sequences are (batch, length, channels), as the linear layers around the scan produce them, in float32
    or bfloat16, with any strides but a dense last axis. Kernels see addresses (int64) and strides in
    bytes, no arrays. A scan in reverse starts at the last token with a negative stride; no kernel knows.
    States, and all that is summed, are float32.

Blocks and lanes
    A block is 16 neighbouring channels (`LANES`), one vector: LLVM splits it where registers are smaller.
    A state (dim, d_state) is kept as blocks of d_state vectors. The last block may be incomplete: its
    lanes beyond the last channel read zeros and are not stored.

Tasks
    A task is one sample. Where samples are too few for the cores, several tasks ("groups") share one
    sample's blocks. Workers, one a core, take the next task off a counter in the record. Each task's sums
    have their own memory, so that results do not depend on which worker took it.

Chunks
    A task's length is cut into chunks of 128 / d_state steps, whose scratch stays in the first-level
    cache. Loops: chunk, block, d_state, step. So a state stays in a register through a chunk, while the
    step sizes and `delta u` of the block are computed once, ahead of the loop over d_state. Sequences of
    more than `LONG` steps run a second recurrence from zero in each chunk: a chunk's last state is its
    first, decayed by one factor, plus that one's last. So roundings do not add up over thousands of steps.

Backward
    Forward saves the state before each chunk. Backward goes through the chunks from the last: it computes
    a chunk's states again from the first (with the decays, kept in scratch), then sweeps the steps in
    reverse with `carry`, the gradient of the state. Gradients of B and C are kept in lanes and summed
    over them once per chunk; those of A, D and the bias are one per sample, which `backend.py` adds up.

Compiled code
    Kernels are compiled on first use and stored as object files in the user's cache; see `compiled.py`.
    A file's name is a hash of these sources (its `_SOURCES`), the versions and the processor, so an edit
    compiles anew: nothing is to be deleted.

Testing a change
    `pytest tests/ops -k numba` compares values and all gradients with the reference in odd sizes, strides
    and dtypes, and accuracy with float64. `python benchmarks/selective_scan.py` first compares, then times
    it beside the same algorithm in C++ (`benchmarks/selective_scan.cpp`, which reads the same record).
    Vectors are placed by hand because loops over lanes that LLVM vectorises itself were measured to be
    slower: `benchmarks/README.md` has the numbers.
"""
