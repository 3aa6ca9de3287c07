"""Explicit vectors for numba kernels: 64 bytes, that is 8 float64 or 16 float32 numbers.

LLVM's vectoriser does not keep accumulators in registers across an outer loop and leaves scalar
remainders; these few operations let a kernel say what it means. Arrays must be C-contiguous;
indices count elements of the flattened array. On machines with shorter registers LLVM splits
the vectors.
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic, models, register_model

#: Bytes of one vector.
WIDTH = 64
_FAST = ("contract", "reassoc", "nsz", "arcp")


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
        one = builder.insert_element(ir.Constant(_llvm(vector), ir.Undefined), args[0], _i32(0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), vector.lanes), [0] * vector.lanes)
        return builder.shuffle_vector(one, ir.Constant(_llvm(vector), ir.Undefined), zeros)

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
def multiply(typing, a, b):
    """a b."""
    if not isinstance(a, Vector):
        return None

    def generate(context, builder, signature, args):
        return builder.fmul(*args, flags=_FAST)

    return a(a, a), generate


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


def _i32(value: int) -> ir.Constant:
    return ir.Constant(ir.IntType(32), value)


def _indices(start: int, count: int) -> ir.Constant:
    return ir.Constant(ir.VectorType(ir.IntType(32), count), list(range(start, start + count)))
