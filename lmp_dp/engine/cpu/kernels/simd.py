"""Explicit vectors for numba kernels: 64 bytes, that is 8 float64 or 16 float32 numbers.

LLVM's vectoriser does not keep accumulators in registers across an outer loop and leaves scalar
remainders; these few operations let a kernel say what it means. Arrays must be C-contiguous;
indices count elements of the flattened array. On machines with shorter registers LLVM splits
the vectors.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic, models, register_model

#: Bytes of one vector.
WIDTH = 64
_FAST = ("contract", "reassoc", "nsz", "arcp")


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
        super().__init__(manager, vector, llvm_type(vector))


def llvm_type(vector: Vector) -> ir.VectorType:
    """What LLVM calls it."""
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
    return builder.bitcast(pointer, llvm_type(Vector(array_type.dtype)).as_pointer())


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
def add_products(typing, panel, a, i, b, j):
    """The tuple of vectors `panel` plus a[i] times the vectors of `b` from `j` on."""
    if not (isinstance(panel, types.UniTuple) and _is_vectorisable(a) and _is_vectorisable(b)):
        return None
    vector = panel.dtype

    def generate(context, builder, signature, args):
        align = b.dtype.bitwidth // 8
        data = context.make_array(a)(context, builder, args[1]).data
        factor = _splat(builder, vector, builder.load(builder.gep(data, [args[2]])))
        pointer = _address(context, builder, b, args[3], args[4])
        sums = []
        for v in range(panel.count):
            one = builder.load(builder.gep(pointer, [_i32(v)]), align=align)
            product = builder.fmul(factor, one, flags=_FAST)
            sums.append(builder.fadd(product, builder.extract_value(args[0], v), flags=_FAST))
        return _tuple_of(builder, vector, sums)

    return panel(panel, a, types.intp, b, types.intp), generate


@intrinsic
def larger(typing, a, b):
    """The larger one of each pair of numbers."""
    if not isinstance(a, Vector):
        return None

    def generate(context, builder, signature, args):
        return builder.select(builder.fcmp_ordered(">", *args), *args)

    return a(a, a), generate


@intrinsic
def total(typing, vector):
    """The sum of a vector's numbers, by halves."""
    if not isinstance(vector, Vector):
        return None

    def generate(context, builder, signature, args):
        return _halved(builder, vector, args[0], lambda a, b: builder.fadd(a, b, flags=_FAST))

    return vector.dtype(vector), generate


@intrinsic
def highest(typing, vector):
    """The largest one of a vector's numbers."""
    if not isinstance(vector, Vector):
        return None

    def generate(context, builder, signature, args):
        def larger_of(a, b):
            return builder.select(builder.fcmp_ordered(">", a, b), a, b)

        return _halved(builder, vector, args[0], larger_of)

    return vector.dtype(vector), generate


@intrinsic
def turn(typing, a, i, a_stride, c, j, c_stride, lanes):
    """A square of as many rows as a vector has lanes from `a` to `c`, rows as columns.

    It begins at flat index i of `a` and j of `c`, which have so many numbers from row to row.
    """
    if not (_is_vectorisable(a) and _is_vectorisable(c)):
        return None
    vector = Vector(a.dtype)

    def generate(context, builder, signature, args):
        align = a.dtype.bitwidth // 8

        def pointer(array_type, array, start, row, k):
            index = builder.add(start, builder.mul(row, ir.Constant(row.type, k)))
            return _address(context, builder, array_type, array, index)

        rows = [builder.load(pointer(a, *args[:3], k), align=align) for k in range(vector.lanes)]
        distance = 1
        while distance < vector.lanes:  # blocks of that size off the diagonal change places
            for k in range(vector.lanes):
                if k & distance == 0:
                    pair = rows[k], rows[k + distance]
                    rows[k], rows[k + distance] = (
                        builder.shuffle_vector(*pair, _crossed(vector.lanes, distance, second))
                        for second in (False, True)
                    )
            distance *= 2
        for k, row in enumerate(rows):
            builder.store(row, pointer(c, *args[3:6], k), align=align)
        return context.get_dummy_value()

    return types.void(a, types.intp, types.intp, c, types.intp, types.intp, lanes), generate


def _crossed(lanes: int, distance: int, second: bool) -> ir.Constant:
    """Which numbers of two rows stand in one of them once blocks have changed places."""
    chosen = [
        (n if n & distance else n - lanes + distance) + lanes
        if second
        else (n + lanes - distance if n & distance else n)
        for n in range(lanes)
    ]
    return ir.Constant(ir.VectorType(ir.IntType(32), lanes), chosen)


def _halved(builder, vector: Vector, rest, join):
    """All numbers of a vector in one, its halves joined again and again."""
    lanes = vector.lanes
    while lanes > 1:
        lanes //= 2
        low, high = (
            builder.shuffle_vector(rest, rest, _indices(start, lanes)) for start in (0, lanes)
        )
        rest = join(low, high)
    return builder.extract_element(rest, _i32(0))


def _splat(builder, vector: Vector, number):
    nothing = ir.Constant(llvm_type(vector), ir.Undefined)
    one = builder.insert_element(nothing, number, _i32(0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), vector.lanes), [0] * vector.lanes)
    return builder.shuffle_vector(one, nothing, zeros)


def _tuple_of(builder, vector: Vector, values: list):
    several = ir.Constant(ir.ArrayType(llvm_type(vector), len(values)), ir.Undefined)
    for v, value in enumerate(values):
        several = builder.insert_value(several, value, v)
    return several


def _i32(value: int) -> ir.Constant:
    return ir.Constant(ir.IntType(32), value)


def _indices(start: int, count: int) -> ir.Constant:
    return ir.Constant(ir.VectorType(ir.IntType(32), count), list(range(start, start + count)))
