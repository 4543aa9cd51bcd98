"""How the numba kernels read and write tensors a block at a time: 16 neighbouring channels, some steps.

float32 in whole blocks is used where it lies; what is bfloat16, or beyond the last channel, goes through
a worker's scratch.
"""

import functools

import numpy as np
from numba import njit

from mambavision_lab.ops.selective_scan.backends.numba.call import (
    BLOCK,
    FLOAT32,
    LANES,
)
from mambavision_lab.ops.selective_scan.backends.numba.vectors import (
    gather,
    load,
    load_bfloat16,
    load_scalar,
    load_scalar_bfloat16,
    load_some,
    load_some_bfloat16,
    mul,
    prefetch,
    scatter,
    smaller,
    splat,
    store,
    store_bfloat16,
    store_scalar,
    store_some,
    store_some_bfloat16,
    within,
    zero,
)

LOG2E = np.float32(np.log2(np.e))
LARGEST_RATE = np.float32(1e30)  # with any step that counts it decays to zero anyway

piece = functools.partial(njit, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)


@piece
def distance(sequence, steps, channels):
    """Bytes from one element of a (batch, length, ...) tensor to another of the same sample."""
    return steps * sequence.t + (4 >> sequence.kind) * channels


@piece
def find(sequence, b, t, channel):
    """Address of an element of a (batch, length, ...) tensor."""
    return sequence.start + b * sequence.b + distance(sequence, t, channel)


@piece
def is_plain(sequence, lanes):
    """Whether a block's steps can be read and written where they are."""
    return lanes == LANES and sequence.kind == FLOAT32


@piece
def read(sequence, address, ahead, lanes, count, scratch):
    """Return the address of a block's steps as float32, zeros beyond the last channel, and their stride."""
    if is_plain(sequence, lanes):
        return address, sequence.t
    for to in range(scratch, scratch + count * BLOCK, BLOCK):
        prefetch(address + ahead)
        if sequence.kind == FLOAT32:
            store(to, load_some(address, lanes))
        elif lanes == LANES:
            store(to, load_bfloat16(address))
        else:
            store(to, load_some_bfloat16(address, lanes))
        address += sequence.t
    return scratch, BLOCK


@piece
def place(sequence, address, lanes, scratch):
    """Return where to put a block's steps, and their stride, before `write` has the rest done."""
    return (address, sequence.t) if is_plain(sequence, lanes) else (scratch, BLOCK)


@piece
def write(sequence, address, lanes, count, scratch):
    """Bring a block's steps from scratch to where they belong, unless `place` has put them there."""
    if is_plain(sequence, lanes):
        return
    for at in range(scratch, scratch + count * BLOCK, BLOCK):
        if sequence.kind == FLOAT32:
            store_some(address, load(at), lanes)
        elif lanes == LANES:
            store_bfloat16(address, load(at))
        else:
            store_some_bfloat16(address, load(at), lanes)
        address += sequence.t


@piece
def read_maps(sequence, b, t0, count, d_state, target):
    """B or C of one chunk as float32, step by step, into every second place."""
    for t in range(count):
        at = find(sequence, b, t0 + t, 0)
        for n in range(d_state):
            if sequence.kind == FLOAT32:
                store_scalar(target, load_scalar(at + 4 * n))
            else:
                store_scalar(target, load_scalar_bfloat16(at + 2 * n))
            target += 8


@piece
def copy(source, target, count):
    """Copy count vectors, or write zeros where there is no source."""
    for i in range(0, count * BLOCK, BLOCK):
        store(target + i, load(source + i) if source else zero())


@piece
def read_states(source, dim, d_state, target):
    """A state (dim, d_state) as blocks of d_state vectors, or zeros where there is no source."""
    for channel in range(0, dim, LANES):
        lanes = smaller(LANES, dim - channel)
        for n in range(d_state):
            at = source + 4 * (channel * d_state + n)
            store(target, gather(at, 4 * d_state, lanes) if source else zero())
            target += BLOCK


@piece
def read_channels(source, channel, lanes):
    """A block of a vector over the channels, or zeros where there is none."""
    return load_some(source + 4 * channel, lanes) if source else zero()


@piece
def read_rates(A, dim, d_state, target):
    """A as powers of 2 a step, finite so that no infinity times zero can arise."""
    read_states(A, dim, d_state, target)
    for at in range(target, target + (dim + LANES - 1) // LANES * d_state * BLOCK, BLOCK):
        store(at, within(mul(load(at), splat(LOG2E)), LARGEST_RATE))


@piece
def write_states(source, dim, d_state, target):
    """The way back of `read_states`."""
    for channel in range(0, dim, LANES):
        lanes = smaller(LANES, dim - channel)
        for n in range(d_state):
            at = target + 4 * (channel * d_state + n)
            scatter(at, load(source), 4 * d_state, lanes)
            source += BLOCK
