"""Rows in the order of their centres, and what attention takes of them.

Those of centre b are first_b[b] <= p < first_b[b + 1]. Arrays say `_p` of rows in either order;
place_p[p] is the place in this order of a row in its own (`kernels`).
"""

from __future__ import annotations

import numpy as np

from lmp_dp.engine.cpu.kernels.compiled import kernel


@kernel
def arrange(first_tb, place_p, first_b):
    """Where rows go in the order of centres, and where those of each centre begin."""
    n_types, n_b = first_tb.shape[0], first_tb.shape[1] - 1
    row = 0
    for b in range(n_b):
        first_b[b] = row
        for t in range(n_types):
            for p in range(first_tb[t, b], first_tb[t, b + 1]):
                place_p[p] = row
                row += 1
    first_b[n_b] = row


@kernel
def directions(rows_kp, fade_p, place_p, shortest, arranged_kp, arranged_p, unit_cp, inverse_p):
    """Rows and fades in the order of centres, the rows' unit vectors and inverse lengths.

    Behind the last row `unit_cp` and `arranged_p` are 0.
    """
    n_rows = len(place_p)
    one = rows_kp.dtype.type(1.0)
    for p in range(n_rows):
        q = place_p[p]
        x, y, z = rows_kp[1, p], rows_kp[2, p], rows_kp[3, p]
        inverse = one / max(np.sqrt(x * x + y * y + z * z), shortest)
        inverse_p[q] = inverse
        arranged_p[q] = fade_p[p]
        arranged_kp[0, q] = rows_kp[0, p]
        arranged_kp[1, q], arranged_kp[2, q], arranged_kp[3, q] = x, y, z
        unit_cp[0, q], unit_cp[1, q], unit_cp[2, q] = x * inverse, y * inverse, z * inverse
    unit_cp[:, n_rows:] = one - one
    arranged_p[n_rows:] = one - one


@kernel
def directions_back(unit_cp, inverse_p, dunit_cp, shortest, drows_kp):
    """Add what the unit vectors' gradients are for the rows."""
    zero = unit_cp.dtype.type(0.0)
    longest = unit_cp.dtype.type(1.0) / shortest
    for p in range(len(inverse_p)):
        inverse = inverse_p[p]
        along = zero
        if inverse < longest:
            for c in range(3):
                along += unit_cp[c, p] * dunit_cp[c, p]
        for c in range(3):
            drows_kp[1 + c, p] += inverse * (dunit_cp[c, p] - along * unit_cp[c, p])


@kernel
def spread(g_pm, place_p, first, arranged_pm):
    """G of a block's rows, which begin with row `first`, in the order of centres and padded."""
    channels = g_pm.shape[1]
    for p in range(len(g_pm)):
        to_m = arranged_pm[place_p[first + p]]
        for m in range(channels):
            to_m[m] = g_pm[p, m]
        to_m[channels:] = 0


@kernel
def collect(slope_pm, fade_slope_p, place_p, first, darranged_pm, darranged_kp, dfade_p, drows_kp):
    """dE/dR of a block's rows in their own order, from all that there is in that of centres."""
    zero = slope_pm.dtype.type(0.0)
    for p in range(len(slope_pm)):
        q = place_p[first + p]
        dg_m = darranged_pm[q]
        ds = zero
        for m in range(slope_pm.shape[1]):
            ds += dg_m[m] * slope_pm[p, m]
        ds += dfade_p[q] * fade_slope_p[first + p]
        drows_kp[0, first + p] = darranged_kp[0, q] + ds
        for k in range(1, 4):
            drows_kp[k, first + p] = darranged_kp[k, q]


@kernel
def moment_back(rows_kp, g_pm, first_b, db_bkm, drows_kp, dg_pm):
    """Gradients of the rows and of G from that of B."""
    channels = g_pm.shape[1]  # padded with zeros
    zero = g_pm.dtype.type(0.0)
    for b in range(len(first_b) - 1):
        t0, t1, t2, t3 = db_bkm[b, 0], db_bkm[b, 1], db_bkm[b, 2], db_bkm[b, 3]
        for p in range(first_b[b], first_b[b + 1]):
            g_m, dg_m = g_pm[p], dg_pm[p]
            r0, r1, r2, r3 = rows_kp[0, p], rows_kp[1, p], rows_kp[2, p], rows_kp[3, p]
            e0 = e1 = e2 = e3 = zero
            for m in range(channels):
                dg_m[m] = r0 * t0[m] + r1 * t1[m] + r2 * t2[m] + r3 * t3[m]
                e0 += g_m[m] * t0[m]
                e1 += g_m[m] * t1[m]
                e2 += g_m[m] * t2[m]
                e3 += g_m[m] * t3[m]
            drows_kp[0, p], drows_kp[1, p], drows_kp[2, p], drows_kp[3, p] = e0, e1, e2, e3
