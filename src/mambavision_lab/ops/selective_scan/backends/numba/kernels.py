"""The kernels of the numba backend: one worker function for each direction.

A worker takes tasks off a shared counter, and runs each through its chunks and blocks; the package's
docstring has the layout. Loops are numba's; blocks of a tensor come from `blocks.py`, vectors from
`vectors.py`. What a call needs is in one record, `CALL`: addresses, strides (negative for a scan in
reverse) and sizes.
"""

from typing import Any

import numpy as np
from numba import cfunc, types

from mambavision_lab.ops.selective_scan.backends.numba.blocks import (
    address_of,
    copy,
    distance,
    jit,
    output_buffer,
    read,
    read_channels,
    read_maps,
    read_rates,
    read_states,
    write,
    write_states,
)
from mambavision_lab.ops.selective_scan.backends.numba.call import (
    ARRAYS,
    BLOCK,
    CHUNK_STATES,
    DECAYS,
    DELTA_U,
    GRAD_DELTA_U,
    GRAD_EXPONENTS,
    GRADS,
    INPUTS,
    LANES,
    NEXT_TASK,
    NEXT_WORKER,
    OUTPUTS,
    SLOPES,
    STATES,
    STEPS,
)
from mambavision_lab.ops.selective_scan.backends.numba.vectors import (
    add,
    as_call,
    exp2_of_product,
    fetch_and_increment,
    fma,
    load,
    load_scalar,
    minimum,
    mul,
    prefetch,
    prefetch_to_write,
    sigmoid,
    softplus,
    splat,
    store,
    store_scalar,
    sum_lanes,
    zero,
)

ONE, LN2 = np.float32(1), np.float32(np.log(2))
# Where steps hardly decay, every step's rounding stays to the end. Longer sequences than this go from
# chunk to chunk by one factor each.
LONG = 256

# ---- a block in a chunk ----------------------------------------------------------------------------
# The next block's memory, ahead by (skip_t, skip_channel), is prefetched: the hardware does not predict
# the stride.


@jit
def prepare(call, work, b, t0, count, channel, lanes, skip_t, skip_channel, y, y_bytes):
    """Fill in a block's steps, delta u and the D u of y; returns the sum of the steps."""
    u_ahead = distance(call.u, skip_t, skip_channel)
    delta_ahead = distance(call.delta, skip_t, skip_channel)
    y_ahead = distance(call.y, skip_t, skip_channel)
    at_u, at_delta = address_of(call.u, b, t0, channel), address_of(call.delta, b, t0, channel)
    u, u_bytes = read(call.u, at_u, u_ahead, lanes, count, work + INPUTS)
    delta, delta_bytes = read(call.delta, at_delta, delta_ahead, lanes, count, work + STEPS)
    bias = read_channels(call.delta_bias, channel, lanes)
    D, elapsed = read_channels(call.D, channel, lanes), zero()
    for at in range(work, work + count * BLOCK, BLOCK):
        prefetch(u + u_ahead)
        prefetch(delta + delta_ahead)
        prefetch_to_write(y + y_ahead)
        u_t, step = load(u), add(load(delta), bias)
        step = softplus(step) if call.softplus else step
        elapsed = add(elapsed, step)
        store(at + STEPS, step)
        store(at + DELTA_U, mul(step, u_t))
        store(y, mul(D, u_t))
        u += u_bytes
        delta += delta_bytes
        y += y_bytes
    return elapsed


def _scan_of(is_long):
    @jit
    def scan(h, rate, elapsed, work, count, BC, d_state, y, y_bytes):
        """Run one state of a block through a chunk, add its share to y and return the state."""
        first, local = h, zero()  # local: the state if the first were zero
        for t in range(count):
            at, BC_t = work + t * BLOCK, BC + t * 8 * d_state
            decay = exp2_of_product(load(at + STEPS), rate)
            added = mul(load(at + DELTA_U), splat(load_scalar(BC_t)))
            h = fma(decay, h, added)
            store(y, fma(h, splat(load_scalar(BC_t + 4)), load(y)))
            y += y_bytes
            if is_long:
                local = fma(decay, local, added)
        return fma(exp2_of_product(elapsed, rate), first, local) if is_long else h

    return scan


@jit
def prepare_backward(call, work, b, t0, count, channel, lanes, skip_t, skip_channel):
    """Fill in what a block's gradients need of its inputs; returns the sum of the steps."""
    u_ahead = distance(call.u, skip_t, skip_channel)
    delta_ahead = distance(call.delta, skip_t, skip_channel)
    y_ahead = distance(call.grad_y, skip_t, skip_channel)
    at_u, at_delta = address_of(call.u, b, t0, channel), address_of(call.delta, b, t0, channel)
    at_y = address_of(call.grad_y, b, t0, channel)
    u, u_bytes = read(call.u, at_u, u_ahead, lanes, count, work + INPUTS)
    delta, delta_bytes = read(call.delta, at_delta, delta_ahead, lanes, count, work + STEPS)
    grad_y, y_bytes = read(call.grad_y, at_y, y_ahead, lanes, count, work + GRADS)
    bias, elapsed = read_channels(call.delta_bias, channel, lanes), zero()
    for at in range(work, work + count * BLOCK, BLOCK):
        prefetch(u + u_ahead)
        prefetch(delta + delta_ahead)
        prefetch(grad_y + y_ahead)
        u_t, grad, step = load(u), load(grad_y), add(load(delta), bias)
        store(at + SLOPES, sigmoid(step) if call.softplus else splat(ONE))
        step = softplus(step) if call.softplus else step
        elapsed = add(elapsed, step)
        store(at + STEPS, step)
        store(at + DELTA_U, mul(step, u_t))
        store(at + INPUTS, u_t)
        store(at + GRADS, grad)
        store(at + GRAD_DELTA_U, zero())  # of delta u
        store(at + GRAD_EXPONENTS, zero())  # of delta A2, times A2
        u += u_bytes
        delta += delta_bytes
        grad_y += y_bytes
    return elapsed


def _sweep_of(is_long):
    @jit
    def sweep(h, carry, rate, elapsed, work, count, BC, grads_BC, d_state, grad_A):
        """Run one state of a block forward through a chunk and its gradient back; returns the gradient.

        carry is the gradient of the state after the chunk, decayed to the step before it.
        """
        for t in range(count):
            at, BC_t, grads_t = (
                work + t * BLOCK,
                BC + t * 8 * d_state,
                grads_BC + t * 2 * d_state * BLOCK,
            )
            decay = exp2_of_product(load(at + STEPS), rate)
            store(at + DECAYS, decay)
            store(at + STATES, h)
            h = fma(decay, h, mul(load(at + DELTA_U), splat(load_scalar(BC_t))))
            store(grads_t + BLOCK, fma(load(at + GRADS), h, load(grads_t + BLOCK)))
        last, local, sum_A = carry, zero(), zero()  # local: the carry if the last were zero
        for i in range(1, count + 1):
            t = count - i
            at, BC_t, grads_t = (
                work + t * BLOCK,
                BC + t * 8 * d_state,
                grads_BC + t * 2 * d_state * BLOCK,
            )
            decay, added = load(at + DECAYS), mul(load(at + GRADS), splat(load_scalar(BC_t + 4)))
            g = add(added, carry)
            store(grads_t, fma(g, load(at + DELTA_U), load(grads_t)))
            store(at + GRAD_DELTA_U, fma(g, splat(load_scalar(BC_t)), load(at + GRAD_DELTA_U)))
            added = mul(added, decay)
            carry = fma(decay, carry, added)
            if is_long:
                local = fma(decay, local, added)
            g = mul(carry, load(at + STATES))
            sum_A = fma(g, load(at + STEPS), sum_A)
            store(at + GRAD_EXPONENTS, fma(g, rate, load(at + GRAD_EXPONENTS)))
        store(grad_A, add(sum_A, load(grad_A)))
        return fma(exp2_of_product(elapsed, rate), last, local) if is_long else carry

    return sweep


@jit
def finish_backward(call, work, b, t0, count, channel, lanes, skip_t, skip_channel):
    """Write a block's gradients of u and delta, and add to those of D and the bias."""
    u_ahead = distance(call.grad_u, skip_t, skip_channel)
    delta_ahead = distance(call.grad_delta, skip_t, skip_channel)
    at_u, at_delta = (
        address_of(call.grad_u, b, t0, channel),
        address_of(call.grad_delta, b, t0, channel),
    )
    grad_u, u_bytes = output_buffer(call.grad_u, at_u, lanes, work + INPUTS)
    grad_delta, delta_bytes = output_buffer(call.grad_delta, at_delta, lanes, work + STEPS)
    D, sum_D, sum_bias = read_channels(call.D, channel, lanes), zero(), zero()
    for at in range(work, work + count * BLOCK, BLOCK):
        prefetch_to_write(grad_u + u_ahead)
        prefetch_to_write(grad_delta + delta_ahead)
        u_t, grad, grad_delta_u = load(at + INPUTS), load(at + GRADS), load(at + GRAD_DELTA_U)
        sum_D = fma(grad, u_t, sum_D)
        out = fma(load(at + GRAD_EXPONENTS), splat(LN2), mul(grad_delta_u, u_t))
        out = mul(out, load(at + SLOPES))
        sum_bias = add(out, sum_bias)
        store(grad_u, fma(D, grad, mul(grad_delta_u, load(at + STEPS))))
        store(grad_delta, out)
        grad_u += u_bytes
        grad_delta += delta_bytes
    write(call.grad_u, at_u, lanes, count, work + INPUTS)
    write(call.grad_delta, at_delta, lanes, count, work + STEPS)
    # Sums of a chunk's sums round less.
    index = (b * ((call.dim + LANES - 1) // LANES) + channel // LANES) * BLOCK
    store(call.grad_D + index, add(sum_D, load(call.grad_D + index)))
    store(call.grad_bias + index, add(sum_bias, load(call.grad_bias + index)))


scan, scan_long = _scan_of(is_long=False), _scan_of(is_long=True)
sweep, sweep_long = _sweep_of(is_long=False), _sweep_of(is_long=True)

# ---- workers ---------------------------------------------------------------------------------------


def forward(pointer):
    """Fill in y, the last state and, if there is room for them, the states saved for `backward`."""
    call = as_call(pointer)
    d_state, length = call.d_state, call.length
    blocks = (call.dim + LANES - 1) // LANES
    chunk_steps = CHUNK_STATES // d_state if d_state < CHUNK_STATES else 1
    chunks = (length + chunk_steps - 1) // chunk_steps
    state_bytes = d_state * BLOCK
    work = call.scratch + fetch_and_increment(pointer, NEXT_WORKER) * call.scratch_bytes
    maps = work + ARRAYS
    rates = maps + (8 * chunk_steps * d_state + BLOCK - 1) // BLOCK * BLOCK
    states = rates + blocks * state_bytes
    read_rates(call.A, call.dim, d_state, rates)
    while True:
        task = fetch_and_increment(pointer, NEXT_TASK)
        if task >= call.batch * call.groups:
            break
        b, group = task // call.groups, task % call.groups
        first = group * blocks // call.groups * LANES  # channel
        dim = minimum(call.dim, (group + 1) * blocks // call.groups * LANES) - first
        state_b = 4 * (b * call.dim + first) * d_state
        read_states(call.first_state + state_b if call.first_state else 0, dim, d_state, states)
        for chunk in range(chunks):
            t0 = chunk * chunk_steps
            count = minimum(chunk_steps, length - t0)
            read_maps(call.B, b, t0, count, d_state, maps)
            read_maps(call.C, b, t0, count, d_state, maps + 4)
            for channel in range(first, first + dim, LANES):
                block, lanes = channel // LANES, minimum(LANES, call.dim - channel)
                is_last = channel + LANES >= first + dim
                skip_t = chunk_steps if is_last else 0
                skip_channel = first - channel if is_last else LANES
                state = states + (block - first // LANES) * state_bytes
                if call.saved:
                    index = (b * chunks + chunk) * blocks + block
                    copy(state, call.saved + index * state_bytes, d_state)
                at_y = address_of(call.y, b, t0, channel)
                y, y_bytes = output_buffer(call.y, at_y, lanes, work + OUTPUTS)
                elapsed = prepare(
                    call, work, b, t0, count, channel, lanes, skip_t, skip_channel, y, y_bytes
                )
                for i in range(0, state_bytes, BLOCK):
                    h, rate = load(state + i), load(rates + block * state_bytes + i)
                    BC = maps + i // 8
                    if length > LONG:
                        h = scan_long(h, rate, elapsed, work, count, BC, d_state, y, y_bytes)
                    else:
                        h = scan(h, rate, elapsed, work, count, BC, d_state, y, y_bytes)
                    store(state + i, h)
                write(call.y, at_y, lanes, count, work + OUTPUTS)
        write_states(states, dim, d_state, call.last_state + state_b)


def backward(pointer):
    """Fill in the gradients: of A, D and the bias per sample, of B and C per task.

    The gradient of the last state comes as first_state, that of the initial state goes to last_state.
    """
    call = as_call(pointer)
    d_state, length = call.d_state, call.length
    blocks = (call.dim + LANES - 1) // LANES
    chunk_steps = CHUNK_STATES // d_state if d_state < CHUNK_STATES else 1
    chunks = (length + chunk_steps - 1) // chunk_steps
    state_bytes = d_state * BLOCK
    work = call.scratch + fetch_and_increment(pointer, NEXT_WORKER) * call.scratch_bytes
    maps = work + ARRAYS
    sums = maps + (8 * chunk_steps * d_state + BLOCK - 1) // BLOCK * BLOCK  # gradients of B and C
    rates = sums + 2 * chunk_steps * state_bytes
    carries = rates + blocks * state_bytes
    read_rates(call.A, call.dim, d_state, rates)
    while True:
        task = fetch_and_increment(pointer, NEXT_TASK)
        if task >= call.batch * call.groups:
            break
        b, group = task // call.groups, task % call.groups
        first = group * blocks // call.groups * LANES  # channel
        dim = minimum(call.dim, (group + 1) * blocks // call.groups * LANES) - first
        state_b = 4 * (b * call.dim + first) * d_state
        read_states(call.first_state + state_b if call.first_state else 0, dim, d_state, carries)
        for chunk in range(chunks - 1, -1, -1):
            t0 = chunk * chunk_steps
            count = minimum(chunk_steps, length - t0)
            read_maps(call.B, b, t0, count, d_state, maps)
            read_maps(call.C, b, t0, count, d_state, maps + 4)
            copy(0, sums, 2 * count * d_state)
            for channel in range(first, first + dim, LANES):
                block, lanes = channel // LANES, minimum(LANES, call.dim - channel)
                is_last = channel + LANES >= first + dim
                skip_t = -chunk_steps if is_last else 0
                skip_channel = first - channel if is_last else LANES
                elapsed = prepare_backward(
                    call, work, b, t0, count, channel, lanes, skip_t, skip_channel
                )
                saved = call.saved + ((b * chunks + chunk) * blocks + block) * state_bytes
                carry = carries + (block - first // LANES) * state_bytes
                grad_A = call.grad_A + (b * blocks + block) * state_bytes
                for i in range(0, state_bytes, BLOCK):
                    h, g, rate = (
                        load(saved + i),
                        load(carry + i),
                        load(rates + block * state_bytes + i),
                    )
                    BC, grads_BC, to = maps + i // 8, sums + 2 * i, grad_A + i
                    if length > LONG:
                        g = sweep_long(h, g, rate, elapsed, work, count, BC, grads_BC, d_state, to)
                    else:
                        g = sweep(h, g, rate, elapsed, work, count, BC, grads_BC, d_state, to)
                    store(carry + i, g)
                finish_backward(call, work, b, t0, count, channel, lanes, skip_t, skip_channel)
            at = sums
            for t in range(t0, t0 + count):
                grad_B, grad_C = (
                    address_of(call.grad_B, task, t, 0),
                    address_of(call.grad_C, task, t, 0),
                )
                for n in range(d_state):
                    store_scalar(grad_B + 4 * n, sum_lanes(load(at)))
                    store_scalar(grad_C + 4 * n, sum_lanes(load(at + BLOCK)))
                    at += 2 * BLOCK
        write_states(carries, dim, d_state, call.last_state + state_b)


def compile_kernel(name: str) -> tuple[Any, str]:
    """Compile "forward" or "backward"; returns numba's code library and the name of the kernel there."""
    kernel = cfunc(types.void(types.voidptr), error_model="numpy")(globals()[name])
    return kernel._library, kernel._wrapper_name
