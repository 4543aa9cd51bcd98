"""Read and write tensors a block at a time: 16 neighbouring channels, some steps.

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
    clamp,
    gather,
    load,
    load_bfloat16,
    load_scalar,
    load_scalar_bfloat16,
    load_some,
    load_some_bfloat16,
    minimum,
    mul,
    prefetch,
    scatter,
    splat,
    store,
    store_bfloat16,
    store_scalar,
    store_some,
    store_some_bfloat16,
    zero,
)

LOG2E = np.float32(np.log2(np.e))
LARGEST_RATE = np.float32(1e30)  # with any step that counts it decays to zero anyway

jit = functools.partial(njit, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)


@jit
def distance(sequence, steps, channels):
    """Return the bytes from one element of a (batch, length, ...) tensor to another of its sample."""
    return steps * sequence.t + (4 >> sequence.kind) * channels


@jit
def address_of(sequence, b, t, channel):
    """Return the address of an element of a (batch, length, ...) tensor."""
    return sequence.start + b * sequence.b + distance(sequence, t, channel)


@jit
def is_plain(sequence, lanes):
    """Return whether a block's steps can be read and written where they are."""
    return lanes == LANES and sequence.kind == FLOAT32


@jit
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


@jit
def output_buffer(sequence, address, lanes, scratch):
    """Return the address at which to write a block's steps, and their stride; `write` then finishes."""
    return (address, sequence.t) if is_plain(sequence, lanes) else (scratch, BLOCK)


@jit
def write(sequence, address, lanes, count, scratch):
    """Copy a block's steps from scratch to their tensor, unless they were written there directly."""
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


@jit
def read_maps(sequence, b, t0, count, d_state, target):
    """Copy B or C of one chunk as float32, step by step, to every second float of the target."""
    for t in range(count):
        at = address_of(sequence, b, t0 + t, 0)
        for n in range(d_state):
            if sequence.kind == FLOAT32:
                store_scalar(target, load_scalar(at + 4 * n))
            else:
                store_scalar(target, load_scalar_bfloat16(at + 2 * n))
            target += 8


@jit
def copy(source, target, count):
    """Copy count vectors, or write zeros where there is no source."""
    for i in range(0, count * BLOCK, BLOCK):
        store(target + i, load(source + i) if source else zero())


@jit
def read_states(source, dim, d_state, target):
    """Copy a state (dim, d_state) as blocks of d_state vectors, or zeros where there is no source."""
    for channel in range(0, dim, LANES):
        lanes = minimum(LANES, dim - channel)
        for n in range(d_state):
            at = source + 4 * (channel * d_state + n)
            store(target, gather(at, 4 * d_state, lanes) if source else zero())
            target += BLOCK


@jit
def read_channels(source, channel, lanes):
    """Load a block of a vector over the channels, or zeros where there is none."""
    return load_some(source + 4 * channel, lanes) if source else zero()


@jit
def read_rates(A, dim, d_state, target):
    """Copy A as exponents of 2 per step, finite so that no infinity times zero can arise."""
    read_states(A, dim, d_state, target)
    for at in range(target, target + (dim + LANES - 1) // LANES * d_state * BLOCK, BLOCK):
        store(at, clamp(mul(load(at), splat(LOG2E)), LARGEST_RATE))


@jit
def write_states(source, dim, d_state, target):
    """Copy blocks of d_state vectors to a state (dim, d_state): the inverse of `read_states`."""
    for channel in range(0, dim, LANES):
        lanes = minimum(LANES, dim - channel)
        for n in range(d_state):
            at = target + 4 * (channel * d_state + n)
            scatter(at, load(source), 4 * d_state, lanes)
            source += BLOCK
