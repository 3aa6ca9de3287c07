"""Sums over pairs of neighbours of a centre, as se_e3 has them, and their gradients.

Pairs of a few centres at a time are lists: e, a weight, and the two vectors that e is the product
of. Within one element j, k and k, j are equal: pairs have j <= k, and the weight is doubled.

    pairs of centre b:   first_b[b] <= pair < first_b[b + 1]
"""

from __future__ import annotations

import numpy as np

from lmp_dp.engine.cpu.kernels.compiled import kernel
from lmp_dp.engine.cpu.kernels.simd import fill, load, multiply_add, store, total


@kernel
def vectors(rows_kp, first_tb, empty_tb, empty_c, v_cp, count_p, start_tb):
    """The last three components of rows, and how many slots have them.

    Of each centre and element there is one vector more for all empty slots, if they are not zero.

    Parameters
    ----------
    empty_tb : (n_types, n_b) integers
        Empty slots.
    empty_c : (3,) array
        What an empty slot is.
    v_cp : (3, P) array
        Filled.
    count_p : (P,) array
        Filled.
    start_tb : (n_types, n_b + 1) integers
        Filled: where vectors of centre b and element t begin.
    """
    n_types, n_b = first_tb.shape[0], first_tb.shape[1] - 1
    with_empty = empty_c[0] != 0.0 or empty_c[1] != 0.0 or empty_c[2] != 0.0
    at = 0
    for t in range(n_types):
        start_tb[t, 0] = at
        for b in range(n_b):
            first, last = first_tb[t, b], first_tb[t, b + 1]
            for p in range(first, last):
                for c in range(3):
                    v_cp[c, at + p - first] = rows_kp[c + 1, p]
                count_p[at + p - first] = 1
            at += last - first
            empty = empty_tb[t, b]
            if with_empty and empty > 0:
                for c in range(3):
                    v_cp[c, at] = empty_c[c]
                count_p[at] = empty
                at += 1
            start_tb[t, b + 1] = at


@kernel
def count(one_b, two_b, same, n_p):
    """Pairs of each centre, to `n_p`; vectors of its two elements begin at `one_b` and `two_b`."""
    for b in range(len(n_p)):
        n, m = one_b[b + 1] - one_b[b], two_b[b + 1] - two_b[b]
        n_p[b] = n * (n + 1) // 2 if same else n * m


@kernel
def pairs(v_cp, count_p, one_b, two_b, same, weight, e_p, weight_p, one_p, two_p, first_b):
    """Lists of the pairs of some centres, and where those of each begin."""
    kind = e_p.dtype.type
    at = 0
    first_b[0] = 0
    for b in range(len(first_b) - 1):
        for j in range(one_b[b], one_b[b + 1]):
            x, y, z = v_cp[0, j], v_cp[1, j], v_cp[2, j]
            start = j if same else two_b[b]
            once = weight * count_p[j]
            of_j = kind(2.0 * once if same else once)
            n = two_b[b + 1] - start
            for i in range(n):
                k = start + i
                e_p[at + i] = x * v_cp[0, k] + y * v_cp[1, k] + z * v_cp[2, k]
                weight_p[at + i] = of_j * kind(count_p[k])
                one_p[at + i] = j
                two_p[at + i] = k
            if same:
                weight_p[at] = kind(once * count_p[j])
            at += n
        first_b[b + 1] = at


@kernel
def sums(e_p, weight_p, piece_p, x_p, coefficients_veq, first_b, start, lanes, b_bq):
    """B_q = sum_pairs w e phi_q(e), to columns start.. of `b_bq`."""
    rank, n_columns = coefficients_veq.shape[2], b_bq.shape[1]
    width = len(lanes)
    for b in range(len(first_b) - 1):
        for v in range(0, rank, width):
            b_q = fill(b_bq.dtype.type(0.0))
            for p in range(first_b[b], first_b[b + 1]):
                at = np.int64(piece_p[p]) * 6 * rank + v
                x = fill(x_p[p])
                phi = load(coefficients_veq, at + 5 * rank)
                for k in range(4, -1, -1):
                    phi = multiply_add(phi, x, load(coefficients_veq, at + k * rank))
                b_q = multiply_add(phi, fill(weight_p[p] * e_p[p]), b_q)
            store(b_bq, b * n_columns + start + v, b_q)


@kernel
def slopes(
    e_p, weight_p, piece_p, x_p, coefficients_veq, slope_v, first_b, start, lanes, db_bq, de_p
):
    """dE/de = w sum_q (phi_q + e phi'_q) dE/dB_q of pairs; phi and phi' in one Horner pass."""
    rank, n_columns = coefficients_veq.shape[2], db_bq.shape[1]
    width = len(lanes)
    zero = fill(db_bq.dtype.type(0.0))
    for b in range(len(first_b) - 1):
        of_b = b * n_columns + start
        for p in range(first_b[b], first_b[b + 1]):
            of_p = np.int64(piece_p[p]) * 6 * rank
            x, stretch = fill(x_p[p]), fill(e_p[p] * slope_v[piece_p[p]])
            de = zero
            for v in range(0, rank, width):
                at = of_p + v
                phi, dphi = load(coefficients_veq, at + 5 * rank), zero
                for k in range(4, -1, -1):
                    dphi = multiply_add(dphi, x, phi)
                    phi = multiply_add(phi, x, load(coefficients_veq, at + k * rank))
                de = multiply_add(multiply_add(dphi, stretch, phi), load(db_bq, of_b + v), de)
            de_p[p] = weight_p[p] * total(de)


@kernel
def add_nets(e_p, weight_p, g_pm, first, first_b, b_bm):
    """B_m += sum_pairs w e G_m, for the pairs from `first` on that `g_pm` has."""
    for b in range(len(first_b) - 1):
        b_m = b_bm[b]
        for p in range(max(first, first_b[b]), min(first + len(g_pm), first_b[b + 1])):
            g_m, factor = g_pm[p - first], weight_p[p] * e_p[p]
            for m in range(len(b_m)):
                b_m[m] += factor * g_m[m]


@kernel
def slopes_of_nets(e_p, weight_p, g_pm, dg_pm, first, first_b, db_bm, de_p):
    """dE/de = w sum_m (G_m + e G'_m) dE/dB_m, for the same pairs."""
    for b in range(len(first_b) - 1):
        db_m = db_bm[b]
        for p in range(max(first, first_b[b]), min(first + len(g_pm), first_b[b + 1])):
            g_m, dg_m, e = g_pm[p - first], dg_pm[p - first], e_p[p]
            de = db_bm.dtype.type(0.0)
            for m in range(len(db_m)):
                de += (g_m[m] + e * dg_m[m]) * db_m[m]
            de_p[p] = weight_p[p] * de


@kernel
def add_gradients(v_cp, one_p, two_p, de_p, n_pairs, dv_cp):
    """dE/dv of the vectors, from dE/de: e = v_j . v_k."""
    for p in range(n_pairs):
        j, k, de = one_p[p], two_p[p], de_p[p]
        for c in range(3):
            dv_cp[c, j] += de * v_cp[c, k]
            dv_cp[c, k] += de * v_cp[c, j]


@kernel
def to_rows(dv_cp, first_tb, start_tb, drows_kp):
    """dE/dR of the rows, from that of their vectors."""
    for t in range(first_tb.shape[0]):
        for b in range(first_tb.shape[1] - 1):
            shift = start_tb[t, b] - first_tb[t, b]
            for p in range(first_tb[t, b], first_tb[t, b + 1]):
                drows_kp[0, p] = 0.0
                for c in range(3):
                    drows_kp[c + 1, p] = dv_cp[c, p + shift]
