"""numba kernels of the cpu backend; one thread runs each on one chunk of centres.

All centres of a chunk are of one element. The neighbours that a chunk keeps are *rows*, without
padding, grouped by neighbour element so that each embedding net sees one contiguous block:

    rows of centre b, neighbour element t:   first_tb[t, b] <= row < first_tb[t, b + 1]

Per row (dtype of the descriptor unless noted): ``rows_pk`` normalised environment row,
``r_pc`` displacement (float64), ``neighbour_p`` index of the neighbour. The arrays G_pm and
dG_pm (embedding and its derivative by the row's first component) meet the rows in
`moment` and `pair_gradients`; a slot without a neighbour is not a row, its constant
contribution is added in `moment`.

Kernels release the GIL, are compiled on first use and cached on disk by numba.
"""

from __future__ import annotations

import numba
import numpy as np

# Sums may be reordered (they are vectorised), NaN and infinity keep their meaning.
_FAST = {"reassoc", "contract", "nsz", "arcp"}
_jit = numba.njit(nogil=True, cache=True, fastmath=_FAST, error_model="numpy")


@_jit
def gather_rows(
    positions_ac,  # (n_all, 3) float64
    types_a,  # (n_all,) int32
    centres_n,  # (n_centres,) int32: atom of each CSR row
    members_b,  # (n_b,) int64: CSR rows of this chunk
    offsets_n,  # (n_centres + 1,) int64
    neighbours_p,  # (n_pairs,) int32
    sel_t,  # (n_types,) int64
    excluded_t,  # (n_types,) bool, for the chunk's element
    rcut,  # float64
    candidates,  # scratch: (longest list,) int32 x 2 and float32
    candidate_r2,
    candidate_type,
    slot_bs,  # scratch: (n_b, sum sel) int32
    first_tb,  # out: (n_types, n_b + 1) int64
    neighbour_p,  # out: (rows,) int32
    r_pc,  # out: (rows, 3) float64
):
    """Choose each centre's neighbours (DeePMD-kit's rule for `sel`) and lay the rows out.

    Returns the number of rows and the number of neighbours dropped because `sel` is too small.
    """
    n_types = len(sel_t)
    n_b = len(members_b)
    rcut2 = np.float32(rcut) * np.float32(rcut)
    start_t = np.zeros(n_types, np.int64)
    for t in range(1, n_types):
        start_t[t] = start_t[t - 1] + sel_t[t - 1]
    count_t = np.empty(n_types, np.int64)
    dropped = 0
    for b in range(n_b):
        n = members_b[b]
        i = centres_n[n]
        x, y, z = positions_ac[i, 0], positions_ac[i, 1], positions_ac[i, 2]
        found = 0
        count_t[:] = 0
        for p in range(offsets_n[n], offsets_n[n + 1]):
            j = neighbours_p[p]
            t = types_a[j]
            dx, dy, dz = positions_ac[j, 0] - x, positions_ac[j, 1] - y, positions_ac[j, 2] - z
            r2 = np.float32(dx * dx + dy * dy + dz * dz)
            if r2 <= rcut2 and t >= 0 and not excluded_t[t]:
                candidates[found] = j
                candidate_r2[found] = r2
                candidate_type[found] = t
                found += 1
                count_t[t] += 1
        for t in range(n_types):
            if count_t[t] > sel_t[t]:
                dropped += count_t[t] - sel_t[t]
                _keep_nearest(
                    t, sel_t[t], count_t[t], found, candidates, candidate_r2, candidate_type
                )
        count_t[:] = 0
        for q in range(found):
            t = candidate_type[q]
            if t >= 0:
                slot_bs[b, start_t[t] + count_t[t]] = candidates[q]
                count_t[t] += 1
        for t in range(n_types):
            first_tb[t, b + 1] = count_t[t]
    row = 0
    for t in range(n_types):
        first_tb[t, 0] = row
        for b in range(n_b):
            count = first_tb[t, b + 1]
            i = centres_n[members_b[b]]
            for slot in range(count):
                j = slot_bs[b, start_t[t] + slot]
                neighbour_p[row] = j
                for c in range(3):
                    r_pc[row, c] = positions_ac[j, c] - positions_ac[i, c]
                row += 1
            first_tb[t, b + 1] = row
    return row, dropped


@_jit
def _keep_nearest(t, keep, count, found, candidates, candidate_r2, candidate_type):
    """Mark (type -1) all but the `keep` nearest candidates of element t; ties go by index."""
    order = np.empty(count, np.int64)
    n = 0
    for q in range(found):
        if candidate_type[q] == t:
            order[n] = q
            n += 1
    for k in range(1, count):  # insertion sort: rare, short, stable
        q = order[k]
        m = k - 1
        while m >= 0 and (
            candidate_r2[order[m]] > candidate_r2[q]
            or (candidate_r2[order[m]] == candidate_r2[q] and candidates[order[m]] > candidates[q])
        ):
            order[m + 1] = order[m]
            m -= 1
        order[m + 1] = q
    for k in range(keep, count):
        candidate_type[order[k]] = -1


@_jit
def _switch(r, rcut, rcut_smth, width):
    """s = sw(r)/r and ds/dr."""
    if r >= rcut:
        return 0.0, 0.0
    sw, dsw = 1.0, 0.0
    if r >= rcut_smth:
        u = (r - rcut_smth) / width
        sw = u * u * u * (-6.0 * u * u + 15.0 * u - 10.0) + 1.0
        dsw = -30.0 * u * u * (u - 1.0) * (u - 1.0) / width
    return sw / r, (dsw - sw / r) / r


@_jit
def environment(r_pc, n_rows, rcut, rcut_smth, width, davg_k, dstd_k, rows_pk):
    """Normalised environment rows (R - davg)/dstd, computed in float64."""
    for p in range(n_rows):
        x, y, z = r_pc[p, 0], r_pc[p, 1], r_pc[p, 2]
        r = np.sqrt(x * x + y * y + z * z)
        s, _ = _switch(r, rcut, rcut_smth, width)
        rows_pk[p, 0] = (s - davg_k[0]) / dstd_k[0]
        s /= r
        rows_pk[p, 1] = (s * x - davg_k[1]) / dstd_k[1]
        rows_pk[p, 2] = (s * y - davg_k[2]) / dstd_k[2]
        rows_pk[p, 3] = (s * z - davg_k[3]) / dstd_k[3]


@_jit
def first_layer(rows_pk, first, last, weight_o, bias_o, z_po):
    """z = s w + b for the one input of an embedding net."""
    for p in range(last - first):
        s = rows_pk[first + p, 0]
        for o in range(len(weight_o)):
            z_po[p, o] = s * weight_o[o] + bias_o[o]


@_jit
def join_first(a_po, slope_po, weight_o, idt_o, joins, rows_pk, first, y_po, dy_po):
    """Output and tangent of a first layer: y = [s +] idt a, dy = [1 +] idt a' w."""
    n, width = a_po.shape
    one = idt_o.dtype.type(1.0)
    for p in range(n):
        s = rows_pk[first + p, 0]
        for o in range(width):
            y_po[p, o] = idt_o[o] * a_po[p, o]
            dy_po[p, o] = idt_o[o] * slope_po[p, o] * weight_o[o]
        if joins != 0:  # widths 1 -> 1 and 1 -> 2 join the single input
            for o in range(width):
                y_po[p, o] += s
                dy_po[p, o] += one


@_jit
def join(a_po, slope_po, idt_o, joins, x_pi, dx_pi, y_po, dy_po):
    """Output and tangent of a layer; `dy_po` holds dx W on entry. joins: 0 no, 1 add, 2 double."""
    n, width = a_po.shape
    n_in = x_pi.shape[1]
    for p in range(n):
        for o in range(width):
            y_po[p, o] = idt_o[o] * a_po[p, o]
            dy_po[p, o] *= idt_o[o] * slope_po[p, o]
        for part in range(joins):
            for i in range(n_in):
                y_po[p, part * n_in + i] += x_pi[p, i]
                dy_po[p, part * n_in + i] += dx_pi[p, i]


@_jit
def tanh_slope(a_po, slope_po):
    """Derivative of tanh from its value."""
    one = a_po.dtype.type(1.0)
    for p in range(a_po.shape[0]):
        for o in range(a_po.shape[1]):
            slope_po[p, o] = one - a_po[p, o] * a_po[p, o]


@_jit
def moment(rows_pk, g_pm, first_b, g_first, n_b, missing_b, padding_km, moment_bkm):
    """N T_km += sum_rows R_k G_m, plus `missing` padded slots, for one neighbour element.

    `g_pm` starts at row `g_first`. Four rows are taken at a time: one load of T serves 16 FMA.
    """
    channels = g_pm.shape[1]
    for b in range(n_b):
        t0, t1, t2, t3 = moment_bkm[b, 0], moment_bkm[b, 1], moment_bkm[b, 2], moment_bkm[b, 3]
        p, last = first_b[b], first_b[b + 1]
        while p + 3 < last:
            q = p - g_first
            a0, a1, a2, a3 = _row(rows_pk, p)
            b0, b1, b2, b3 = _row(rows_pk, p + 1)
            c0, c1, c2, c3 = _row(rows_pk, p + 2)
            d0, d1, d2, d3 = _row(rows_pk, p + 3)
            for m in range(channels):
                ga, gb, gc, gd = g_pm[q, m], g_pm[q + 1, m], g_pm[q + 2, m], g_pm[q + 3, m]
                t0[m] += a0 * ga + b0 * gb + c0 * gc + d0 * gd
                t1[m] += a1 * ga + b1 * gb + c1 * gc + d1 * gd
                t2[m] += a2 * ga + b2 * gb + c2 * gc + d2 * gd
                t3[m] += a3 * ga + b3 * gb + c3 * gc + d3 * gd
            p += 4
        while p < last:
            a0, a1, a2, a3 = _row(rows_pk, p)
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


@_jit
def _row(rows_pk, p):
    return rows_pk[p, 0], rows_pk[p, 1], rows_pk[p, 2], rows_pk[p, 3]


@_jit
def descriptor(moment_bkm, axis, d_bd):
    """D_mx = sum_k T_km T_kx, written in the fitting net's precision."""
    n_b, _, channels = moment_bkm.shape
    for b in range(n_b):
        t = moment_bkm[b]
        for m in range(channels):
            t0, t1, t2, t3 = t[0, m], t[1, m], t[2, m], t[3, m]
            for x in range(axis):
                d_bd[b, m * axis + x] = t0 * t[0, x] + t1 * t[1, x] + t2 * t[2, x] + t3 * t[3, x]


@_jit
def descriptor_backward(moment_bkm, dd_bd, axis, n_norm, dd_mx, dmoment_bkm):
    """(1/N) dE/dT from dE/dD; `dd_mx` is scratch in the descriptor's precision."""
    n_b, _, channels = moment_bkm.shape
    for b in range(n_b):
        for m in range(channels):
            for x in range(axis):
                dd_mx[m, x] = dd_bd[b, m * axis + x] / n_norm
        for k in range(4):
            t, dt = moment_bkm[b, k], dmoment_bkm[b, k]
            for m in range(channels):
                total = dd_mx.dtype.type(0.0)
                for x in range(axis):
                    total += dd_mx[m, x] * t[x]
                dt[m] = total
            for m in range(channels):
                tm = t[m]
                for x in range(axis):
                    dt[x] += dd_mx[m, x] * tm


@_jit
def row_gradients(rows_pk, g_pm, dg_pm, first_b, g_first, n_b, dmoment_bkm, drows_pk):
    """dE/dR_k of each row of one neighbour element: 4 products with G, one with G'."""
    channels = g_pm.shape[1]
    zero = g_pm.dtype.type(0.0)
    for b in range(n_b):
        t0, t1, t2, t3 = dmoment_bkm[b, 0], dmoment_bkm[b, 1], dmoment_bkm[b, 2], dmoment_bkm[b, 3]
        for p in range(first_b[b], first_b[b + 1]):
            g, dg = g_pm[p - g_first], dg_pm[p - g_first]
            r0, r1, r2, r3 = rows_pk[p, 0], rows_pk[p, 1], rows_pk[p, 2], rows_pk[p, 3]
            e0 = e1 = e2 = e3 = zero
            for m in range(channels):
                e0 += g[m] * t0[m] + dg[m] * (r0 * t0[m] + r1 * t1[m] + r2 * t2[m] + r3 * t3[m])
                e1 += g[m] * t1[m]
                e2 += g[m] * t2[m]
                e3 += g[m] * t3[m]
            drows_pk[p, 0] = e0
            drows_pk[p, 1] = e1
            drows_pk[p, 2] = e2
            drows_pk[p, 3] = e3


@_jit
def pair_gradients(r_pc, n_rows, rcut, rcut_smth, width, dstd_k, drows_pk, g_pc):
    """dE/dr_c of each row (float64): the environment's backward pass."""
    for p in range(n_rows):
        x, y, z = r_pc[p, 0], r_pc[p, 1], r_pc[p, 2]
        r = np.sqrt(x * x + y * y + z * z)
        s, ds = _switch(r, rcut, rcut_smth, width)
        inverse = 1.0 / r
        x, y, z = x * inverse, y * inverse, z * inverse
        q0 = drows_pk[p, 0] / dstd_k[0]
        q1 = drows_pk[p, 1] / dstd_k[1]
        q2 = drows_pk[p, 2] / dstd_k[2]
        q3 = drows_pk[p, 3] / dstd_k[3]
        s_over_r = s * inverse
        along = q0 * ds + (ds - s_over_r) * (q1 * x + q2 * y + q3 * z)
        g_pc[p, 0] = along * x + s_over_r * q1
        g_pc[p, 1] = along * y + s_over_r * q2
        g_pc[p, 2] = along * z + s_over_r * q3


@_jit
def scatter(
    r_pc, g_pc, neighbour_p, first_tb, centres_n, members_b, forces_ac, virial_cc, atom_virials_acc
):
    """Add a chunk's forces, virial and (if the array is not empty) per-atom virials."""
    n_types, n_b = first_tb.shape[0], first_tb.shape[1] - 1
    per_atom = len(atom_virials_acc) > 0
    for t in range(n_types):
        for b in range(n_b):
            i = centres_n[members_b[b]]
            for p in range(first_tb[t, b], first_tb[t, b + 1]):
                j = neighbour_p[p]
                for c in range(3):
                    forces_ac[i, c] += g_pc[p, c]
                    forces_ac[j, c] -= g_pc[p, c]
                    for d in range(3):
                        w = g_pc[p, c] * r_pc[p, d]
                        virial_cc[c, d] -= w
                        if per_atom:
                            atom_virials_acc[j, c, d] -= w
