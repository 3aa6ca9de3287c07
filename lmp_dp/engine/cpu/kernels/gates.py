"""Gates of nets that are told the elements, which may close at the cutoff; see `forms.Moment`."""

from __future__ import annotations

import numpy as np

from lmp_dp.engine.cpu.kernels.compiled import kernel
from lmp_dp.engine.cpu.kernels.simd import fill, load, multiply, multiply_add, store, total


@kernel
def fades(s_p, ds_p, r_cp, n_rows, of_s, radius, protection, dstd, fade_p, slope_p):
    """How far neighbours have faded out, and the derivative by the row's first component.

    Computed in float64.
    """
    for p in range(n_rows):
        s = s_p[p]
        if of_s:
            u = 1.0 - radius * s
            fade = 1.0 - u * u * u if u > 0.0 else 1.0
            slope = 3.0 * radius * u * u if u > 0.0 else 0.0
        else:
            x, y, z = r_cp[0, p], r_cp[1, p], r_cp[2, p]
            q = np.sqrt(x * x + y * y + z * z) + protection
            fade = s * q
            # d(sw)/dr by ds/dr; where both are 0 so is the force
            slope = q + s / ds_p[p] if ds_p[p] < 0.0 else 0.0
        fade_p[p] = fade
        slope_p[p] = slope * dstd


@kernel
def gate(gate_m, fade_p, fade_slope_p, g_pm, dg_pm):
    """G (1 + gate fade) and its derivative by s in place of G and dG/ds."""
    one = g_pm.dtype.type(1.0)
    for p in range(len(g_pm)):
        fade, slope = fade_p[p], fade_slope_p[p]
        for m in range(g_pm.shape[1]):
            g, opened = g_pm[p, m], one + gate_m[m] * fade
            dg_pm[p, m] = dg_pm[p, m] * opened + g * gate_m[m] * slope
            g_pm[p, m] = g * opened


@kernel
def moment(rows_kp, fade_p, piece_p, x_p, coefficients_veq, first_b, start, lanes, b_bkq):
    """`tables.moment` of phi and, in as many columns behind those, of fade phi."""
    rank, n_columns = coefficients_veq.shape[2], b_bkq.shape[2]
    width = len(lanes)
    zero = fill(b_bkq.dtype.type(0.0))
    for b in range(len(first_b) - 1):
        for v in range(0, rank, width):
            a0, a1, a2, a3 = zero, zero, zero, zero
            c0, c1, c2, c3 = zero, zero, zero, zero
            for p in range(first_b[b], first_b[b + 1]):
                at = np.int64(piece_p[p]) * 6 * rank + v
                x = fill(x_p[p])
                phi = load(coefficients_veq, at + 5 * rank)
                for k in range(4, -1, -1):
                    phi = multiply_add(phi, x, load(coefficients_veq, at + k * rank))
                faded = multiply(phi, fill(fade_p[p]))
                r0, r1 = fill(rows_kp[0, p]), fill(rows_kp[1, p])
                r2, r3 = fill(rows_kp[2, p]), fill(rows_kp[3, p])
                a0, c0 = multiply_add(phi, r0, a0), multiply_add(faded, r0, c0)
                a1, c1 = multiply_add(phi, r1, a1), multiply_add(faded, r1, c1)
                a2, c2 = multiply_add(phi, r2, a2), multiply_add(faded, r2, c2)
                a3, c3 = multiply_add(phi, r3, a3), multiply_add(faded, r3, c3)
            at = b * 4 * n_columns + start + v
            store(b_bkq, at, a0)
            store(b_bkq, at + n_columns, a1)
            store(b_bkq, at + 2 * n_columns, a2)
            store(b_bkq, at + 3 * n_columns, a3)
            at += rank
            store(b_bkq, at, c0)
            store(b_bkq, at + n_columns, c1)
            store(b_bkq, at + 2 * n_columns, c2)
            store(b_bkq, at + 3 * n_columns, c3)


@kernel
def gradients(
    rows_kp, fade_p, fade_slope_p, piece_p, x_p, coefficients_veq, slope_v, first_b, db_bkq, start,
    lanes, drows_kp,
):  # fmt: skip
    """`tables.gradients` of phi and fade phi: B_kr and, of the latter, F_kr.

    dE/dR_k = sum_r phi_r A_kr, A = dB + fade dF;  for k = 0 also  sum_r phi'_r sum_k R_k A_kr  and
    sum_r phi_r sum_k R_k dF_kr times the slope of the fade.
    """
    rank, n_columns = coefficients_veq.shape[2], db_bkq.shape[2]
    width = len(lanes)
    zero = fill(db_bkq.dtype.type(0.0))
    for b in range(len(first_b) - 1):
        of_b = b * 4 * n_columns + start
        for p in range(first_b[b], first_b[b + 1]):
            of_p = np.int64(piece_p[p]) * 6 * rank
            x, fade = fill(x_p[p]), fill(fade_p[p])
            r0, r1 = fill(rows_kp[0, p]), fill(rows_kp[1, p])
            r2, r3 = fill(rows_kp[2, p]), fill(rows_kp[3, p])
            e0, e1, e2, e3, slope, of_fade = zero, zero, zero, zero, zero, zero
            for v in range(0, rank, width):
                at = of_p + v
                phi, dphi = load(coefficients_veq, at + 5 * rank), zero
                for k in range(4, -1, -1):
                    dphi = multiply_add(dphi, x, phi)
                    phi = multiply_add(phi, x, load(coefficients_veq, at + k * rank))
                at = of_b + v
                f0, f1 = load(db_bkq, at + rank), load(db_bkq, at + rank + n_columns)
                f2 = load(db_bkq, at + rank + 2 * n_columns)
                f3 = load(db_bkq, at + rank + 3 * n_columns)
                a0 = multiply_add(fade, f0, load(db_bkq, at))
                a1 = multiply_add(fade, f1, load(db_bkq, at + n_columns))
                a2 = multiply_add(fade, f2, load(db_bkq, at + 2 * n_columns))
                a3 = multiply_add(fade, f3, load(db_bkq, at + 3 * n_columns))
                e0, e1 = multiply_add(phi, a0, e0), multiply_add(phi, a1, e1)
                e2, e3 = multiply_add(phi, a2, e2), multiply_add(phi, a3, e3)
                along = multiply_add(r0, a0, multiply(r1, a1))
                along = multiply_add(r2, a2, multiply_add(r3, a3, along))
                slope = multiply_add(dphi, along, slope)
                along = multiply_add(r0, f0, multiply(r1, f1))
                along = multiply_add(r2, f2, multiply_add(r3, f3, along))
                of_fade = multiply_add(phi, along, of_fade)
            e0 = multiply_add(slope, fill(slope_v[piece_p[p]]), e0)
            drows_kp[0, p] = total(multiply_add(of_fade, fill(fade_slope_p[p]), e0))
            drows_kp[1, p] = total(e1)
            drows_kp[2, p] = total(e2)
            drows_kp[3, p] = total(e3)
