"""Products of small matrices in explicit vectors, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from lmp_dp.engine.cpu.kernels.products import ROWS, multiply, product, transpose
from lmp_dp.engine.cpu.packing import lanes_of


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("n_rows", [0, 1, ROWS - 1, ROWS, ROWS + 1, 3 * ROWS - 1])
@pytest.mark.parametrize("n_vectors", range(1, 10))
@pytest.mark.parametrize("turned", [False, True])
def test_a_product_and_a_sum(dtype, n_rows: int, n_vectors: int, turned: bool) -> None:
    lanes = lanes_of(np.dtype(dtype))
    n_inner, n_columns = 7, n_vectors * len(lanes)
    rng = np.random.default_rng(n_rows)
    a = rng.normal(size=(n_inner, n_rows + 2) if turned else (n_rows, n_inner + 2)).astype(dtype)
    row, column = (1, a.shape[1]) if turned else (a.shape[1], 1)
    b = rng.normal(size=(n_inner, n_columns + 3)).astype(dtype)
    start = rng.normal(size=(n_rows, n_columns + 1)).astype(dtype)
    c = np.full((n_rows, n_columns + 5), 9.0, dtype)
    product(
        a.ravel(), 0, row, column, n_rows, n_inner, b.ravel(), 2, n_columns + 3, n_vectors, lanes,
        start.ravel(), 1, n_columns + 1, c.ravel(), 4, n_columns + 5,
    )  # fmt: skip
    left = a[:, :n_rows].T if turned else a[:, :n_inner]
    expected = left.astype(np.float64) @ b[:, 2 : 2 + n_columns] + start[:, 1:]
    # rounding of sums of 8 terms up to some 10
    tolerance = 100 * np.finfo(dtype).eps
    np.testing.assert_allclose(c[:, 4 : 4 + n_columns], expected, rtol=0, atol=tolerance)
    assert (c[:, :4] == 9.0).all()
    assert (c[:, 4 + n_columns :] == 9.0).all()


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("n_rows", [0, 1, ROWS, 5 * ROWS + 2])
@pytest.mark.parametrize("n_columns", [1, 3, 8, 17, 64, 101])
def test_whole_matrices(dtype, n_rows: int, n_columns: int) -> None:
    rng = np.random.default_rng(n_columns)
    a, b = rng.normal(size=(n_rows, 40)), rng.normal(size=(40, n_columns))
    memory = np.full(n_rows * n_columns + 32, 9.0, dtype)
    c = memory[: n_rows * n_columns].reshape(n_rows, n_columns)
    a, b = a.astype(dtype), b.astype(dtype)
    multiply(a, b, np.zeros(n_columns + 64, dtype), lanes_of(a.dtype), c)
    # rounding of sums of 40 terms up to some 10
    np.testing.assert_allclose(c, a.astype(np.float64) @ b, rtol=0, atol=400 * np.finfo(dtype).eps)
    assert (memory[n_rows * n_columns :] == 9.0).all()


@pytest.mark.parametrize(("n_rows", "n_columns"), [(1, 1), (16, 16), (17, 32), (37, 16), (90, 128)])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_matrix_turned(dtype, n_rows: int, n_columns: int) -> None:
    a = np.random.default_rng(1).normal(size=(n_rows, n_columns + 3)).astype(dtype)
    length = -(-n_rows // 16) * 16
    c = np.full(n_columns * length + 5, 9.0, dtype)
    transpose(a.ravel(), 1, n_columns + 3, n_rows, n_columns, lanes_of(a.dtype), c, 2, length)
    turned = c[2:-3].reshape(n_columns, length)
    np.testing.assert_array_equal(turned[:, :n_rows], a[:, 1 : n_columns + 1].T)
    assert not turned[:, n_rows:].any()
    assert (c[[0, 1, -3, -2, -1]] == 9.0).all()
