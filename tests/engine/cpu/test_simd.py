"""Functions of the explicit vectors against extended precision."""

from __future__ import annotations

import numpy as np
import pytest

from lmp_dp.engine.cpu.kernels import exponential, simd
from lmp_dp.engine.cpu.kernels.compiled import kernel
from lmp_dp.engine.cpu.packing import lanes_of


@kernel
def _tanh_of_all(x, lanes, y):
    for v in range(0, len(x), len(lanes)):
        simd.store(y, v, exponential.tanh(simd.load(x, v)))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_tanh_is_right_to_three_units_in_the_last_place(dtype):
    small = np.geomspace(1e-30, 1.0, 2**12)
    x = np.concatenate([np.linspace(-25, 25, 2**14), small, -small]).astype(dtype)
    y = np.empty_like(x)
    _tanh_of_all(x, lanes_of(np.dtype(dtype)), y)
    exact = np.tanh(x.astype(np.longdouble))
    # rounding of e^y - 1 and of the denominator, half a unit each, doubled where y is small, and
    # of the quotient
    assert np.max(np.abs(y - exact) / np.spacing(np.abs(exact).astype(dtype))) < 3.0


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_tanh_keeps_signs_infinities_and_nan(dtype):
    x = np.zeros(16, dtype)
    x[:5] = [0.0, -0.0, np.inf, -np.inf, np.nan]
    y = np.empty_like(x)
    _tanh_of_all(x, lanes_of(np.dtype(dtype)), y)
    assert not np.signbit(y[0])
    assert np.signbit(y[1])
    assert y[2:4].tolist() == [1.0, -1.0]
    assert np.isnan(y[4])


@kernel
def _exp_of_all(x, lanes, y):
    for v in range(0, len(x), len(lanes)):
        simd.store(y, v, exponential.exp(simd.load(x, v)))


@pytest.mark.parametrize(("dtype", "lowest"), [(np.float64, -708.0), (np.float32, -87.0)])
def test_exp_is_right_to_two_units_in_the_last_place(dtype, lowest):
    x = np.concatenate([np.linspace(lowest, 0, 2**14), -np.geomspace(1e-30, 1.0, 2**12)])
    x = np.maximum(x.astype(dtype), dtype(lowest))
    y = np.empty_like(x)
    _exp_of_all(x, lanes_of(np.dtype(dtype)), y)
    exact = np.exp(x.astype(np.longdouble))
    # of the series, half a unit, and of its sum with 2^n
    assert np.max(np.abs(y - exact) / np.spacing(exact.astype(dtype))) < 2.0


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_exp_of_what_is_far_below_zero(dtype):
    x = np.zeros(16, dtype)
    x[:4] = [-1e30, -np.inf, np.nan, -0.0]
    y = np.empty_like(x)
    _exp_of_all(x, lanes_of(np.dtype(dtype)), y)
    assert y[:2].tolist() == [0.0, 0.0]
    assert np.isnan(y[2])
    assert y[3] == 1.0


@kernel
def _highest_of_all(x, lanes):
    tops = simd.load(x, 0)
    for v in range(len(lanes), len(x), len(lanes)):
        tops = simd.larger(simd.load(x, v), tops)
    return simd.highest(tops)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_highest_number_wherever_it_stands(dtype):
    for place in range(32):
        x = np.random.default_rng(place).normal(size=32).astype(dtype)
        x[place] = 10.0
        assert _highest_of_all(x, lanes_of(np.dtype(dtype))) == 10.0
