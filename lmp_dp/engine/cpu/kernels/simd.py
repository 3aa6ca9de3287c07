"""Explicit vectors for numba kernels: 64 bytes, that is 8 float64 or 16 float32 numbers.

LLVM's vectoriser does not keep accumulators in registers across an outer loop and leaves scalar
remainders; these few operations let a kernel say what it means. Arrays must be C-contiguous;
indices count elements of the flattened array. On machines with shorter registers LLVM splits
the vectors.
"""

from __future__ import annotations

import math

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic, models, register_model

#: Bytes of one vector.
WIDTH = 64
_FAST = ("contract", "reassoc", "nsz", "arcp")
#: numba adds the flags of `kernel` to operations without any; these stay in the order written.
_EXACT = ("contract",)


def aligned(size: int, dtype: np.dtype | type) -> np.ndarray:
    """An uninitialised flat array that starts at a multiple of a vector's size.

    A vector that straddles two cache lines costs two loads: products with the weights of embedding
    nets run at 62 instead of 88 GFLOP/s.
    """
    itemsize = np.dtype(dtype).itemsize
    memory = np.empty(size * itemsize + WIDTH, np.uint8)
    start = -memory.ctypes.data % WIDTH
    return memory[start : start + size * itemsize].view(dtype)


def aligned_copy(array: np.ndarray, dtype: np.dtype | type) -> np.ndarray:
    """`array` in `dtype`, C-contiguous and aligned."""
    copy = aligned(array.size, dtype).reshape(array.shape)
    copy[...] = array
    return copy


class Vector(types.Type):
    """numba type of a vector of `dtype`."""

    def __init__(self, dtype: types.Float) -> None:
        self.dtype = dtype
        self.lanes = WIDTH * 8 // dtype.bitwidth
        super().__init__(name=f"simd({dtype} x {self.lanes})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, vector) -> None:
        super().__init__(manager, vector, _llvm(vector))


def _llvm(vector: Vector) -> ir.VectorType:
    scalar = ir.DoubleType() if vector.dtype.bitwidth == 64 else ir.FloatType()
    return ir.VectorType(scalar, vector.lanes)


def _is_vectorisable(array) -> bool:
    return isinstance(array, types.Array) and array.layout == "C" and array.dtype in (
        types.float64,
        types.float32,
    )  # fmt: skip


def _address(context, builder, array_type, array, index):
    data = context.make_array(array_type)(context, builder, array).data
    pointer = builder.gep(data, [index])
    return builder.bitcast(pointer, _llvm(Vector(array_type.dtype)).as_pointer())


@intrinsic
def load(typing, array, index):
    """The vector that starts at flat `index` of `array`."""
    if not _is_vectorisable(array):
        return None

    def generate(context, builder, signature, args):
        pointer = _address(context, builder, signature.args[0], *args)
        return builder.load(pointer, align=array.dtype.bitwidth // 8)

    return Vector(array.dtype)(array, types.intp), generate


@intrinsic
def store(typing, array, index, vector):
    """Write `vector` to `array` from flat `index` on."""
    if not _is_vectorisable(array):
        return None

    def generate(context, builder, signature, args):
        pointer = _address(context, builder, signature.args[0], args[0], args[1])
        builder.store(args[2], pointer, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), generate


@intrinsic
def fill(typing, number):
    """A vector of equal numbers; the number's type decides the vector's."""
    if number not in (types.float64, types.float32):
        return None
    vector = Vector(number)

    def generate(context, builder, signature, args):
        return _splat(builder, vector, args[0])

    return vector(number), generate


@intrinsic
def multiply_add(typing, a, b, c):
    """a b + c."""
    if not isinstance(a, Vector):
        return None

    def generate(context, builder, signature, args):
        return builder.fadd(builder.fmul(args[0], args[1], flags=_FAST), args[2], flags=_FAST)

    return a(a, a, a), generate


@intrinsic
def add(typing, a, b):
    """a + b."""
    if not isinstance(a, Vector):
        return None

    def generate(context, builder, signature, args):
        return builder.fadd(*args, flags=_FAST)

    return a(a, a), generate


@intrinsic
def multiply(typing, a, b):
    """a b."""
    if not isinstance(a, Vector):
        return None

    def generate(context, builder, signature, args):
        return builder.fmul(*args, flags=_FAST)

    return a(a, a), generate


@intrinsic
def load_panel(typing, array, index, panel):
    """`len(panel)` vectors that follow one another in `array`, as a tuple; `panel` is a tuple."""
    if not (_is_vectorisable(array) and isinstance(panel, types.BaseTuple)):
        return None
    vector = Vector(array.dtype)
    several = types.UniTuple(vector, panel.count)

    def generate(context, builder, signature, args):
        align = array.dtype.bitwidth // 8
        pointer = _address(context, builder, array, args[0], args[1])
        return _tuple_of(
            builder,
            vector,
            [
                builder.load(builder.gep(pointer, [_i32(v)]), align=align)
                for v in range(panel.count)
            ],
        )

    return several(array, types.intp, panel), generate


@intrinsic
def store_panel(typing, array, index, panel):
    """Write a tuple of vectors one after the other."""
    if not (_is_vectorisable(array) and isinstance(panel, types.UniTuple)):
        return None

    def generate(context, builder, signature, args):
        align = array.dtype.bitwidth // 8
        pointer = _address(context, builder, array, args[0], args[1])
        for v in range(panel.count):
            vector = builder.extract_value(args[2], v)
            builder.store(vector, builder.gep(pointer, [_i32(v)]), align=align)
        return context.get_dummy_value()

    return types.void(array, types.intp, panel), generate


@intrinsic
def add_product(typing, panel, number, array, index):
    """The tuple of vectors `panel` plus `number` times the vectors of `array` from `index` on."""
    if not (isinstance(panel, types.UniTuple) and _is_vectorisable(array)):
        return None
    vector = panel.dtype

    def generate(context, builder, signature, args):
        align = array.dtype.bitwidth // 8
        factor = _splat(builder, vector, args[1])
        pointer = _address(context, builder, array, args[2], args[3])
        sums = []
        for v in range(panel.count):
            one = builder.load(builder.gep(pointer, [_i32(v)]), align=align)
            product = builder.fmul(factor, one, flags=_FAST)
            sums.append(builder.fadd(product, builder.extract_value(args[0], v), flags=_FAST))
        return _tuple_of(builder, vector, sums)

    return panel(panel, vector.dtype, array, types.intp), generate


@intrinsic
def tanh(typing, vector):
    """tanh of each number, to about one unit in the last place.

    With y = -2 |x| = n ln 2 + r:  e^y - 1 = 2^n (e^r - 1) + (2^n - 1),  e^r - 1 by its Taylor
    series, and tanh |x| = -(e^y - 1) / (2 + (e^y - 1)).
    """
    if not isinstance(vector, Vector):
        return None
    double = vector.dtype.bitwidth == 64
    bits, mantissa = (64, 52) if double else (32, 23)
    # tanh is 1 to the last place beyond `saturated`; the series' remainder is below it at ln(2)/2
    saturated, order = (20.0, 13) if double else (10.0, 7)
    ln2_high, ln2_low = (
        (float.fromhex("0x1.62e42fee00000p-1"), float.fromhex("0x1.a39ef35793c76p-33"))
        if double
        else (float.fromhex("0x1.62e4p-1"), float.fromhex("0x1.7f7d1cp-20"))
    )
    magic = 1.5 * 2.0**mantissa  # added and taken away again it rounds to a whole number

    def generate(context, builder, signature, args):
        of = _llvm(vector)
        integers = ir.VectorType(ir.IntType(bits), vector.lanes)

        def constant(value):
            return ir.Constant(of, [value] * vector.lanes)

        def whole(value):
            return ir.Constant(integers, [value] * vector.lanes)

        def multiply(a, b):
            return builder.fmul(a, b, flags=_EXACT)

        def add(a, b):
            return builder.fadd(a, b, flags=_EXACT)

        (x,) = args
        sign = builder.and_(builder.bitcast(x, integers), whole(1 << (bits - 1)))
        size = builder.bitcast(builder.xor(builder.bitcast(x, integers), sign), of)
        too_large = builder.fcmp_ordered(">", size, constant(saturated))  # false for NaN
        size = builder.select(too_large, constant(saturated), size)
        y = multiply(size, constant(-2.0))
        shifted = add(multiply(y, constant(1.0 / math.log(2.0))), constant(magic))
        n = add(shifted, constant(-magic))
        r = add(multiply(n, constant(-ln2_high)), y)
        r = add(multiply(n, constant(-ln2_low)), r)
        series = constant(1.0 / math.factorial(order))
        for k in range(order - 1, 1, -1):
            series = add(multiply(series, r), constant(1.0 / math.factorial(k)))
        series = add(multiply(multiply(series, r), r), r)
        exponent = builder.shl(builder.bitcast(shifted, integers), whole(mantissa))
        power = builder.bitcast(builder.add(exponent, builder.bitcast(constant(1.0), integers)), of)
        less_one = add(multiply(power, series), add(power, constant(-1.0)))
        minus = builder.fdiv(less_one, add(less_one, constant(2.0)), flags=_EXACT)
        size = builder.and_(builder.bitcast(minus, integers), whole((1 << (bits - 1)) - 1))
        return builder.bitcast(builder.or_(size, sign), of)

    return vector(vector), generate


@intrinsic
def total(typing, vector):
    """The sum of a vector's numbers, by halves."""
    if not isinstance(vector, Vector):
        return None

    def generate(context, builder, signature, args):
        rest, lanes = args[0], vector.lanes
        while lanes > 1:
            lanes //= 2
            low, high = (
                builder.shuffle_vector(rest, rest, _indices(start, lanes)) for start in (0, lanes)
            )
            rest = builder.fadd(low, high, flags=_FAST)
        return builder.extract_element(rest, _i32(0))

    return vector.dtype(vector), generate


def _splat(builder, vector: Vector, number):
    nothing = ir.Constant(_llvm(vector), ir.Undefined)
    one = builder.insert_element(nothing, number, _i32(0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), vector.lanes), [0] * vector.lanes)
    return builder.shuffle_vector(one, nothing, zeros)


def _tuple_of(builder, vector: Vector, values: list):
    several = ir.Constant(ir.ArrayType(_llvm(vector), len(values)), ir.Undefined)
    for v, value in enumerate(values):
        several = builder.insert_value(several, value, v)
    return several


def _i32(value: int) -> ir.Constant:
    return ir.Constant(ir.IntType(32), value)


def _indices(start: int, count: int) -> ir.Constant:
    return ir.Constant(ir.VectorType(ir.IntType(32), count), list(range(start, start + count)))
