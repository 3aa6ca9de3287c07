"""The switching function: its ends and its slope."""

from __future__ import annotations

import numpy as np

from lmp_dp.engine.switch import switch


def test_ends_and_middle() -> None:
    sw, dsw = switch(np.array([0.0, 2.0, 4.0, 6.0, 9.0]), 2.0, 4.0)
    np.testing.assert_array_equal(sw, [1.0, 1.0, 0.5, 0.0, 0.0])
    # -30 u^2 (1 - u)^2 / width at u = 1/2
    np.testing.assert_array_equal(dsw, [0.0, 0.0, -30 / 16 / 4, 0.0, 0.0])


def test_slope() -> None:
    r = np.linspace(2.01, 5.99, 100)
    step = 1e-5
    difference = (switch(r + step, 2.0, 4.0)[0] - switch(r - step, 2.0, 4.0)[0]) / (2 * step)
    # third derivatives of order 1, times h^2/6; and eps/h
    np.testing.assert_allclose(switch(r, 2.0, 4.0)[1], difference, rtol=0, atol=1e-10)
