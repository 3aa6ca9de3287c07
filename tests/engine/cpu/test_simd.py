"""tanh of the explicit vectors against extended precision."""

from __future__ import annotations

import numpy as np
import pytest

from lmp_dp.engine.cpu.kernels import simd
from lmp_dp.engine.cpu.kernels.compiled import kernel
from lmp_dp.engine.cpu.packing import lanes_of


@kernel
def _tanh_of_all(x, lanes, y):
    for v in range(0, len(x), len(lanes)):
        simd.store(y, v, simd.tanh(simd.load(x, v)))


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
