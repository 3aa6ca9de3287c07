"""Features of the reduced moment (`lmp_dp.engine.lowering.reduction`), and their gradient."""

from __future__ import annotations

from lmp_dp.engine.cpu.kernels.compiled import kernel
from lmp_dp.engine.cpu.kernels.simd import fill, load, multiply, multiply_add, store, total


@kernel
def forward(c_bkr, rank, n_axis, lanes, f_bi):
    """S_ab = sum_k C_ka C_kb for b < n_axis, b <= a < rank (`lmp_dp.engine.lowering.reduction`).

    Whole vectors are stored: what they write beyond a block is overwritten by the next block.
    Both arrays need one vector of slack behind their last element.
    """
    n_b, _, n_columns = c_bkr.shape
    width = len(lanes)
    at = 0
    for b in range(n_b):
        of_b = b * 4 * n_columns
        for axis in range(n_axis):
            x0, x1 = fill(c_bkr[b, 0, axis]), fill(c_bkr[b, 1, axis])
            x2, x3 = fill(c_bkr[b, 2, axis]), fill(c_bkr[b, 3, axis])
            for v in range(0, rank - axis, width):
                a = of_b + axis + v
                s = multiply(x0, load(c_bkr, a))
                s = multiply_add(x1, load(c_bkr, a + n_columns), s)
                s = multiply_add(x2, load(c_bkr, a + 2 * n_columns), s)
                s = multiply_add(x3, load(c_bkr, a + 3 * n_columns), s)
                store(f_bi, at + v, s)
            at += rank - axis


@kernel
def backward(c_bkr, df_bi, rank, n_axis, lanes, dc_bkr):
    """dE/dC_ka = sum_b dF_ab C_kb + [a < n_axis] sum_a' dF_a'a C_ka'."""
    n_b, _, n_columns = c_bkr.shape
    width = len(lanes)
    zero = fill(c_bkr.dtype.type(0.0))
    dc_bkr[:] = c_bkr.dtype.type(0.0)
    at = 0
    for b in range(n_b):
        d0, d1, d2, d3 = dc_bkr[b, 0], dc_bkr[b, 1], dc_bkr[b, 2], dc_bkr[b, 3]
        c0, c1, c2, c3 = c_bkr[b, 0], c_bkr[b, 1], c_bkr[b, 2], c_bkr[b, 3]
        of_b = b * 4 * n_columns
        for axis in range(n_axis):
            x0, x1, x2, x3 = c0[axis], c1[axis], c2[axis], c3[axis]
            v0, v1, v2, v3 = fill(x0), fill(x1), fill(x2), fill(x3)
            s0, s1, s2, s3 = zero, zero, zero, zero
            whole = (rank - axis) // width * width
            for v in range(0, whole, width):
                g = load(df_bi, at + v)
                a = of_b + axis + v
                s0 = multiply_add(g, load(c_bkr, a), s0)
                store(dc_bkr, a, multiply_add(g, v0, load(dc_bkr, a)))
                a += n_columns
                s1 = multiply_add(g, load(c_bkr, a), s1)
                store(dc_bkr, a, multiply_add(g, v1, load(dc_bkr, a)))
                a += n_columns
                s2 = multiply_add(g, load(c_bkr, a), s2)
                store(dc_bkr, a, multiply_add(g, v2, load(dc_bkr, a)))
                a += n_columns
                s3 = multiply_add(g, load(c_bkr, a), s3)
                store(dc_bkr, a, multiply_add(g, v3, load(dc_bkr, a)))
            t0, t1, t2, t3 = total(s0), total(s1), total(s2), total(s3)
            for a in range(axis + whole, rank):
                h = df_bi[b, at - b * df_bi.shape[1] + a - axis]
                t0 += h * c0[a]
                t1 += h * c1[a]
                t2 += h * c2[a]
                t3 += h * c3[a]
                d0[a] += h * x0
                d1[a] += h * x1
                d2[a] += h * x2
                d3[a] += h * x3
            d0[axis] += t0
            d1[axis] += t1
            d2[axis] += t2
            d3[axis] += t3
            at += rank - axis
