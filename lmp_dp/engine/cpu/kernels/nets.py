"""Moments and gradients with embedding nets; layers of the fitting net after BLAS's product."""

from __future__ import annotations

from lmp_dp.engine.cpu.kernels.compiled import kernel
from lmp_dp.engine.cpu.kernels.exponential import tanh
from lmp_dp.engine.cpu.kernels.simd import add, fill, load, multiply, multiply_add, store


@kernel
def moment(rows_kp, g_pm, first_b, b_bkm):
    """B_km += sum_rows R_k G_m for one neighbour element.

    Four rows are taken at a time: one load of B serves 16 multiply-adds.
    """
    channels = g_pm.shape[1]
    g_first = first_b[0]
    for b in range(len(first_b) - 1):
        t0, t1, t2, t3 = b_bkm[b, 0], b_bkm[b, 1], b_bkm[b, 2], b_bkm[b, 3]
        p, last = first_b[b], first_b[b + 1]
        while p + 3 < last:
            q = p - g_first
            a0, a1, a2, a3 = rows_kp[0, p], rows_kp[1, p], rows_kp[2, p], rows_kp[3, p]
            p += 1
            b0, b1, b2, b3 = rows_kp[0, p], rows_kp[1, p], rows_kp[2, p], rows_kp[3, p]
            p += 1
            c0, c1, c2, c3 = rows_kp[0, p], rows_kp[1, p], rows_kp[2, p], rows_kp[3, p]
            p += 1
            d0, d1, d2, d3 = rows_kp[0, p], rows_kp[1, p], rows_kp[2, p], rows_kp[3, p]
            p += 1
            for m in range(channels):
                ga, gb, gc, gd = g_pm[q, m], g_pm[q + 1, m], g_pm[q + 2, m], g_pm[q + 3, m]
                t0[m] += a0 * ga + b0 * gb + c0 * gc + d0 * gd
                t1[m] += a1 * ga + b1 * gb + c1 * gc + d1 * gd
                t2[m] += a2 * ga + b2 * gb + c2 * gc + d2 * gd
                t3[m] += a3 * ga + b3 * gb + c3 * gc + d3 * gd
        while p < last:
            a0, a1, a2, a3 = rows_kp[0, p], rows_kp[1, p], rows_kp[2, p], rows_kp[3, p]
            for m in range(channels):
                ga = g_pm[p - g_first, m]
                t0[m] += a0 * ga
                t1[m] += a1 * ga
                t2[m] += a2 * ga
                t3[m] += a3 * ga
            p += 1


@kernel
def gradients(rows_kp, g_pm, dg_pm, first_b, db_bkm, drows_kp):
    """dE/dR_k of the rows of one neighbour element from G and dG/ds."""
    channels = g_pm.shape[1]
    zero = g_pm.dtype.type(0.0)
    g_first = first_b[0]
    for b in range(len(first_b) - 1):
        t0, t1, t2, t3 = db_bkm[b, 0], db_bkm[b, 1], db_bkm[b, 2], db_bkm[b, 3]
        for p in range(first_b[b], first_b[b + 1]):
            g, dg = g_pm[p - g_first], dg_pm[p - g_first]
            r0, r1, r2, r3 = rows_kp[0, p], rows_kp[1, p], rows_kp[2, p], rows_kp[3, p]
            e0 = e1 = e2 = e3 = zero
            for m in range(channels):
                e0 += g[m] * t0[m] + dg[m] * (r0 * t0[m] + r1 * t1[m] + r2 * t2[m] + r3 * t3[m])
                e1 += g[m] * t1[m]
                e2 += g[m] * t2[m]
                e3 += g[m] * t3[m]
            drows_kp[0, p] = e0
            drows_kp[1, p] = e1
            drows_kp[2, p] = e2
            drows_kp[3, p] = e3


@kernel
def tanh_layer(z_bo, bias_o, idt_o, x_bo, joins, lanes, slope_bo):
    """A fitting layer after its product, in place of z: idt tanh(z + bias) [+ x], and its slope.

    Widths are whole vectors.
    """
    width, vector = z_bo.shape[1], len(lanes)
    one = fill(z_bo.dtype.type(1.0))
    minus = fill(z_bo.dtype.type(-1.0))
    for b in range(len(z_bo)):
        for o in range(0, width, vector):
            at = b * width + o
            scale = load(idt_o, o)
            a = tanh(add(load(z_bo, at), load(bias_o, o)))
            slope = multiply_add(multiply(a, minus), a, one)
            store(slope_bo, at, multiply(slope, scale))
            y = multiply(a, scale)
            store(z_bo, at, add(y, load(x_bo, at)) if joins else y)
