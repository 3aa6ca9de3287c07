"""Sums of functions of s over the neighbours of a centre, as se_e2_r has them, and gradients."""

from __future__ import annotations

import numpy as np

from lmp_dp.engine.cpu.kernels.compiled import kernel
from lmp_dp.engine.cpu.kernels.simd import add, fill, load, multiply_add, store, total


@kernel
def sums(piece_p, x_p, coefficients_veq, first_b, start, lanes, b_bq):
    """B_q = sum_rows phi_q(s), to columns start.. of `b_bq`.

    Two vectors of polynomials are under way at a time.
    """
    rank, n_columns = coefficients_veq.shape[2], b_bq.shape[1]
    width = len(lanes)
    for b in range(len(first_b) - 1):
        for v in range(0, rank, 2 * width):
            one_q = two_q = fill(b_bq.dtype.type(0.0))
            # the last vector of an odd number is done twice
            other = v + width if v + width < rank else v
            for p in range(first_b[b], first_b[b + 1]):
                of_p = np.int64(piece_p[p]) * 6 * rank
                one, two = of_p + v, of_p + other
                x = fill(x_p[p])
                one_phi = load(coefficients_veq, one + 5 * rank)
                two_phi = load(coefficients_veq, two + 5 * rank)
                for k in range(4, -1, -1):
                    one_phi = multiply_add(one_phi, x, load(coefficients_veq, one + k * rank))
                    two_phi = multiply_add(two_phi, x, load(coefficients_veq, two + k * rank))
                one_q, two_q = add(one_phi, one_q), add(two_phi, two_q)
            at = b * n_columns + start
            store(b_bq, at + other, two_q)
            store(b_bq, at + v, one_q)


@kernel
def slopes(piece_p, x_p, coefficients_veq, slope_v, first_b, start, lanes, db_bq, drows_kp):
    """dE/dR_0 = sum_q phi'_q dE/dB_q of rows; their other components are left alone."""
    rank, n_columns = coefficients_veq.shape[2], db_bq.shape[1]
    width = len(lanes)
    zero = fill(db_bq.dtype.type(0.0))
    for b in range(len(first_b) - 1):
        of_b = b * n_columns + start
        for p in range(first_b[b], first_b[b + 1]):
            of_p = np.int64(piece_p[p]) * 6 * rank
            x = fill(x_p[p])
            ds = zero
            for v in range(0, rank, width):
                at = of_p + v
                phi, dphi = load(coefficients_veq, at + 5 * rank), zero
                for k in range(4, 0, -1):
                    dphi = multiply_add(dphi, x, phi)
                    phi = multiply_add(phi, x, load(coefficients_veq, at + k * rank))
                dphi = multiply_add(dphi, x, phi)
                ds = multiply_add(dphi, load(db_bq, of_b + v), ds)
            drows_kp[0, p] = total(ds) * slope_v[piece_p[p]]


@kernel
def add_nets(g_pm, first_b, b_bm):
    """B_m += sum_rows G_m; the first row of `g_pm` is row ``first_b[0]``."""
    for b in range(len(first_b) - 1):
        b_m = b_bm[b]
        for p in range(first_b[b], first_b[b + 1]):
            g_m = g_pm[p - first_b[0]]
            for m in range(len(b_m)):
                b_m[m] += g_m[m]


@kernel
def slopes_of_nets(dg_pm, first_b, db_bm, drows_kp):
    """dE/dR_0 = sum_m G'_m dE/dB_m of the same rows."""
    for b in range(len(first_b) - 1):
        db_m = db_bm[b]
        for p in range(first_b[b], first_b[b + 1]):
            dg_m = dg_pm[p - first_b[0]]
            ds = db_bm.dtype.type(0.0)
            for m in range(len(db_m)):
                ds += dg_m[m] * db_m[m]
            drows_kp[0, p] = ds
