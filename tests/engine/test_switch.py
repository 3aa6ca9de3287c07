"""The switching function: its ends, its slope, and what DeePMD-kit subtracts in float32."""

from __future__ import annotations

import numpy as np

from lmp_dp.engine.switch import switch, switch_width


def test_ends_and_middle() -> None:
    sw, dsw = switch(np.array([0.0, 2.0, 4.0, 6.0, 9.0]), 6.0, 2.0)
    np.testing.assert_array_equal(sw, [1.0, 1.0, 0.5, 0.0, 0.0])
    # -30 u^2 (1 - u)^2 / width at u = 1/2
    np.testing.assert_array_equal(dsw, [0.0, 0.0, -30 / 16 / 4, 0.0, 0.0])


def test_slope() -> None:
    r = np.linspace(2.01, 5.99, 100)
    step = 1e-5
    difference = (switch(r + step, 6.0, 2.0)[0] - switch(r - step, 6.0, 2.0)[0]) / (2 * step)
    # third derivatives of order 1, times h^2/6; and eps/h
    np.testing.assert_allclose(switch(r, 6.0, 2.0)[1], difference, rtol=0, atol=1e-10)


def test_the_width_is_that_of_float32() -> None:
    assert switch_width(6.1, 0.3) == float(np.float32(6.1) - np.float32(0.3)) != 6.1 - 0.3
