"""Products of small matrices, at most a few hundred rows, in explicit vectors.

BLAS cannot be called from kernels, is not at its best with such sizes, and takes CPUs that are
newer than itself for old ones (LOG.md). Matrices are in flat arrays: where they begin, and the
distances between rows and between columns.
"""

from __future__ import annotations

from lmp_dp.engine.cpu.kernels.compiled import kernel
from lmp_dp.engine.cpu.kernels.simd import add_products, load_panel, store_panel, turn
from lmp_dp.engine.cpu.precompiled import target_features

#: Rows that are done together.
ROWS = 6
#: Vectors of columns that are done together: with `ROWS` rows, sums that stay in registers.
WIDEST = 4 if "+avx512f" in target_features() else 1


@kernel
def product(
    a, a_at, a_stride, a_across, n_rows, n_inner, b, b_at, b_stride, n_vectors, lanes, start,
    start_at, start_stride, c, c_at, c_stride,
):  # fmt: skip
    """C = A B + S, with `n_vectors` whole vectors of columns; B, S and C have columns in a row.

    S may be one row for all (`start_stride` = 0), but not C: the last rows may be done twice.
    """
    v = 0
    while v < n_vectors:
        left = min(n_vectors - v, WIDEST)
        skip = v * len(lanes)
        b_v, s_v, c_v = b_at + skip, start_at + skip, c_at + skip
        if left == 4:
            _columns(
                a, a_at, a_stride, a_across, n_rows, n_inner, b, b_v, b_stride, (0,) * 4, start,
                s_v, start_stride, c, c_v, c_stride,
            )  # fmt: skip
        elif left == 3:
            _columns(
                a, a_at, a_stride, a_across, n_rows, n_inner, b, b_v, b_stride, (0,) * 3, start,
                s_v, start_stride, c, c_v, c_stride,
            )  # fmt: skip
        elif left == 2:
            _columns(
                a, a_at, a_stride, a_across, n_rows, n_inner, b, b_v, b_stride, (0,) * 2, start,
                s_v, start_stride, c, c_v, c_stride,
            )  # fmt: skip
        else:
            _columns(
                a, a_at, a_stride, a_across, n_rows, n_inner, b, b_v, b_stride, (0,), start, s_v,
                start_stride, c, c_v, c_stride,
            )  # fmt: skip
        v += left


@kernel
def multiply(a_bi, b_io, zeros, lanes, c_bo):
    """C = A B, all of them in one piece; `zeros` has at least as many numbers as C has columns.

    Columns behind the last whole vector are done by one that overlaps the others.
    """
    n_rows, n_inner = a_bi.shape
    n_out, vector = b_io.shape[1], len(lanes)
    a, b, c = a_bi.reshape(-1), b_io.reshape(-1), c_bo.reshape(-1)
    whole = n_out // vector
    product(a, 0, n_inner, 1, n_rows, n_inner, b, 0, n_out, whole, lanes, zeros, 0, 0, c, 0, n_out)
    if n_out < vector:
        for p in range(n_rows):
            for o in range(n_out):
                total = zeros[0]
                for i in range(n_inner):
                    total += a_bi[p, i] * b_io[i, o]
                c_bo[p, o] = total
    elif whole * vector < n_out:
        at = n_out - vector
        product(
            a, 0, n_inner, 1, n_rows, n_inner, b, at, n_out, 1, lanes, zeros, 0, 0, c, at, n_out
        )


@kernel
def _columns(
    a, a_at, a_stride, a_across, n_rows, n_inner, b, b_at, b_stride, panel, start, start_at,
    start_stride, c, c_at, c_stride,
):  # fmt: skip
    """The product for `len(panel)` vectors of columns."""
    if n_rows < ROWS:
        for i in range(n_rows):
            at, of_b = a_at + i * a_stride, b_at
            sums = load_panel(start, start_at + i * start_stride, panel)
            for _ in range(n_inner):
                sums = add_products(sums, a, at, b, of_b)
                at += a_across
                of_b += b_stride
            store_panel(c, c_at + i * c_stride, sums)
        return
    for step in range((n_rows + ROWS - 1) // ROWS):
        i = min(step * ROWS, n_rows - ROWS)
        _tile(
            a, a_at + i * a_stride, a_stride, a_across, n_inner, b, b_at, b_stride, panel, start,
            start_at + i * start_stride, start_stride, c, c_at + i * c_stride, c_stride,
        )  # fmt: skip


@kernel
def _tile(
    a, a_at, a_stride, a_across, n_inner, b, b_at, b_stride, panel, start, start_at, start_stride,
    c, c_at, c_stride,
):  # fmt: skip
    """`ROWS` rows of that."""
    s0 = load_panel(start, start_at, panel)
    s1 = load_panel(start, start_at + start_stride, panel)
    s2 = load_panel(start, start_at + 2 * start_stride, panel)
    s3 = load_panel(start, start_at + 3 * start_stride, panel)
    s4 = load_panel(start, start_at + 4 * start_stride, panel)
    s5 = load_panel(start, start_at + 5 * start_stride, panel)
    for _ in range(n_inner):
        s0 = add_products(s0, a, a_at, b, b_at)
        s1 = add_products(s1, a, a_at + a_stride, b, b_at)
        s2 = add_products(s2, a, a_at + 2 * a_stride, b, b_at)
        s3 = add_products(s3, a, a_at + 3 * a_stride, b, b_at)
        s4 = add_products(s4, a, a_at + 4 * a_stride, b, b_at)
        s5 = add_products(s5, a, a_at + 5 * a_stride, b, b_at)
        a_at += a_across
        b_at += b_stride
    store_panel(c, c_at, s0)
    store_panel(c, c_at + c_stride, s1)
    store_panel(c, c_at + 2 * c_stride, s2)
    store_panel(c, c_at + 3 * c_stride, s3)
    store_panel(c, c_at + 4 * c_stride, s4)
    store_panel(c, c_at + 5 * c_stride, s5)


@kernel
def transpose(a, a_at, a_stride, n_rows, n_columns, lanes, c, c_at, c_stride):
    """C = Aᵀ, 0 behind the last row of A up to the length `c_stride`."""
    vector = len(lanes)
    whole_rows, whole_columns = n_rows // vector * vector, n_columns // vector * vector
    for j in range(0, whole_columns, vector):
        for i in range(0, whole_rows, vector):
            turn(a, a_at + i * a_stride + j, a_stride, c, c_at + j * c_stride + i, c_stride, lanes)
    for j in range(n_columns):
        to = c_at + j * c_stride
        for i in range(whole_rows if j < whole_columns else 0, n_rows):
            c[to + i] = a[a_at + i * a_stride + j]
        for i in range(n_rows, c_stride):
            c[to + i] = 0
