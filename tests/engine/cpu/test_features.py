"""Kernels of features against plain NumPy, for widths that are no multiples of vectors."""

from __future__ import annotations

import numpy as np
import pytest

from lmp_dp.engine.cpu.kernels import features, simd
from lmp_dp.engine.cpu.packing import lanes_of

N_B = 5
#: Rank, columns with a second factor, columns of C (some behind the rank are padding).
SHAPES = [(1, 1, 8), (7, 3, 7), (8, 8, 8), (16, 4, 16), (23, 16, 24), (37, 5, 40), (100, 16, 100)]


def with_slack(array: np.ndarray) -> np.ndarray:
    """A copy, aligned, in front of a vector of NaN."""
    memory = simd.aligned(array.size + simd.WIDTH, array.dtype)
    memory[...] = np.nan
    memory[: array.size] = array.ravel()
    return memory[: array.size].reshape(array.shape)


def plain(c_bkr: np.ndarray, rank: int, n_axis: int) -> np.ndarray:
    """S_ab = sum_k C_ka C_kb, by b, then a = b .. rank - 1."""
    s_bar = np.einsum("bka,bkr->bar", c_bkr[:, :, :rank], c_bkr[:, :, :n_axis])
    return np.concatenate([s_bar[:, b:, b] for b in range(n_axis)], axis=1)


def moments(rank: int, n_columns: int, dtype: str) -> np.ndarray:
    c_bkr = np.random.default_rng(rank).normal(size=(N_B, 4, n_columns))
    c_bkr[:, :, rank:] = np.nan if n_columns > rank else 0.0
    return c_bkr.astype(dtype)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("rank", "n_axis", "n_columns"), SHAPES)
def test_forward(rank: int, n_axis: int, n_columns: int, dtype: str) -> None:
    c_bkr = with_slack(moments(rank, n_columns, dtype))
    exact = plain(c_bkr.astype(np.float64), rank, n_axis)
    f_bf = with_slack(np.full(exact.shape, np.nan, dtype))
    features.forward(c_bkr, rank, n_axis, lanes_of(c_bkr.dtype), f_bf)
    # four products of numbers up to 4
    np.testing.assert_allclose(f_bf, exact, rtol=0, atol=64 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("rank", "n_axis", "n_columns"), SHAPES)
def test_backward(rank: int, n_axis: int, n_columns: int, dtype: str) -> None:
    """The features are quadratic: a central difference is exact, whatever the step."""
    c_bkr = moments(rank, n_columns, dtype)
    wide = c_bkr[:, :, :rank].astype(np.float64)
    n_f = plain(wide, rank, n_axis).shape[1]
    df_bf = np.random.default_rng(1).normal(size=(N_B, n_f)).astype(dtype)
    exact = np.empty_like(wide)
    for k in range(4):
        for a in range(rank):
            step = np.zeros_like(wide)
            step[:, k, a] = 1.0
            slope_bf = (plain(wide + step, rank, n_axis) - plain(wide - step, rank, n_axis)) / 2
            exact[:, k, a] = (slope_bf * df_bf).sum(axis=1)
    dc_bkr = with_slack(np.full(c_bkr.shape, np.nan, dtype))
    features.backward(
        with_slack(c_bkr), with_slack(df_bf), rank, n_axis, lanes_of(c_bkr.dtype), dc_bkr
    )
    # sums of up to 100 products of numbers up to 4
    bound = 16 * (rank + n_axis) * np.finfo(dtype).eps
    np.testing.assert_allclose(dc_bkr[:, :, :rank], exact, rtol=0, atol=bound)
    assert not dc_bkr[:, :, rank:].any()
