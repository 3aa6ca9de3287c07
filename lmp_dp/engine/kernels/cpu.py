"""numba kernels of the cpu backend; one thread runs each on one chunk of centres.

All centres of a chunk are of one element. The neighbours that a chunk keeps are *rows*, without
padding, grouped by neighbour element:

    rows of centre b, neighbour element t:   first_tb[t, b] <= row < first_tb[t, b + 1]

Per row, as structures of arrays (``capacity`` columns, of which the rows are the first):
``r_cp`` displacement, ``s_p`` and ``ds_p`` switched 1/r and its derivative (float64);
``rows_kp`` normalised environment row (precision of the descriptor); ``neighbour_p`` index of
the neighbour. A slot without a neighbour is not a row: what all empty slots of a centre add to
the moment is ``missing_b`` times a constant.

Kernels release the GIL; `compiled` says how and where they are compiled.
"""

from __future__ import annotations

import numpy as np

from lmp_dp.engine.kernels.compiled import kernel
from lmp_dp.engine.kernels.simd import fill, load, multiply, multiply_add, store, total


# --------------------------------------------------------------------------- environment
@kernel
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
    candidates,  # scratch: (longest list,) int32, float32, int32
    candidate_r2,
    candidate_type,
    slot_bs,  # scratch: (n_b, sum sel) int32
    first_tb,  # out: (n_types, n_b + 1) int64
    neighbour_p,  # out: (capacity,) int32
    r_cp,  # out: (3, capacity) float64
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
            dx, dy, dz = positions_ac[j, 0] - x, positions_ac[j, 1] - y, positions_ac[j, 2] - z
            r2 = np.float32(dx * dx + dy * dy + dz * dz)
            if r2 <= rcut2:
                t = types_a[j]
                if t >= 0 and not excluded_t[t]:
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
            i = centres_n[members_b[b]]
            for slot in range(first_tb[t, b + 1]):
                j = slot_bs[b, start_t[t] + slot]
                neighbour_p[row] = j
                for c in range(3):
                    r_cp[c, row] = positions_ac[j, c] - positions_ac[i, c]
                row += 1
            first_tb[t, b + 1] = row
    return row, dropped


@kernel
def _keep_nearest(t, keep, count, found, candidates, candidate_r2, candidate_type):
    """Mark (type -1) all but the `keep` nearest candidates of element t; ties go by index."""
    order = np.empty(count, np.int64)
    n = 0
    for q in range(found):
        if candidate_type[q] == t:
            order[n] = q
            n += 1
    for k in range(1, count):  # insertion sort: rare, short
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


@kernel
def environment(r_cp, n_rows, rcut, rcut_smth, width, davg_k, dstd_k, s_p, ds_p, rows_kp):
    """s = sw(r)/r, ds/dr and the normalised rows (R - davg)/dstd, computed in float64."""
    shift = davg_k / dstd_k
    scale = 1.0 / dstd_k
    for p in range(n_rows):
        x, y, z = r_cp[0, p], r_cp[1, p], r_cp[2, p]
        inverse = 1.0 / np.sqrt(x * x + y * y + z * z)
        # sw = 1 at u = 0 and 0 at u = 1: no branches
        u = min(max((1.0 / inverse - rcut_smth) / width, 0.0), 1.0)
        sw = u * u * u * (-6.0 * u * u + 15.0 * u - 10.0) + 1.0
        dsw = -30.0 * u * u * (u - 1.0) * (u - 1.0) / width
        s = sw * inverse
        s_p[p] = s
        ds_p[p] = (dsw - s) * inverse
        s_over_r = s * inverse
        rows_kp[0, p] = s * scale[0] - shift[0]
        rows_kp[1, p] = s_over_r * x * scale[1] - shift[1]
        rows_kp[2, p] = s_over_r * y * scale[2] - shift[2]
        rows_kp[3, p] = s_over_r * z * scale[3] - shift[3]


@kernel
def pair_gradients(r_cp, n_rows, dstd_k, s_p, ds_p, drows_kp, g_cp):
    """dE/dr_c of each row (float64): the environment's backward pass."""
    scale = 1.0 / dstd_k
    for p in range(n_rows):
        x, y, z = r_cp[0, p], r_cp[1, p], r_cp[2, p]
        inverse = 1.0 / np.sqrt(x * x + y * y + z * z)
        x, y, z = x * inverse, y * inverse, z * inverse
        q1, q2, q3 = drows_kp[1, p] * scale[1], drows_kp[2, p] * scale[2], drows_kp[3, p] * scale[3]
        s_over_r, ds = s_p[p] * inverse, ds_p[p]
        along = drows_kp[0, p] * scale[0] * ds + (ds - s_over_r) * (q1 * x + q2 * y + q3 * z)
        g_cp[0, p] = along * x + s_over_r * q1
        g_cp[1, p] = along * y + s_over_r * q2
        g_cp[2, p] = along * z + s_over_r * q3


@kernel
def virial_of_rows(r_cp, g_cp, n_rows, virial_cc):
    """W_ab = -sum_p g_a r_b."""
    for a in range(3):
        for b in range(3):
            w = 0.0
            for p in range(n_rows):
                w += g_cp[a, p] * r_cp[b, p]
            virial_cc[a, b] = -w


@kernel
def scatter(r_cp, g_cp, neighbour_p, first_tb, centres_n, members_b, forces_ac, atom_virials_acc):
    """Add a chunk's forces and (if the array is not empty) per-atom virials."""
    n_types, n_b = first_tb.shape[0], first_tb.shape[1] - 1
    per_atom = len(atom_virials_acc) > 0
    for t in range(n_types):
        for b in range(n_b):
            i = centres_n[members_b[b]]
            fx = fy = fz = 0.0
            for p in range(first_tb[t, b], first_tb[t, b + 1]):
                j = neighbour_p[p]
                fx += g_cp[0, p]
                fy += g_cp[1, p]
                fz += g_cp[2, p]
                forces_ac[j, 0] -= g_cp[0, p]
                forces_ac[j, 1] -= g_cp[1, p]
                forces_ac[j, 2] -= g_cp[2, p]
                if per_atom:
                    for c in range(3):
                        for d in range(3):
                            atom_virials_acc[j, c, d] -= g_cp[c, p] * r_cp[d, p]
            forces_ac[i, 0] += fx
            forces_ac[i, 1] += fy
            forces_ac[i, 2] += fz


# --------------------------------------------------------------------------- tables
@kernel
def locate(s_p, first, last, lower, inner, cell_width, pieces_q, first_q, piece_p, x_p):
    """Piece and local coordinate of rows first..last (see `lmp_dp.engine.table.locate`).

    Returns how many rows lie beyond the table's fine part (atoms closer than it was made for).
    """
    n_cells, n_pieces = len(pieces_q), first_q[-1]
    beyond = 0
    for p in range(first, last):
        s = np.float64(s_p[p])
        at = (s - lower) / cell_width
        cell = min(max(np.int64(np.floor(at)), 0), n_cells - 1)
        within = (at - cell) * pieces_q[cell]
        local = min(max(np.int64(np.floor(within)), 0), np.int64(pieces_q[cell]) - 1)
        piece, x = first_q[cell] + local, within - local
        if at >= n_cells:
            piece, x = n_pieces, at - n_cells
        elif at < 0.0:
            piece, x = n_pieces + 1, at
        piece_p[p] = piece
        x_p[p] = x
        beyond += s > inner
    return beyond


@kernel
def _polynomial(coefficients_pkr, at, rank, x):
    """phi on one vector of basis functions; `at` is the flat index of x^0."""
    phi = load(coefficients_pkr, at + 5 * rank)
    for k in range(4, -1, -1):
        phi = multiply_add(phi, x, load(coefficients_pkr, at + k * rank))
    return phi


@kernel
def table_moment(
    rows_kp, piece_p, x_p, coefficients_pkr, first_b, missing_b, padding_kr, start, lanes, b_bkq
):
    """B_kr = sum_rows R_k phi_r + missing padding_kr, to columns start.. of `b_bkq`.

    `lanes` is a tuple of one vector's length. Two vectors of accumulators stay in registers
    over all rows of a centre.
    """
    rank, n_columns = coefficients_pkr.shape[2], b_bkq.shape[2]
    width = len(lanes)
    zero = fill(b_bkq.dtype.type(0.0))
    for b in range(len(first_b) - 1):
        missing = fill(missing_b[b])
        for v in range(0, rank, 2 * width):
            a0, a1, a2, a3 = zero, zero, zero, zero
            c0, c1, c2, c3 = zero, zero, zero, zero
            two = v + width < rank
            if two:
                for p in range(first_b[b], first_b[b + 1]):
                    at = np.int64(piece_p[p]) * 6 * rank + v
                    x = fill(x_p[p])
                    one_phi = _polynomial(coefficients_pkr, at, rank, x)
                    two_phi = _polynomial(coefficients_pkr, at + width, rank, x)
                    r0, r1 = fill(rows_kp[0, p]), fill(rows_kp[1, p])
                    r2, r3 = fill(rows_kp[2, p]), fill(rows_kp[3, p])
                    a0, c0 = multiply_add(one_phi, r0, a0), multiply_add(two_phi, r0, c0)
                    a1, c1 = multiply_add(one_phi, r1, a1), multiply_add(two_phi, r1, c1)
                    a2, c2 = multiply_add(one_phi, r2, a2), multiply_add(two_phi, r2, c2)
                    a3, c3 = multiply_add(one_phi, r3, a3), multiply_add(two_phi, r3, c3)
            else:
                for p in range(first_b[b], first_b[b + 1]):
                    at = np.int64(piece_p[p]) * 6 * rank + v
                    phi = _polynomial(coefficients_pkr, at, rank, fill(x_p[p]))
                    a0 = multiply_add(phi, fill(rows_kp[0, p]), a0)
                    a1 = multiply_add(phi, fill(rows_kp[1, p]), a1)
                    a2 = multiply_add(phi, fill(rows_kp[2, p]), a2)
                    a3 = multiply_add(phi, fill(rows_kp[3, p]), a3)
            # padding last: it is the largest term, rounding in float32 is best this way
            at = b * 4 * n_columns + start + v
            store(b_bkq, at, multiply_add(missing, load(padding_kr, v), a0))
            store(b_bkq, at + n_columns, multiply_add(missing, load(padding_kr, rank + v), a1))
            store(
                b_bkq, at + 2 * n_columns, multiply_add(missing, load(padding_kr, 2 * rank + v), a2)
            )
            store(
                b_bkq, at + 3 * n_columns, multiply_add(missing, load(padding_kr, 3 * rank + v), a3)
            )
            if two:
                at, w = at + width, v + width
                store(b_bkq, at, multiply_add(missing, load(padding_kr, w), c0))
                store(b_bkq, at + n_columns, multiply_add(missing, load(padding_kr, rank + w), c1))
                store(
                    b_bkq,
                    at + 2 * n_columns,
                    multiply_add(missing, load(padding_kr, 2 * rank + w), c2),
                )
                store(
                    b_bkq,
                    at + 3 * n_columns,
                    multiply_add(missing, load(padding_kr, 3 * rank + w), c3),
                )


@kernel
def table_gradients(
    rows_kp, piece_p, x_p, coefficients_pkr, slope_p, first_b, db_bkq, start, lanes, drows_kp
):
    """dE/dR_k of the rows of one neighbour element; phi and phi' in one Horner pass.

    dE/dR_k = sum_r phi_r dB_kr,  and for k = 0 also  sum_r phi'_r sum_k R_k dB_kr.
    """
    rank, n_columns = coefficients_pkr.shape[2], db_bkq.shape[2]
    width = len(lanes)
    zero = fill(db_bkq.dtype.type(0.0))
    for b in range(len(first_b) - 1):
        of_b = b * 4 * n_columns + start
        for p in range(first_b[b], first_b[b + 1]):
            of_p = np.int64(piece_p[p]) * 6 * rank
            x = fill(x_p[p])
            r0, r1 = fill(rows_kp[0, p]), fill(rows_kp[1, p])
            r2, r3 = fill(rows_kp[2, p]), fill(rows_kp[3, p])
            e0, e1, e2, e3, slope = zero, zero, zero, zero, zero
            for v in range(0, rank, width):
                at = of_p + v
                phi, dphi = load(coefficients_pkr, at + 5 * rank), zero
                for k in range(4, -1, -1):
                    dphi = multiply_add(dphi, x, phi)
                    phi = multiply_add(phi, x, load(coefficients_pkr, at + k * rank))
                b0, b1 = load(db_bkq, of_b + v), load(db_bkq, of_b + n_columns + v)
                b2 = load(db_bkq, of_b + 2 * n_columns + v)
                b3 = load(db_bkq, of_b + 3 * n_columns + v)
                e0, e1 = multiply_add(phi, b0, e0), multiply_add(phi, b1, e1)
                e2, e3 = multiply_add(phi, b2, e2), multiply_add(phi, b3, e3)
                along = multiply_add(r0, b0, multiply(r1, b1))
                along = multiply_add(r2, b2, multiply_add(r3, b3, along))
                slope = multiply_add(dphi, along, slope)
            drows_kp[0, p] = total(multiply_add(slope, fill(slope_p[piece_p[p]]), e0))
            drows_kp[1, p] = total(e1)
            drows_kp[2, p] = total(e2)
            drows_kp[3, p] = total(e3)


# --------------------------------------------------------------------------- embedding nets
@kernel
def first_layer(s_p, weight_o, bias_o, z_po):
    """z = s w + b for the one input of an embedding net."""
    for p in range(len(s_p)):
        s = s_p[p]
        for o in range(len(weight_o)):
            z_po[p, o] = s * weight_o[o] + bias_o[o]


@kernel
def join_first(a_po, slope_po, weight_o, idt_o, joins, s_p, y_po, dy_po):
    """Output and tangent of a first layer: y = [s +] idt a, dy = [1 +] idt a' w."""
    n, width = a_po.shape
    one = idt_o.dtype.type(1.0)
    for p in range(n):
        s = s_p[p]
        for o in range(width):
            y_po[p, o] = idt_o[o] * a_po[p, o]
            dy_po[p, o] = idt_o[o] * slope_po[p, o] * weight_o[o]
        if joins != 0:  # widths 1 -> 1 and 1 -> 2 join the single input
            for o in range(width):
                y_po[p, o] += s
                dy_po[p, o] += one


@kernel
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


@kernel
def tanh_slope(a_po, slope_po):
    """Derivative of tanh from its value."""
    one = a_po.dtype.type(1.0)
    for p in range(a_po.shape[0]):
        for o in range(a_po.shape[1]):
            slope_po[p, o] = one - a_po[p, o] * a_po[p, o]


@kernel
def network_moment(rows_kp, g_pm, first_b, missing_b, padding_km, b_bkm):
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
def network_gradients(rows_kp, g_pm, dg_pm, first_b, db_bkm, drows_kp):
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


# --------------------------------------------------------------------------- features, fitting
@kernel
def features(c_bkr, rank, n_axis, lanes, f_bf):
    """S_ab = sum_k C_ka C_kb for b < n_axis, b <= a < rank (see `lmp_dp.engine.reduction`).

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
                store(f_bf, at + v, s)
            at += rank - axis


@kernel
def features_backward(c_bkr, df_bf, rank, n_axis, lanes, dc_bkr):
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
                g = load(df_bf, at + v)
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
                h = df_bf[b, at - b * df_bf.shape[1] + a - axis]
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
