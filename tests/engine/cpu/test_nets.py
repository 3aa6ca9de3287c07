"""Kernels of nets against plain NumPy, for widths and numbers of rows that leave remainders."""

from __future__ import annotations

import numpy as np
import pytest

from lmp_dp.engine.cpu.kernels import nets, simd
from lmp_dp.engine.cpu.packing import lanes_of

#: Rows of six centres: none, less than four at a time, four, and more.
FIRST_B = np.array([5, 5, 6, 9, 13, 20, 29])
CHANNELS = (1, 7, 8, 25, 33)


def arrays(dtype: str, channels: int) -> tuple[np.ndarray, ...]:
    """Rows (columns before and behind those of the element are not read), G, dG/ds, dE/dB."""
    rng = np.random.default_rng(channels)
    rows_kp = np.full((4, FIRST_B[-1] + 3), np.nan)
    n = FIRST_B[-1] - FIRST_B[0]
    rows_kp[:, FIRST_B[0] : FIRST_B[-1]] = rng.normal(size=(4, n))
    shapes = ((n, channels), (n, channels), (6, 4, channels))
    return tuple(
        array.astype(dtype) for array in (rows_kp, *map(rng.normal, [0] * 3, [1] * 3, shapes))
    )


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("channels", CHANNELS)
def test_moment(channels: int, dtype: str) -> None:
    """Added to what the elements before have left."""
    rows_kp, g_pm, _, b_bkm = arrays(dtype, channels)
    exact = b_bkm.astype(np.float64)
    for b in range(6):
        own = slice(FIRST_B[b] - FIRST_B[0], FIRST_B[b + 1] - FIRST_B[0])
        of_b = slice(FIRST_B[b], FIRST_B[b + 1])
        exact[b] += rows_kp[:, of_b].astype(np.float64) @ g_pm[own].astype(np.float64)
    nets.moment(rows_kp, g_pm, FIRST_B, b_bkm)
    # up to ten terms of up to 10
    np.testing.assert_allclose(b_bkm, exact, rtol=0, atol=100 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("channels", CHANNELS)
def test_gradients(channels: int, dtype: str) -> None:
    rows_kp, g_pm, dg_pm, db_bkm = arrays(dtype, channels)
    drows_kp = np.full(rows_kp.shape, np.nan, dtype)
    nets.gradients(rows_kp, g_pm, dg_pm, FIRST_B, db_bkm, drows_kp)
    exact = np.full(rows_kp.shape, np.nan)
    wide_kp, g, dg, db = (x.astype(np.float64) for x in (rows_kp, g_pm, dg_pm, db_bkm))
    for b in range(6):
        for p in range(FIRST_B[b], FIRST_B[b + 1]):
            q = p - FIRST_B[0]
            exact[:, p] = db[b] @ g[q]
            exact[0, p] += wide_kp[:, p] @ db[b] @ dg[q]
    # `channels` terms of up to about 30
    np.testing.assert_allclose(drows_kp, exact, rtol=0, atol=60 * channels * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("joins", [False, True])
@pytest.mark.parametrize("vectors", [1, 3])
def test_tanh_layer(vectors: int, joins: bool, dtype: str) -> None:
    rng = np.random.default_rng(vectors)
    lanes = lanes_of(np.dtype(dtype))
    width = vectors * len(lanes)
    z_bo, x_bo = (simd.aligned_copy(2 * rng.normal(size=(7, width)), dtype) for _ in range(2))
    bias_o, idt_o = (simd.aligned_copy(rng.normal(size=width), dtype) for _ in range(2))
    slope_bo = np.full((7, width), np.nan, dtype)
    value_bo = np.tanh(z_bo.astype(np.float64) + bias_o)
    exact_bo = idt_o * value_bo + (x_bo.astype(np.float64) if joins else 0.0)
    nets.tanh_layer(z_bo, bias_o, idt_o, x_bo if joins else z_bo, joins, lanes, slope_bo)
    # z + bias is up to 10 and rounded, tanh to 3 units in the last place, sums up to 10
    bound = 16 * np.finfo(dtype).eps
    np.testing.assert_allclose(z_bo, exact_bo, rtol=0, atol=bound)
    np.testing.assert_allclose(slope_bo, idt_o * (1.0 - value_bo**2), rtol=0, atol=bound)
