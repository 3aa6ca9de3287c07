"""Tables of pairs: nearness of neighbours, energies, and gradients (`lmp_dp.model.pair_table`).

Rows of centre b are those of all neighbour elements t, first_tb[t, b] .. first_tb[t, b + 1].
"""

from __future__ import annotations

import numpy as np

from lmp_dp.engine.cpu.kernels.compiled import kernel


@kernel
def distances(r_cp, n_rows, r_p):
    """|r_ij| of the rows (Å)."""
    for p in range(n_rows):
        x, y, z = r_cp[0, p], r_cp[1, p], r_cp[2, p]
        r_p[p] = np.sqrt(x * x + y * y + z * z)


@kernel
def nearness(r_p, first_tb, alpha, start, width, l_b, dl_p):
    """l of each centre, and dl/d|r_ij| of its rows; without neighbours l = 0."""
    n_types, n_b = first_tb.shape[0], first_tb.shape[1] - 1
    for b in range(n_b):
        nearest = np.inf
        for t in range(n_types):
            for p in range(first_tb[t, b], first_tb[t, b + 1]):
                nearest = min(nearest, r_p[p])
        if nearest == np.inf:
            l_b[b] = 0.0
            continue
        total, weighted = 0.0, 0.0
        for t in range(n_types):
            for p in range(first_tb[t, b], first_tb[t, b + 1]):
                # relative to the nearest one: no underflow of all terms
                term = np.exp((nearest - r_p[p]) / alpha)
                total += term
                weighted += r_p[p] * term
                dl_p[p] = term
        sigma = weighted / total
        u = min(max((sigma - start) / width, 0.0), 1.0)
        l_b[b] = u * u * u * (-6.0 * u * u + 15.0 * u - 10.0) + 1.0
        slope = -30.0 * u * u * (u - 1.0) * (u - 1.0) / width
        for t in range(n_types):
            for p in range(first_tb[t, b], first_tb[t, b + 1]):
                dl_p[p] *= slope * (1.0 - (r_p[p] - sigma) / alpha) / total


@kernel
def energies(r_p, first_tb, rcut, start, step, coefficients_tve, e_b, de_p):
    """1/2 sum_j u of each centre, and u'/2 of its rows.

    Returns how many rows are closer than the table begins; there its first piece goes on.
    """
    n_types, n_b = first_tb.shape[0], first_tb.shape[1] - 1
    n_pieces = coefficients_tve.shape[1]
    too_close = 0
    for b in range(n_b):
        e = 0.0
        for t in range(n_types):
            for p in range(first_tb[t, b], first_tb[t, b + 1]):
                at = (r_p[p] - start) / step
                too_close += at < 0.0
                de_p[p] = 0.0
                if at < n_pieces and r_p[p] < rcut:
                    v = max(np.int64(np.floor(at)), 0)
                    x, c_e = at - v, coefficients_tve[t, v]
                    e += ((c_e[3] * x + c_e[2]) * x + c_e[1]) * x + c_e[0]
                    de_p[p] = 0.5 * ((3.0 * c_e[3] * x + 2.0 * c_e[2]) * x + c_e[1]) / step
        e_b[b] = 0.5 * e
    return too_close


@kernel
def gradients(r_cp, r_p, first_tb, weight_b, slope_p, g_cp):
    """dE/dr_c of the rows, from what each centre has of dE/d|r_ij|."""
    n_types, n_b = first_tb.shape[0], first_tb.shape[1] - 1
    for t in range(n_types):
        for b in range(n_b):
            for p in range(first_tb[t, b], first_tb[t, b + 1]):
                factor = weight_b[b] * slope_p[p] / r_p[p]
                for c in range(3):
                    g_cp[c, p] = factor * r_cp[c, p]
