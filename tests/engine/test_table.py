"""Evaluating tables, outside of their cells as well."""

from __future__ import annotations

import numpy as np

from lmp_dp.engine import table


def test_outside_of_the_table_is_a_straight_line(compressed) -> None:
    tabulated = compressed["cu"].tables[0]
    beyond = tabulated.upper + np.array([1e-9, 1.0, 2.0])
    g, dg = table.forward(tabulated, beyond)
    np.testing.assert_allclose(g[2] - g[1], dg[0], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(dg[2], dg[0], rtol=1e-12)
    below = tabulated.lower - np.array([1e-9, 1.0])
    g, dg = table.forward(tabulated, below)
    np.testing.assert_allclose(g[0] - g[1], dg[0], rtol=1e-6, atol=1e-9)
