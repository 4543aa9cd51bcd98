"""Define vectors of 16 float32 for the numba kernels: LLVM's <16 x float>, for any instruction set.

Each function here is an instruction that compiled code can call; addresses are int64, in bytes. A block
of fewer than 16 channels is loaded with zeros beyond the last and stored up to it.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import from_dtype, types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.extending import intrinsic, register_model

from mambavision_lab.ops.selective_scan.backends.numba.call import CALL, LANES

_HOST = binding.get_host_cpu_features()
HAS_AVX512 = all(_HOST.get(feature, False) for feature in ("avx512f", "avx512dq"))

# 2**x on [-0.5, 0.5], relative error 2e-9; log1p(z) / z on [0, 1], 5e-9. Both exact at 0.
_EXP2 = (1.53533620e-4, 1.33988750e-3, 9.61843692e-3, 5.55033237e-2, 0.240226477, 0.693147182, 1.0)
_LOG1P = (-0.00331847253, 0.0202045846, -0.0576644465, 0.106805556, -0.153553963)
_LOG1P += (0.196954012, -0.249585882, 0.33330512, -0.499999315, 1.0)
_MAGIC = float(1.5 * 2**23 + 127)  # adding it rounds, and leaves a float's exponent in the low bits
_MAGIC_BITS = int(np.float32(_MAGIC).view(np.int32))
_LOG2E = float(np.float32(np.log2(np.e)))
_LOG2E_REST = float(np.float32(np.log2(np.e) - _LOG2E))

_BIT, _BYTE, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (1, 8, 16, 32, 64))
_F32 = ir.FloatType()
_VEC, _IVEC, _HALVES, _BITS, _INDICES = (
    ir.VectorType(kind, LANES) for kind in (_F32, _I32, _I16, _BIT, _I64)
)


class _Lanes(types.Type):
    def __init__(self) -> None:
        super().__init__(name="Lanes")


_lanes = _Lanes()


@register_model(_Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, fe_type: Any) -> None:
        super().__init__(manager, fe_type, _VEC)


def _instruction(result: types.Type, *parameters: types.Type) -> Callable[[Callable], Any]:
    """Turn emit(builder, *values) -> value into a function that compiled code can call."""

    def wrap(emit: Callable) -> Any:
        typed = result(*parameters), lambda context, builder, _, values: emit(builder, *values)
        by_arity: tuple[Callable, ...] = (  # numba reads the number of arguments
            lambda typingctx: typed,
            lambda typingctx, a: typed,
            lambda typingctx, a, b: typed,
            lambda typingctx, a, b, c: typed,
            lambda typingctx, a, b, c, d: typed,
        )
        return intrinsic(by_arity[len(parameters)])

    return wrap


def _splat(value: float, vector: ir.VectorType = _VEC) -> ir.Constant:
    return ir.Constant(vector, [value] * LANES)


def _spread(builder: Any, x: Any) -> Any:
    """Make a vector of x in all lanes."""
    undefined = ir.Constant(ir.VectorType(x.type, LANES), ir.Undefined)
    first = builder.insert_element(undefined, x, _I32(0))
    return builder.shuffle_vector(first, undefined, ir.Constant(_IVEC, [0] * LANES))


def _call(builder: Any, name: str, result: ir.Type, *values: Any, **options: Any) -> Any:
    kind = ir.FunctionType(result, [v.type for v in values])
    function = cgutils.get_or_insert_function(builder.module, kind, name)
    return builder.call(function, values, **options)


def _pointer(builder: Any, address: Any, kind: ir.Type) -> Any:
    return builder.inttoptr(address, kind.as_pointer())


# ---- arithmetic ------------------------------------------------------------------------------------


def _fma(builder: Any, a: Any, b: Any, c: Any) -> Any:
    return _call(builder, "llvm.fmuladd.v16f32", _VEC, a, b, c)


def _polynomial(builder: Any, x: Any, coefficients: tuple[float, ...]) -> Any:
    p = _splat(coefficients[0])
    for c in coefficients[1:]:
        p = _fma(builder, p, x, _splat(c))
    return p


def _exp2_of_product(builder: Any, a: Any, b: Any, b_rest: Any = None) -> Any:
    """Compute 2**(a b) as 2**k 2**f with an integer k and |f| <= 1/2.

    Beyond float32 it is 0 or infinity; NaN stays NaN.
    """
    if HAS_AVX512:
        return _exp2_of_product_avx512(builder, a, b, b_rest)
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


def _exp2_of_product_avx512(builder: Any, a: Any, b: Any, b_rest: Any) -> Any:
    """Compute the same with two instructions that only AVX-512 has, in place of six."""
    x = builder.fmul(a, b)
    f = _avx512(builder, "reduce", x, _I32(8))  # less the nearest integer
    k = builder.fsub(x, f)
    if b_rest is not None:
        rest = _fma(builder, a, b_rest, _fma(builder, a, b, builder.fneg(x)))
        f = builder.fadd(f, rest)
    return _avx512(builder, "scalef", _polynomial(builder, f, _EXP2), k)


def _avx512(builder: Any, name: str, *values: Any) -> Any:
    """Call an AVX-512 instruction on all lanes, in the current rounding mode."""
    values = *values, _splat(0.0), _I16(-1), _I32(4)
    return _call(builder, f"llvm.x86.avx512.mask.{name}.ps.512", _VEC, *values)


def _exp_of_minus_abs(builder: Any, x: Any) -> Any:
    minus = builder.fneg(_call(builder, "llvm.fabs.v16f32", _VEC, x))
    limit = _splat(-87.0)  # beyond, 2**k leaves float32's range
    minus = builder.select(builder.fcmp_ordered("<", minus, limit), limit, minus)
    return _exp2_of_product(builder, minus, _splat(_LOG2E), _splat(_LOG2E_REST))


zero = _instruction(_lanes)(lambda builder: _splat(0.0))
add = _instruction(_lanes, _lanes, _lanes)(lambda builder, a, b: builder.fadd(a, b))
mul = _instruction(_lanes, _lanes, _lanes)(lambda builder, a, b: builder.fmul(a, b))
fma = _instruction(_lanes, _lanes, _lanes, _lanes)(_fma)
exp2_of_product = _instruction(_lanes, _lanes, _lanes)(_exp2_of_product)


@_instruction(_lanes, types.float32)
def splat(builder, x):
    """Make a vector of x in all lanes."""
    return _spread(builder, x)


@_instruction(_lanes, _lanes, types.float32)
def clamp(builder, x, limit):
    """Limit x to [-limit, limit]; NaN stays NaN."""
    high = _spread(builder, limit)
    for order, bound in ((">", high), ("<", builder.fneg(high))):
        x = builder.select(builder.fcmp_ordered(order, x, bound), bound, x)
    return x


@_instruction(_lanes, _lanes)
def softplus(builder, x):
    """Compute log(1 + exp(x))."""
    positive = builder.select(builder.fcmp_ordered(">", x, _splat(0.0)), x, _splat(0.0))
    z = _exp_of_minus_abs(builder, x)
    return _fma(builder, z, _polynomial(builder, z, _LOG1P), positive)


@_instruction(_lanes, _lanes)
def sigmoid(builder, x):
    """Compute 1 / (1 + exp(-x)), the derivative of softplus."""
    z = _exp_of_minus_abs(builder, x)
    upper = builder.select(builder.fcmp_ordered("<", x, _splat(0.0)), z, _splat(1.0))
    return builder.fdiv(upper, builder.fadd(z, _splat(1.0)))


@_instruction(types.float32, _lanes)
def sum_lanes(builder, x):
    """Sum the lanes."""
    name = "llvm.vector.reduce.fadd.v16f32"
    return _call(builder, name, _F32, _F32(0.0), x, fastmath=("reassoc",))


# ---- memory ----------------------------------------------------------------------------------------


@_instruction(_lanes, types.int64)
def load(builder, address):
    """Load 16 neighbouring float32."""
    return builder.load(_pointer(builder, address, _VEC), align=4)


@_instruction(types.void, types.int64, _lanes)
def store(builder, address, x):
    """Store 16 neighbouring float32."""
    builder.store(x, _pointer(builder, address, _VEC), align=4)


@_instruction(_lanes, types.int64)
def load_bfloat16(builder, address):
    """Load 16 neighbouring bfloat16, widened."""
    return _widen(builder, builder.load(_pointer(builder, address, _HALVES), align=2))


@_instruction(types.void, types.int64, _lanes)
def store_bfloat16(builder, address, x):
    """Store 16 neighbouring bfloat16, rounded to the nearest, ties to even; NaN stays NaN."""
    builder.store(_narrow(builder, x), _pointer(builder, address, _HALVES), align=2)


@_instruction(_lanes, types.int64, types.int64)
def load_some(builder, address, count):
    """Load count neighbouring float32, and zeros beyond."""
    values = _pointer(builder, address, _VEC), _I32(4), _first(builder, count), _splat(0.0)
    return _call(builder, "llvm.masked.load.v16f32.p0v16f32", _VEC, *values)


@_instruction(types.void, types.int64, _lanes, types.int64)
def store_some(builder, address, x, count):
    """Store count neighbouring float32."""
    values = x, _pointer(builder, address, _VEC), _I32(4), _first(builder, count)
    _call(builder, "llvm.masked.store.v16f32.p0v16f32", ir.VoidType(), *values)


@_instruction(_lanes, types.int64, types.int64)
def load_some_bfloat16(builder, address, count):
    """Load count neighbouring bfloat16, widened, and zeros beyond."""
    zeros = _splat(0, _HALVES)
    values = _pointer(builder, address, _HALVES), _I32(2), _first(builder, count), zeros
    return _widen(builder, _call(builder, "llvm.masked.load.v16i16.p0v16i16", _HALVES, *values))


@_instruction(types.void, types.int64, _lanes, types.int64)
def store_some_bfloat16(builder, address, x, count):
    """Store count neighbouring bfloat16, rounded as by `store_bfloat16`."""
    pointer = _pointer(builder, address, _HALVES)
    values = _narrow(builder, x), pointer, _I32(2), _first(builder, count)
    _call(builder, "llvm.masked.store.v16i16.p0v16i16", ir.VoidType(), *values)


@_instruction(_lanes, types.int64, types.int64, types.int64)
def gather(builder, address, stride, count):
    """Load count float32 at a stride, and zeros beyond."""
    values = _pointers(builder, address, stride), _I32(4), _first(builder, count), _splat(0.0)
    return _call(builder, "llvm.masked.gather.v16f32.v16p0f32", _VEC, *values)


@_instruction(types.void, types.int64, _lanes, types.int64, types.int64)
def scatter(builder, address, x, stride, count):
    """Store count float32 at a stride."""
    values = x, _pointers(builder, address, stride), _I32(4), _first(builder, count)
    _call(builder, "llvm.masked.scatter.v16f32.v16p0f32", ir.VoidType(), *values)


@_instruction(types.float32, types.int64)
def load_scalar(builder, address):
    """Load one float32."""
    return builder.load(_pointer(builder, address, _F32), align=4)


@_instruction(types.void, types.int64, types.float32)
def store_scalar(builder, address, x):
    """Store one float32."""
    builder.store(x, _pointer(builder, address, _F32), align=4)


@_instruction(types.float32, types.int64)
def load_scalar_bfloat16(builder, address):
    """Load one bfloat16, widened."""
    bits = builder.load(_pointer(builder, address, _I16), align=2)
    return builder.bitcast(builder.shl(builder.zext(bits, _I32), _I32(16)), _F32)


@_instruction(types.void, types.int64)
def prefetch(builder, address):
    """Prefetch a cache line that will soon be read; the address may be invalid."""
    _prefetch(builder, address, 0)


@_instruction(types.void, types.int64)
def prefetch_to_write(builder, address):
    """Prefetch a cache line that will soon be written; the address may be invalid."""
    _prefetch(builder, address, 1)


def _prefetch(builder: Any, address: Any, for_writing: int) -> None:
    near, data = 3, 1
    values = _pointer(builder, address, _BYTE), _I32(for_writing), _I32(near), _I32(data)
    _call(builder, "llvm.prefetch.p0i8", ir.VoidType(), *values)


def _widen(builder: Any, halves: Any) -> Any:
    return builder.bitcast(builder.shl(builder.zext(halves, _IVEC), _splat(16, _IVEC)), _VEC)


def _narrow(builder: Any, x: Any) -> Any:
    bits = builder.bitcast(x, _IVEC)
    odd = builder.and_(builder.lshr(bits, _splat(16, _IVEC)), _splat(1, _IVEC))
    rounded = builder.add(builder.add(bits, odd), _splat(0x7FFF, _IVEC))
    is_nan = builder.fcmp_unordered("uno", x, x)
    rounded = builder.select(is_nan, _splat(0x7FC00000, _IVEC), rounded)
    return builder.trunc(builder.lshr(rounded, _splat(16, _IVEC)), _HALVES)


def _first(builder: Any, count: Any) -> Any:
    """Make a mask of the first count lanes."""
    lane = ir.Constant(_INDICES, list(range(LANES)))
    return builder.icmp_signed("<", lane, _spread(builder, count))


def _pointers(builder: Any, address: Any, stride: Any) -> Any:
    lane = ir.Constant(_INDICES, list(range(LANES)))
    offsets = builder.mul(lane, _spread(builder, stride))
    addresses = builder.add(_spread(builder, address), offsets)
    return builder.inttoptr(addresses, ir.VectorType(_F32.as_pointer(), LANES))


# ---- the call --------------------------------------------------------------------------------------


@_instruction(from_dtype(CALL), types.voidptr)
def as_call(builder, pointer):
    """Read a pointer as one to the record of a call."""
    return builder.bitcast(pointer, ir.ArrayType(_BYTE, CALL.itemsize).as_pointer())


@_instruction(types.int64, types.int64, types.int64)
def minimum(builder, a, b):
    """Return the smaller of two integers."""
    return builder.select(builder.icmp_signed("<", a, b), a, b)


@_instruction(types.int64, types.voidptr, types.int64)
def fetch_and_increment(builder, pointer, offset):
    """Increment a field of the record atomically, and return its value before."""
    address = builder.gep(pointer, [offset])
    counter = builder.bitcast(address, _I64.as_pointer())
    return builder.atomic_rmw("add", counter, _I64(1), "monotonic")
