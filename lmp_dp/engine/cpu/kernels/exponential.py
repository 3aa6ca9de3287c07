"""Functions of vectors (`simd`) that rest on the exponential."""

from __future__ import annotations

import math

from llvmlite import ir
from numba.extending import intrinsic

from lmp_dp.engine.cpu.kernels.simd import Vector, llvm_type

#: numba adds the flags of `kernel` to operations without any; these stay in the order written.
_EXACT = ("contract",)


class _Exact:
    """Arithmetic on vectors of one type in the order written, and e^y - 1 by its series."""

    def __init__(self, builder, vector: Vector) -> None:
        self.builder, self.lanes, self.of = builder, vector.lanes, llvm_type(vector)
        self.double = vector.dtype.bitwidth == 64
        self.bits, self.mantissa = (64, 52) if self.double else (32, 23)
        self.integers = ir.VectorType(ir.IntType(self.bits), vector.lanes)

    def constant(self, value):
        return ir.Constant(self.of, [value] * self.lanes)

    def whole(self, value):
        return ir.Constant(self.integers, [value] * self.lanes)

    def multiply(self, a, b):
        return self.builder.fmul(a, b, flags=_EXACT)

    def add(self, a, b):
        return self.builder.fadd(a, b, flags=_EXACT)

    def power_and_rest(self, y):
        """2^n and e^r - 1 of y = n ln 2 + r <= 0, by its Taylor series."""
        builder, add, multiply = self.builder, self.add, self.multiply
        # the series' remainder is below the last place at ln(2)/2
        order = 13 if self.double else 7
        ln2_high, ln2_low = (
            (float.fromhex("0x1.62e42fee00000p-1"), float.fromhex("0x1.a39ef35793c76p-33"))
            if self.double
            else (float.fromhex("0x1.62e4p-1"), float.fromhex("0x1.7f7d1cp-20"))
        )
        magic = 1.5 * 2.0**self.mantissa  # added and taken away again it rounds to a whole number
        shifted = add(multiply(y, self.constant(1.0 / math.log(2.0))), self.constant(magic))
        n = add(shifted, self.constant(-magic))
        r = add(multiply(n, self.constant(-ln2_high)), y)
        r = add(multiply(n, self.constant(-ln2_low)), r)
        series = self.constant(1.0 / math.factorial(order))
        for k in range(order - 1, 1, -1):
            series = add(multiply(series, r), self.constant(1.0 / math.factorial(k)))
        series = add(multiply(multiply(series, r), r), r)
        exponent = builder.shl(builder.bitcast(shifted, self.integers), self.whole(self.mantissa))
        one = builder.bitcast(self.constant(1.0), self.integers)
        return builder.bitcast(builder.add(exponent, one), self.of), series


@intrinsic
def tanh(typing, vector):
    """tanh of each number, to about one unit in the last place.

    With y = -2 |x| = n ln 2 + r:  e^y - 1 = 2^n (e^r - 1) + (2^n - 1),  e^r - 1 by its Taylor
    series, and tanh |x| = -(e^y - 1) / (2 + (e^y - 1)).
    """
    if not isinstance(vector, Vector):
        return None
    # tanh is 1 to the last place beyond
    saturated = 20.0 if vector.dtype.bitwidth == 64 else 10.0

    def generate(context, builder, signature, args):
        of = _Exact(builder, vector)
        (x,) = args
        sign = builder.and_(builder.bitcast(x, of.integers), of.whole(1 << (of.bits - 1)))
        size = builder.bitcast(builder.xor(builder.bitcast(x, of.integers), sign), of.of)
        too_large = builder.fcmp_ordered(">", size, of.constant(saturated))  # false for NaN
        size = builder.select(too_large, of.constant(saturated), size)
        power, series = of.power_and_rest(of.multiply(size, of.constant(-2.0)))
        less_one = of.add(of.multiply(power, series), of.add(power, of.constant(-1.0)))
        minus = builder.fdiv(less_one, of.add(less_one, of.constant(2.0)), flags=_EXACT)
        size = builder.and_(builder.bitcast(minus, of.integers), of.whole((1 << (of.bits - 1)) - 1))
        return builder.bitcast(builder.or_(size, sign), of.of)

    return vector(vector), generate


@intrinsic
def exp(typing, vector):
    """e^y of each number y <= 0, to about one unit in the last place; 0 below the normal range."""
    if not isinstance(vector, Vector):
        return None
    lowest = -708.0 if vector.dtype.bitwidth == 64 else -87.0

    def generate(context, builder, signature, args):
        of = _Exact(builder, vector)
        (y,) = args
        too_low = builder.fcmp_ordered("<", y, of.constant(lowest))  # false for NaN
        y = builder.select(too_low, of.constant(lowest), y)
        power, series = of.power_and_rest(y)
        value = of.add(of.multiply(power, series), power)
        return builder.select(too_low, of.constant(0.0), value)

    return vector(vector), generate
