"""Why FP32 products are not three TF32 products: the roundings of tensor cores, in NumPy.

x = hi + lo, both of 11 bits, and x w = hi hi' + hi lo' + lo hi' but for 2^-22. A tensor core
multiplies exactly, aligns a block of products and the accumulator to the largest of them, cuts off
what is below the last bit of float32 and some extra bits, adds, and cuts off again: after all of K,
an error towards zero that grows with K. Published measurements give blocks of 4 to 16 and up to
three extra bits, by architecture.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

Array = np.ndarray
#: Inner lengths of the fitting net's products: hidden layers, reduced features, D.
LENGTHS = (240, 808, 1600)
BLOCKS, EXTRA_BITS = (4, 8, 16), (0, 1, 2, 3)


def tf32(x: Array) -> Array:
    """Rounded to 11 bits."""
    bits = x.view(np.uint32)
    return ((bits + 0xFFF + ((bits >> 13) & 1)) & np.uint32(0xFFFFE000)).view(np.float32)


def cut_off(x: Array) -> Array:
    """Float32, rounded towards zero."""
    nearest = x.astype(np.float32)
    return np.where(abs(nearest) > abs(x), np.nextafter(nearest, np.float32(0)), nearest)


def add_in_core(sum_bo: Array, x_bi: Array, w_io: Array, block: int, extra: int) -> Array:
    """sum + x w, in float32."""
    x_bi, w_io = x_bi.astype(float), w_io.astype(float)
    for first in range(0, len(w_io), block):
        part = slice(first, first + block)
        terms = np.concatenate([sum_bo[None], x_bi.T[part, :, None] * w_io[part, None]])
        _, exponent_bo = np.frexp(abs(terms).max(axis=0))
        last_bit_bo = np.ldexp(1.0, exponent_bo - 24 - extra)
        sum_bo = cut_off(np.trunc(terms / last_bit_bo).sum(axis=0) * last_bit_bo)
    return sum_bo


def three_products(x_bi: Array, w_io: Array, block: int, extra: int, length: int) -> Array:
    """The small ones first; of the large one, `length` of K at a time, added in float32."""
    x, w = tf32(x_bi), tf32(w_io)
    zero_bo = np.zeros((len(x), w.shape[1]), np.float32)
    sum_bo = add_in_core(zero_bo, tf32(x_bi - x), w, block, extra)
    sum_bo = add_in_core(sum_bo, x, tf32(w_io - w), block, extra)
    if length >= len(w):
        return add_in_core(sum_bo, x, w, block, extra)
    large_bo = zero_bo
    for first in range(0, len(w), length):
        part = slice(first, first + length)
        large_bo = large_bo + add_in_core(zero_bo, x[:, part], w[part], block, extra)
    return large_bo + sum_bo


def fp32(x_bi: Array, w_io: Array) -> Array:
    """As multiply-adds of CUDA cores, one after the other."""
    sum_bo = np.zeros((len(x_bi), w_io.shape[1]), np.float32)
    for x_b, w_o in zip(x_bi.T.astype(float), w_io.astype(float), strict=True):
        sum_bo = (sum_bo + np.outer(x_b, w_o)).astype(np.float32)
    return sum_bo


def errors(length: int, product: Callable[[Array, Array], Array]) -> tuple[float, float]:
    """Root mean square, and mean towards larger absolute values, of products of order 1."""
    rng = np.random.default_rng(0)
    x_bi = rng.normal(size=(24, length)).astype(np.float32)
    w_io = (rng.normal(size=(length, 24)) / np.sqrt(length)).astype(np.float32)
    exact_bo = x_bi.astype(float) @ w_io.astype(float)
    error_bo = product(x_bi, w_io) - exact_bo
    return float(np.sqrt((error_bo**2).mean())), float((error_bo * np.sign(exact_bo)).mean())


def test_roundings() -> None:
    assert tf32(np.array([1 + 2**-11 + 2**-20, 1 + 2**-11], np.float32)).tolist() == [1 + 2**-10, 1]
    assert cut_off(np.array([1 + 2**-23.5, -1 - 2**-23.5, 1 - 2**-30])).tolist() == [
        1, -1, 1 - 2**-24,
    ]  # fmt: skip
    tiny = np.float32(2**-24)  # lost beside 1 unless it has an extra bit
    for extra in (0, 1):
        ones = np.array([[1, tiny, tiny]], np.float32)
        total = add_in_core(np.zeros((1, 1), np.float32), ones, np.ones((3, 1)), 4, extra)
        assert total == 1 + extra * 2**-23


@pytest.mark.parametrize("length", LENGTHS)
def test_three_products_are_less_accurate_than_fp32(length: int) -> None:
    """In all models of the core, summed there as a call of cuBLAS does: so they are not used."""
    rms, mean = errors(length, fp32)
    assert abs(mean) < 0.1 * rms
    for block in BLOCKS:
        for extra in EXTRA_BITS:
            rms_3, _ = errors(length, lambda x, w: three_products(x, w, block, extra, length))  # noqa: B023
            assert rms_3 > rms, (block, extra)
    rms_3, mean_3 = errors(length, lambda x, w: three_products(x, w, 8, 2, length))
    assert rms_3 > 2 * rms
    assert mean_3 < -0.6 * rms_3  # towards zero, so that it does not average out over atoms


@pytest.mark.parametrize("length", LENGTHS)
def test_short_sums_in_the_core_are_as_accurate(length: int) -> None:
    """What a kernel of ours would have to do: take the core's sums over at each 32 of K."""
    rms, _ = errors(length, fp32)
    for block in BLOCKS:
        for extra in EXTRA_BITS:
            rms_3, _ = errors(length, lambda x, w: three_products(x, w, block, extra, 32))  # noqa: B023
            assert rms_3 < rms, (block, extra)
