"""Element-wise parts of embedding and fitting nets (BLAS does the products)."""

from __future__ import annotations

from lmp_dp.engine.kernels.compiled import kernel


@kernel
def first_layer(s_p, weight_o, bias_o, z_po):
    """z = s w + b for the one input of an embedding net."""
    for p in range(len(s_p)):
        s = s_p[p]
        for o in range(len(weight_o)):
            z_po[p, o] = s * weight_o[o] + bias_o[o]


@kernel
def join_first(a_po, slope_po, is_tanh, weight_o, idt_o, joins, s_p, y_po, dy_po):
    """Output and tangent of a first layer: y = [s +] idt a, dy = [1 +] idt a' w.

    With `is_tanh` the slope is 1 - a^2 and `slope_po` is not read.
    """
    n, width = a_po.shape
    one = idt_o.dtype.type(1.0)
    for p in range(n):
        s = s_p[p]
        for o in range(width):
            a = a_po[p, o]
            slope = one - a * a if is_tanh else slope_po[p, o]
            y_po[p, o] = idt_o[o] * a
            dy_po[p, o] = idt_o[o] * slope * weight_o[o]
        if joins != 0:  # widths 1 -> 1 and 1 -> 2 join the single input
            for o in range(width):
                y_po[p, o] += s
                dy_po[p, o] += one


@kernel
def join(a_po, slope_po, is_tanh, dz_po, idt_o, joins, x_pi, dx_pi, y_po, dy_po):
    """Output and tangent of a layer, dz = dx W. joins: 0 no, 1 add, 2 double.

    With `is_tanh` the slope is 1 - a^2 and `slope_po` is not read.
    """
    n, width = a_po.shape
    n_in = x_pi.shape[1]
    one = idt_o.dtype.type(1.0)
    for p in range(n):
        for o in range(width):
            a = a_po[p, o]
            slope = one - a * a if is_tanh else slope_po[p, o]
            y_po[p, o] = idt_o[o] * a
            dy_po[p, o] = idt_o[o] * slope * dz_po[p, o]
        for part in range(joins):
            for i in range(n_in):
                y_po[p, part * n_in + i] += x_pi[p, i]
                dy_po[p, part * n_in + i] += dx_pi[p, i]


@kernel
def tanh_slope(a_po, slope_po):
    """Derivative of tanh from its value."""
    one = a_po.dtype.type(1.0)
    for p in range(a_po.shape[0]):
        for o in range(a_po.shape[1]):
            slope_po[p, o] = one - a_po[p, o] * a_po[p, o]


@kernel
def moment(rows_kp, g_pm, first_b, missing_b, padding_km, b_bkm):
    """B_km += sum_rows R_k G_m + missing padding_km for one neighbour element.

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
        pad = missing_b[b]  # the largest term last: better rounding in float32
        for m in range(channels):
            t0[m] += pad * padding_km[0, m]
            t1[m] += pad * padding_km[1, m]
            t2[m] += pad * padding_km[2, m]
            t3[m] += pad * padding_km[3, m]


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
def fitting_join(a_bo, slope_bo, idt_o, has_idt, x_bo, joins):
    """Layer output in place of act(z): a <- [x +] idt a; slope <- idt act'."""
    n, width = a_bo.shape
    for b in range(n):
        if has_idt:
            for o in range(width):
                a_bo[b, o] *= idt_o[o]
                slope_bo[b, o] *= idt_o[o]
        if joins:
            for o in range(width):
                a_bo[b, o] += x_bo[b, o]
