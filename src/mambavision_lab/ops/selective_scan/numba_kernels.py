"""The kernels of the numba backend: one worker function for each direction.

Data are (batch, length, dim); 16 neighbouring channels, a block, are one vector. A task is one sample
(or, where samples are few, one sample's share of the blocks); workers take tasks off a shared counter.
Within a task the length is cut into chunks whose factors and states stay in the first-level cache:
chunk -> block -> step -> d_state. Backward recomputes one chunk from its first state and sweeps it in
reverse. A task's sums have a place of their own, so results do not depend on which worker took it.

Vectors are LLVM's <16 x float>, which LLVM fits to what the machine has; the loops are numba's. What a
call needs is in one record, `CALL`: addresses, strides in bytes (negative for a scan in reverse) and
sizes. All of the compiled code is in this file, whose hash names what `compiled.py` keeps.
"""

import functools
from typing import Any

import numpy as np
from llvmlite import ir
from numba import cfunc, from_dtype, njit, types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.extending import intrinsic, register_model

from mambavision_lab.ops.selective_scan.numba_call import CALL, CHUNK_STATES, LANES

BLOCK = 4 * LANES  # bytes
FLOAT32 = 0  # and 1 is bfloat16

# 2**x on [-0.5, 0.5], relative error 2e-9; log1p(z) / z on [0, 1], 5e-9. Both exact at 0.
_EXP2 = (1.53533620e-4, 1.33988750e-3, 9.61843692e-3, 5.55033237e-2, 0.240226477, 0.693147182, 1.0)
_LOG1P = (-0.00331847253, 0.0202045846, -0.0576644465, 0.106805556, -0.153553963)
_LOG1P += (0.196954012, -0.249585882, 0.33330512, -0.499999315, 1.0)
_MAGIC = float(1.5 * 2**23 + 127)  # adding it rounds, and leaves a float's exponent in the low bits
_MAGIC_BITS = int(np.float32(_MAGIC).view(np.int32))
_LOG2E = float(np.float32(np.log2(np.e)))
_LOG2E_REST = float(np.float32(np.log2(np.e) - _LOG2E))
LN2 = float(np.float32(np.log(2)))

# ---- vectors ---------------------------------------------------------------------------------------

_F32, _I16, _I32, _I64 = ir.FloatType(), ir.IntType(16), ir.IntType(32), ir.IntType(64)
_VEC, _IVEC, _HALVES = (ir.VectorType(t, LANES) for t in (_F32, _I32, _I16))


class _Lanes(types.Type):
    def __init__(self) -> None:
        super().__init__(name="Lanes")


_lanes = _Lanes()


@register_model(_Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, fe_type: Any) -> None:
        super().__init__(manager, fe_type, _VEC)


def _instruction(result: types.Type, *parameters: types.Type) -> Any:
    """Make emit(builder, *values) -> value a function that compiled code can call."""

    def wrap(emit: Any) -> Any:
        typed = result(*parameters), lambda context, builder, _, values: emit(builder, *values)
        by_arity = (  # numba wants to see the number of arguments
            lambda typingctx: typed,
            lambda typingctx, a: typed,
            lambda typingctx, a, b: typed,
            lambda typingctx, a, b, c: typed,
        )
        return intrinsic(by_arity[len(parameters)])

    return wrap


def _splat(value: float, vector: ir.VectorType = _VEC) -> ir.Constant:
    return ir.Constant(vector, [value] * LANES)


def _call(builder: Any, name: str, *values: Any) -> Any:
    kind = ir.FunctionType(values[-1].type, [v.type for v in values])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), values)


def _fma(builder: Any, a: Any, b: Any, c: Any) -> Any:
    return _call(builder, "llvm.fmuladd.v16f32", a, b, c)


def _pointer(builder: Any, address: Any, kind: ir.Type) -> Any:
    return builder.inttoptr(address, kind.as_pointer())


def _polynomial(builder: Any, x: Any, coefficients: tuple[float, ...]) -> Any:
    p = _splat(coefficients[0])
    for c in coefficients[1:]:
        p = _fma(builder, p, x, _splat(c))
    return p


def _exp2_of_product(builder: Any, a: Any, b: Any, b_rest: Any = None) -> Any:
    """2**(a b) as 2**k 2**f, k an integer and |f| <= 1/2; 0 and infinity beyond float32, NaN for NaN."""
    t = _fma(builder, a, b, _splat(_MAGIC))
    f = _fma(builder, a, b, builder.fneg(builder.fsub(t, _splat(_MAGIC))))
    if b_rest is not None:
        f = _fma(builder, a, b_rest, f)
    bits = builder.bitcast(t, _IVEC)
    for order, limit in (("<", _MAGIC_BITS - 127), (">", _MAGIC_BITS + 128)):
        bound = _splat(limit, _IVEC)
        bits = builder.select(builder.icmp_signed(order, bits, bound), bound, bits)
    scale = builder.bitcast(builder.shl(bits, _splat(23, _IVEC)), _VEC)
    return builder.fmul(_polynomial(builder, f, _EXP2), scale)


def _exp_of_minus_abs(builder: Any, x: Any) -> Any:
    size = _call(builder, "llvm.fabs.v16f32", x)
    limit = _splat(87.0)  # beyond, 2**k leaves float32's range
    size = builder.select(builder.fcmp_ordered(">", size, limit), limit, size)
    minus = builder.fneg(size)
    return _exp2_of_product(builder, minus, _splat(_LOG2E), _splat(_LOG2E_REST))


zero = _instruction(_lanes)(lambda builder: _splat(0.0))
add = _instruction(_lanes, _lanes, _lanes)(lambda builder, a, b: builder.fadd(a, b))
mul = _instruction(_lanes, _lanes, _lanes)(lambda builder, a, b: builder.fmul(a, b))
fma = _instruction(_lanes, _lanes, _lanes, _lanes)(_fma)
exp2_of_product = _instruction(_lanes, _lanes, _lanes)(_exp2_of_product)


@_instruction(_lanes, types.float32)
def splat(builder, x):
    """All lanes x."""
    vector = builder.insert_element(ir.Constant(_VEC, ir.Undefined), x, _I32(0))
    zeros = ir.Constant(_IVEC, [0] * LANES)
    return builder.shuffle_vector(vector, ir.Constant(_VEC, ir.Undefined), zeros)


@_instruction(_lanes, _lanes)
def softplus(builder, x):
    """log(1 + exp(x))."""
    positive = builder.select(builder.fcmp_ordered(">", x, _splat(0.0)), x, _splat(0.0))
    z = _exp_of_minus_abs(builder, x)
    return _fma(builder, z, _polynomial(builder, z, _LOG1P), positive)


@_instruction(_lanes, _lanes)
def sigmoid(builder, x):
    """1 / (1 + exp(-x)), the derivative of softplus."""
    z = _exp_of_minus_abs(builder, x)
    upper = builder.select(builder.fcmp_ordered("<", x, _splat(0.0)), z, _splat(1.0))
    return builder.fdiv(upper, builder.fadd(z, _splat(1.0)))


@_instruction(types.float32, _lanes)
def total(builder, x):
    """Sum of the lanes."""
    kind = ir.FunctionType(_F32, [_F32, _VEC])
    name = "llvm.vector.reduce.fadd.v16f32"
    function = cgutils.get_or_insert_function(builder.module, kind, name)
    return builder.call(function, (_F32(0.0), x), fastmath=("reassoc",))


@_instruction(_lanes, types.int64)
def load(builder, address):
    """16 neighbouring float32."""
    return builder.load(_pointer(builder, address, _VEC), align=4)


@_instruction(types.void, types.int64, _lanes)
def store(builder, address, x):
    """16 neighbouring float32."""
    builder.store(x, _pointer(builder, address, _VEC), align=4)


@_instruction(_lanes, types.int64)
def load_bfloat16(builder, address):
    """16 neighbouring bfloat16, widened."""
    halves = builder.load(_pointer(builder, address, _HALVES), align=2)
    return builder.bitcast(builder.shl(builder.zext(halves, _IVEC), _splat(16, _IVEC)), _VEC)


@_instruction(types.void, types.int64, _lanes)
def store_bfloat16(builder, address, x):
    """16 neighbouring bfloat16, rounded to the nearest, ties to even; NaN stays NaN."""
    bits = builder.bitcast(x, _IVEC)
    odd = builder.and_(builder.lshr(bits, _splat(16, _IVEC)), _splat(1, _IVEC))
    rounded = builder.add(builder.add(bits, odd), _splat(0x7FFF, _IVEC))
    is_nan = builder.fcmp_unordered("uno", x, x)
    rounded = builder.select(is_nan, _splat(0x7FC00000, _IVEC), rounded)
    halves = builder.trunc(builder.lshr(rounded, _splat(16, _IVEC)), _HALVES)
    builder.store(halves, _pointer(builder, address, _HALVES), align=2)


@_instruction(types.float32, types.int64)
def load_scalar(builder, address):
    """One float32."""
    return builder.load(_pointer(builder, address, _F32), align=4)


@_instruction(types.void, types.int64, types.float32)
def store_scalar(builder, address, x):
    """One float32."""
    builder.store(x, _pointer(builder, address, _F32), align=4)


@_instruction(types.uint16, types.int64)
def load_bits(builder, address):
    """One bfloat16 as it is stored."""
    return builder.load(_pointer(builder, address, _I16), align=2)


@_instruction(types.void, types.int64, types.uint16)
def store_bits(builder, address, x):
    """One bfloat16 as it is stored."""
    builder.store(x, _pointer(builder, address, _I16), align=2)


@_instruction(types.float32, types.uint16)
def widen_bits(builder, x):
    """A bfloat16's bits as a float32."""
    return builder.bitcast(builder.shl(builder.zext(x, _I32), _I32(16)), _F32)


@_instruction(from_dtype(CALL), types.voidptr)
def as_call(builder, pointer):
    """The record behind a pointer."""
    return builder.bitcast(pointer, ir.ArrayType(ir.IntType(8), CALL.itemsize).as_pointer())


@_instruction(types.int64, types.int64, types.int64)
def smaller(builder, a, b):
    """The smaller of two numbers."""
    return builder.select(builder.icmp_signed("<", a, b), a, b)


@_instruction(types.int64, types.int64)
def take_number(builder, address):
    """Count up by one and return the number before, safe among workers."""
    pointer = _pointer(builder, address, _I64)
    return builder.atomic_rmw("add", pointer, _I64(1), "monotonic")


# ---- pieces ----------------------------------------------------------------------------------------

piece = functools.partial(njit, error_model="numpy")


@piece
def read(source, stride, kind, lanes, steps, target):
    """A block's steps as float32, zeros beyond the last channel."""
    for t in range(steps):
        at, to = source + t * stride, target + t * BLOCK
        if lanes == LANES:
            store(to, load(at) if kind == FLOAT32 else load_bfloat16(at))
        else:
            store(to, zero())
            for i in range(lanes):
                if kind == FLOAT32:
                    store_scalar(to + 4 * i, load_scalar(at + 4 * i))
                else:
                    store_scalar(to + 4 * i, widen_bits(load_bits(at + 2 * i)))


@piece
def write(source, steps, target, stride, kind, lanes):
    """The way back of `read`; source is spoiled where there are few lanes."""
    for t in range(steps):
        at, to = source + t * BLOCK, target + t * stride
        if lanes == LANES:
            if kind == FLOAT32:
                store(to, load(at))
            else:
                store_bfloat16(to, load(at))
        elif kind == FLOAT32:
            for i in range(lanes):
                store_scalar(to + 4 * i, load_scalar(at + 4 * i))
        else:
            store_bfloat16(at, load(at))
            for i in range(lanes):
                store_bits(to + 2 * i, load_bits(at + 2 * i))


@piece
def read_maps(source, stride, kind, steps, d_state, target):
    """B or C of one chunk as float32, one step after the other."""
    for t in range(steps):
        for n in range(d_state):
            if kind == FLOAT32:
                value = load_scalar(source + t * stride + 4 * n)
            else:
                value = widen_bits(load_bits(source + t * stride + 2 * n))
            store_scalar(target + 4 * (t * d_state + n), value)


@piece
def copy(source, target, count):
    """Copy count vectors, or write zeros where there is no source."""
    for i in range(count):
        store(target + i * BLOCK, load(source + i * BLOCK) if source else zero())


@piece
def read_states(source, dim, d_state, target):
    """A state (dim, d_state) as blocks of d_state vectors, or zeros where there is no source."""
    copy(0, target, (dim + LANES - 1) // LANES * d_state)
    if source:
        for i in range(dim):
            to = target + i // LANES * d_state * BLOCK + 4 * (i % LANES)
            for n in range(d_state):
                store_scalar(to + n * BLOCK, load_scalar(source + 4 * (i * d_state + n)))


@piece
def write_states(source, dim, d_state, target):
    """The way back of `read_states`."""
    for i in range(dim):
        at = source + i // LANES * d_state * BLOCK + 4 * (i % LANES)
        for n in range(d_state):
            store_scalar(target + 4 * (i * d_state + n), load_scalar(at + n * BLOCK))


@piece
def carry_over(elapsed, rates, before, local, after, d_state):
    """A chunk's last state from its first in one step, so that roundings do not add up within it."""
    for i in range(0, d_state * BLOCK, BLOCK):
        decay = exp2_of_product(elapsed, load(rates + i))
        store(after + i, fma(decay, load(before + i), load(local + i)))


# ---- workers ---------------------------------------------------------------------------------------


def forward(pointer):
    """Fill in y, the last state and, where wanted, the states saved for `backward`."""
    call = as_call(pointer)
    d_state, length = call.d_state, call.length
    blocks = (call.dim + LANES - 1) // LANES
    chunk_steps = CHUNK_STATES // d_state if d_state < CHUNK_STATES else 1
    chunks = (length + chunk_steps - 1) // chunk_steps
    state_bytes = d_state * BLOCK
    states = call.scratch + take_number(call.next_worker) * call.scratch_bytes
    B = states + blocks * state_bytes
    C = B + 4 * chunk_steps * d_state
    inputs = C + 4 * chunk_steps * d_state
    steps = inputs + chunk_steps * BLOCK
    first_of_chunk = steps + chunk_steps * BLOCK
    local = first_of_chunk + state_bytes  # the state if the chunk's first were zero
    while True:
        task = take_number(call.next_task)
        if task >= call.batch * call.groups:
            break
        b, group = task // call.groups, task % call.groups
        first = group * blocks // call.groups * LANES  # channel
        dim = smaller(call.dim, (group + 1) * blocks // call.groups * LANES) - first
        state_b = 4 * (b * call.dim + first) * d_state
        read_states(call.first_state + state_b if call.first_state else 0, dim, d_state, states)
        for chunk in range(chunks):
            t0 = chunk * chunk_steps
            count = smaller(chunk_steps, length - t0)
            at = call.B + b * call.B_b + t0 * call.B_t
            read_maps(at, call.B_t, call.B_kind, count, d_state, B)
            at = call.C + b * call.C_b + t0 * call.C_t
            read_maps(at, call.C_t, call.C_kind, count, d_state, C)
            for channel in range(first, first + dim, LANES):
                block, lanes = channel // LANES, smaller(LANES, call.dim - channel)
                state = states + (channel - first) // LANES * state_bytes
                if call.saved:
                    index = (b * chunks + chunk) * blocks + block
                    copy(state, call.saved + index * state_bytes, d_state)
                at = call.u + b * call.u_b + t0 * call.u_t + (4 >> call.u_kind) * channel
                read(at, call.u_t, call.u_kind, lanes, count, inputs)
                at = call.delta + b * call.delta_b + t0 * call.delta_t
                at += (4 >> call.delta_kind) * channel
                read(at, call.delta_t, call.delta_kind, lanes, count, steps)
                bias, elapsed = load(call.delta_bias + 4 * channel), zero()
                for t in range(count):
                    step = add(load(steps + t * BLOCK), bias)
                    step = softplus(step) if call.softplus else step
                    elapsed = add(elapsed, step)
                    store(steps + t * BLOCK, step)
                copy(state, first_of_chunk, d_state)
                copy(0, local, d_state)
                rates = call.rates + block * state_bytes
                D = load(call.D + 4 * channel)
                for t in range(count):
                    u, step = load(inputs + t * BLOCK), load(steps + t * BLOCK)
                    drive, y = mul(step, u), mul(D, u)
                    for n in range(d_state):
                        i, tn = n * BLOCK, 4 * (t * d_state + n)
                        decay = exp2_of_product(step, load(rates + i))
                        driven = mul(drive, splat(load_scalar(B + tn)))
                        h = fma(decay, load(state + i), driven)
                        store(state + i, h)
                        store(local + i, fma(decay, load(local + i), driven))
                        y = fma(h, splat(load_scalar(C + tn)), y)
                    store(inputs + t * BLOCK, y)
                carry_over(elapsed, rates, first_of_chunk, local, state, d_state)
                at = call.y + b * call.y_b + t0 * call.y_t + (4 >> call.y_kind) * channel
                write(inputs, count, at, call.y_t, call.y_kind, lanes)
        write_states(states, dim, d_state, call.last_state + state_b)


def backward(pointer):
    """Fill in the gradients; those of A, D and the bias for each sample, of B and C for each task.

    The gradient of the last state comes as first_state, that of the initial state goes to last_state.
    """
    call = as_call(pointer)
    d_state, length = call.d_state, call.length
    blocks = (call.dim + LANES - 1) // LANES
    chunk_steps = CHUNK_STATES // d_state if d_state < CHUNK_STATES else 1
    chunks = (length + chunk_steps - 1) // chunk_steps
    state_bytes = d_state * BLOCK
    chunk_bytes = chunk_steps * state_bytes
    carries = call.scratch + take_number(call.next_worker) * call.scratch_bytes  # decay[t+1] g[t+1]
    B = carries + blocks * state_bytes
    C = B + 4 * chunk_steps * d_state
    lanes_B = C + 4 * chunk_steps * d_state  # gradients of B and C before the sum over channels
    lanes_C = lanes_B + chunk_bytes
    decays = lanes_C + chunk_bytes
    states = decays + chunk_bytes  # one more: begins with the chunk's first state
    inputs = states + chunk_bytes + state_bytes
    steps = inputs + chunk_steps * BLOCK
    slopes = steps + chunk_steps * BLOCK
    grads = slopes + chunk_steps * BLOCK
    chunk_A = grads + chunk_steps * BLOCK
    last_of_chunk = chunk_A + state_bytes
    local = last_of_chunk + state_bytes  # the carry if that from later chunks were zero
    while True:
        task = take_number(call.next_task)
        if task >= call.batch * call.groups:
            break
        b, group = task // call.groups, task % call.groups
        first = group * blocks // call.groups * LANES  # channel
        dim = smaller(call.dim, (group + 1) * blocks // call.groups * LANES) - first
        state_b = 4 * (b * call.dim + first) * d_state
        read_states(call.first_state + state_b if call.first_state else 0, dim, d_state, carries)
        for chunk in range(chunks - 1, -1, -1):
            t0 = chunk * chunk_steps
            count = smaller(chunk_steps, length - t0)
            at = call.B + b * call.B_b + t0 * call.B_t
            read_maps(at, call.B_t, call.B_kind, count, d_state, B)
            at = call.C + b * call.C_b + t0 * call.C_t
            read_maps(at, call.C_t, call.C_kind, count, d_state, C)
            copy(0, lanes_B, 2 * chunk_steps * d_state)
            for channel in range(first, first + dim, LANES):
                block, lanes = channel // LANES, smaller(LANES, call.dim - channel)
                copy(
                    call.saved + ((b * chunks + chunk) * blocks + block) * state_bytes,
                    states,
                    d_state,
                )
                at = call.u + b * call.u_b + t0 * call.u_t + (4 >> call.u_kind) * channel
                read(at, call.u_t, call.u_kind, lanes, count, inputs)
                at = call.delta + b * call.delta_b + t0 * call.delta_t
                at += (4 >> call.delta_kind) * channel
                read(at, call.delta_t, call.delta_kind, lanes, count, steps)
                at = call.grad_y + b * call.grad_y_b + t0 * call.grad_y_t
                at += (4 >> call.grad_y_kind) * channel
                read(at, call.grad_y_t, call.grad_y_kind, lanes, count, grads)
                bias, elapsed = load(call.delta_bias + 4 * channel), zero()
                for t in range(count):
                    step = add(load(steps + t * BLOCK), bias)
                    slope = sigmoid(step) if call.softplus else splat(np.float32(1))
                    store(slopes + t * BLOCK, slope)
                    step = softplus(step) if call.softplus else step
                    elapsed = add(elapsed, step)
                    store(steps + t * BLOCK, step)
                rates = call.rates + block * state_bytes
                for t in range(count):
                    step, grad = load(steps + t * BLOCK), load(grads + t * BLOCK)
                    drive = mul(step, load(inputs + t * BLOCK))
                    for n in range(d_state):
                        tn = t * d_state + n
                        decay = exp2_of_product(step, load(rates + n * BLOCK))
                        h = mul(drive, splat(load_scalar(B + 4 * tn)))
                        h = fma(decay, load(states + tn * BLOCK), h)
                        store(decays + tn * BLOCK, decay)
                        store(states + (tn + d_state) * BLOCK, h)
                        store(lanes_C + tn * BLOCK, fma(grad, h, load(lanes_C + tn * BLOCK)))
                carry = carries + (channel - first) // LANES * state_bytes
                grad_A = call.grad_A + (b * blocks + block) * state_bytes
                grad_D = call.grad_D + (b * blocks + block) * BLOCK
                grad_bias = call.grad_bias + (b * blocks + block) * BLOCK
                sum_D, sum_bias = zero(), zero()  # of this chunk: sums of sums round less
                copy(0, chunk_A, d_state)
                copy(carry, last_of_chunk, d_state)
                copy(0, local, d_state)
                D = load(call.D + 4 * channel)
                for t in range(count - 1, -1, -1):
                    u, step = load(inputs + t * BLOCK), load(steps + t * BLOCK)
                    grad = load(grads + t * BLOCK)
                    drive = mul(step, u)
                    grad_drive, grad_exponent = zero(), zero()  # of delta u; of delta A2, times A2
                    for n in range(d_state):
                        i, tn = n * BLOCK, t * d_state + n
                        C_t = splat(load_scalar(C + 4 * tn))
                        decay = load(decays + tn * BLOCK)
                        store(local + i, mul(decay, fma(grad, C_t, load(local + i))))
                        g = fma(grad, C_t, load(carry + i))
                        store(lanes_B + tn * BLOCK, fma(g, drive, load(lanes_B + tn * BLOCK)))
                        grad_drive = fma(g, splat(load_scalar(B + 4 * tn)), grad_drive)
                        g = mul(g, decay)
                        store(carry + i, g)
                        g = mul(g, load(states + tn * BLOCK))
                        store(chunk_A + i, fma(g, step, load(chunk_A + i)))
                        grad_exponent = fma(g, load(rates + i), grad_exponent)
                    sum_D = fma(grad, u, sum_D)
                    store(inputs + t * BLOCK, fma(D, grad, mul(grad_drive, step)))
                    out = fma(grad_exponent, splat(np.float32(LN2)), mul(grad_drive, u))
                    out = mul(out, load(slopes + t * BLOCK))
                    sum_bias = add(out, sum_bias)
                    store(steps + t * BLOCK, out)
                carry_over(elapsed, rates, last_of_chunk, local, carry, d_state)
                store(grad_D, add(sum_D, load(grad_D)))
                store(grad_bias, add(sum_bias, load(grad_bias)))
                for i in range(0, state_bytes, BLOCK):
                    store(grad_A + i, add(load(chunk_A + i), load(grad_A + i)))
                at = call.grad_u + b * call.grad_u_b + t0 * call.grad_u_t
                at += (4 >> call.grad_u_kind) * channel
                write(inputs, count, at, call.grad_u_t, call.grad_u_kind, lanes)
                at = call.grad_delta + b * call.grad_delta_b + t0 * call.grad_delta_t
                at += (4 >> call.grad_delta_kind) * channel
                write(steps, count, at, call.grad_delta_t, call.grad_delta_kind, lanes)
            for t in range(count):
                at_B = call.grad_B + task * call.grad_B_b + (t0 + t) * call.grad_B_t
                at_C = call.grad_C + task * call.grad_C_b + (t0 + t) * call.grad_C_t
                for n in range(d_state):
                    i = (t * d_state + n) * BLOCK
                    store_scalar(at_B + 4 * n, total(load(lanes_B + i)))
                    store_scalar(at_C + 4 * n, total(load(lanes_C + i)))
        write_states(carries, dim, d_state, call.last_state + state_b)


def compile_kernel(name: str) -> tuple[Any, str]:
    """Compile "forward" or "backward"; returns numba's code library and the kernel's name in it."""
    kernel = cfunc(types.void(types.voidptr), error_model="numpy")(globals()[name])
    return kernel._library, kernel._wrapper_name
