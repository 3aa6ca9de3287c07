"""The kernels of features on the emulated device, of narrow and of wide moments."""

from __future__ import annotations

import numpy as np
import pytest

from cuda_emulation.emulated_device import EmulatedDevice
from lmp_dp.engine.gpu import kernels

N, DIVISOR = 6, 57.0
#: (columns, rank, n_axis): less and more than a warp, with columns to spare, and axes that are
#: not whole groups of what the kernels take at a time, or all columns.
SHAPES = [
    *((1, 1, 1), (5, 5, 2), (12, 9, 9), (40, 31, 8), (58, 58, 16), (64, 61, 16)),
    *((101, 100, 17), (203, 200, 40)),
]


def run(shape: tuple[int, int, int], dtype: type, seed: int = 0) -> tuple[np.ndarray, ...]:
    """C, features, their gradient and that of C."""
    columns, rank, n_axis = shape
    rng = np.random.default_rng(columns)
    device = EmulatedDevice(seed=seed)
    c_bkr = device.upload(rng.normal(0, 1, (N, 4, columns)).astype(dtype))
    width = rank * n_axis - n_axis * (n_axis - 1) // 2
    f_bi = device.upload(np.full((N, width), np.nan, dtype))
    df_bi = device.upload(rng.normal(0, 1, f_bi.shape).astype(dtype))
    dc_bkr = device.upload(np.full(c_bkr.shape, np.nan, dtype))
    module = device.compile(REAL=kernels.real(np.dtype(dtype)))
    sizes = (*map(np.int32, (N, columns, rank, n_axis)), np.int64(width))
    blocks = kernels.warps(N)
    device.launch(module, "features", blocks, c_bkr, *sizes, f_bi)
    device.launch(module, "features_backward", blocks, c_bkr, df_bi, *sizes, dtype(DIVISOR), dc_bkr)
    return tuple(map(device.download, (c_bkr, f_bi, df_bi, dc_bkr)))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("shape", SHAPES)
def test_features_and_their_gradient(shape: tuple[int, int, int], dtype: type) -> None:
    _, rank, n_axis = shape
    c_bkr, f_bi, df_bi, dc_bkr = run(shape, dtype)
    exact = np.longdouble
    pairs = [(a, b) for b in range(n_axis) for a in range(b, rank)]
    rounding = np.finfo(dtype).eps / 2
    expected_c, size_c = np.zeros(c_bkr.shape, exact), np.zeros(c_bkr.shape, exact)
    for i, (a, b) in enumerate(pairs):
        terms_bk = c_bkr[:, :, a].astype(exact) * c_bkr[:, :, b]
        # four products and their sums
        allowed = 5 * rounding * np.abs(terms_bk).sum(axis=1)
        assert (np.abs(f_bi[:, i] - terms_bk.sum(axis=1)) <= allowed).all()
        for to, other in ((a, b), (b, a)):
            term_bk = df_bi[:, i, None].astype(exact) * c_bkr[:, :, other] / DIVISOR
            expected_c[:, :, to] += term_bk
            size_c[:, :, to] += np.abs(term_bk)
    # a product and a quotient each, and one sum fewer than terms
    allowed_c = (rank + n_axis + 2) * rounding * size_c
    assert (np.abs(dc_bkr - expected_c) <= allowed_c).all()
    assert not dc_bkr[:, :, rank:].any()


@pytest.mark.parametrize("seed", [1, 2])
def test_the_same_bits_in_any_order(seed: int) -> None:
    for one, other in zip(
        run(SHAPES[-2], np.float64), run(SHAPES[-2], np.float64, seed), strict=True
    ):
        np.testing.assert_array_equal(one, other)
