"""Kernels of sums over neighbours against plain NumPy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from engine.cpu.test_tables import CASES, FIRST_B, functions, rows_of, table
from lmp_dp.engine.cpu.kernels import radial, simd
from lmp_dp.engine.cpu.packing import lanes_of


@pytest.mark.parametrize(("dtype", "width"), CASES)
def test_sums(dtype: str, width: int) -> None:
    """Written, not added, to columns start..; others are left alone."""
    c = rows_of(table(4), dtype, width)
    start = 16
    b_bq = simd.aligned_copy(np.full((4, start + width + 16), 7.0), dtype)
    radial.sums(c.piece_p, c.x_p, c.coefficients, FIRST_B, start, lanes_of(b_bq.dtype), b_bq)
    phi_pq, _ = functions(c)
    exact_bq = np.stack(
        [phi_pq[first:last].sum(axis=0) for first, last in itertools.pairwise(FIRST_B)]
    )
    # up to 11 rows of six terms up to 4
    bound = 70 * np.finfo(dtype).eps
    np.testing.assert_allclose(b_bq[:, start : start + width], exact_bq, rtol=0, atol=bound)
    assert (b_bq[:, :start] == 7.0).all()
    assert (b_bq[:, start + width :] == 7.0).all()


@pytest.mark.parametrize(("dtype", "width"), CASES)
def test_slopes(dtype: str, width: int) -> None:
    of = table(5)
    c = rows_of(of, dtype, width)
    start, n = 16, len(c.piece_p)
    db_bq = simd.aligned_copy(of.rng.normal(size=(4, start + width)), dtype)
    drows_kp = np.full((4, n), np.nan, dtype)
    radial.slopes(
        c.piece_p, c.x_p, c.coefficients, of.slope_v.astype(dtype), FIRST_B, start,
        lanes_of(db_bq.dtype), db_bq, drows_kp,
    )  # fmt: skip
    _, dphi_pq = functions(c)
    exact_p = np.full(n, np.nan)
    for b in range(4):
        for p in range(FIRST_B[b], FIRST_B[b + 1]):
            along = dphi_pq[p] @ db_bq[b, start:].astype(np.float64)
            exact_p[p] = of.slope_v[c.piece_p[p]] * along
    # sums of `width` products of about 4 x 15, times a slope of up to 20
    bound = 1500 * width**0.5 * np.finfo(dtype).eps
    np.testing.assert_allclose(drows_kp[0], exact_p, rtol=0, atol=bound)
    assert np.isnan(drows_kp[1:]).all()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_nets(dtype: str) -> None:
    """Added to B; the first row of G is the first of the element."""
    rng, n = np.random.default_rng(6), int(FIRST_B[-1] - FIRST_B[0])
    g_pm, dg_pm = rng.normal(size=(2, n, 5)).astype(dtype)
    b_bm, db_bm = rng.normal(size=(2, 4, 5)).astype(dtype)
    drows_kp = np.full((4, FIRST_B[-1] + 1), np.nan, dtype)
    exact_bm = b_bm.astype(np.float64)
    exact_p = np.full(drows_kp.shape[1], np.nan)
    for b in range(4):
        for p in range(FIRST_B[b], FIRST_B[b + 1]):
            exact_bm[b] += g_pm[p - FIRST_B[0]]
            exact_p[p] = dg_pm[p - FIRST_B[0]].astype(np.float64) @ db_bm[b].astype(np.float64)
    radial.add_nets(g_pm, FIRST_B, b_bm)
    radial.slopes_of_nets(dg_pm, FIRST_B, db_bm, drows_kp)
    # sums of up to 12 numbers of order 1 to 3
    bound = 40 * np.finfo(dtype).eps
    np.testing.assert_allclose(b_bm, exact_bm, rtol=0, atol=bound)
    np.testing.assert_allclose(drows_kp[0], exact_p, rtol=0, atol=bound)
    assert np.isnan(drows_kp[1:]).all()
