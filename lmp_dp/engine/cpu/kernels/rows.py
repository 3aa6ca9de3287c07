"""Neighbours of a chunk as rows: selection, environment, and back to forces and virial."""

from __future__ import annotations

import numpy as np

from lmp_dp.engine.cpu.kernels.compiled import kernel
from lmp_dp.engine.selection import Fate

#: What becomes of a neighbour (numba takes them for constants).
_ROW, _ABSENT, _EMPTY = int(Fate.ROW), int(Fate.ABSENT), int(Fate.EMPTY)
#: All elements, where one is asked for.
_ALL = -1


@kernel
def gather(
    positions_ac,  # (n_all, 3) float64
    types_a,  # (n_all,) int32
    centres_n,  # (n_centres,) int32: atom of each CSR row
    members_b,  # (n_b,) int64: CSR rows of this chunk
    offsets_n,  # (n_centres + 1,) int64
    neighbours_p,  # (n_pairs,) int32
    sel_t,  # (n_types,) int64, or (1,) for all elements together
    fate_t,  # (n_types,) int64, for the chunk's element
    n_nearest,  # int64: 0, or as many are chosen first, the nearest of all elements
    rcut,  # float64
    candidates,  # scratch: (longest list,) int32, float32 or float64, int32
    candidate_r2,  # in its precision distances are compared
    candidate_type,
    slot_bs,  # scratch: (n_b, n_slots) int32, or as many columns as the longest list
    first_tb,  # out: (n_types, n_b + 1) int64
    empty_tb,  # out: (n_types, n_b) int64: empty slots, or (1, n_b) of all elements together
    neighbour_p,  # out: (capacity,) int32
    r_cp,  # out: (3, capacity) float64
):
    """Choose each centre's neighbours (DeePMD-kit's rule for `sel`) and lay the rows out.

    Returns the number of rows and the number of neighbours dropped because `sel` is too small (or
    zero; only those that would be rows count).
    """
    n_types = len(fate_t)
    real = candidate_r2.dtype.type
    rcut2 = real(rcut) * real(rcut)
    count_t = np.empty(n_types, np.int64)
    dropped = 0
    for b in range(len(members_b)):
        n = members_b[b]
        i = centres_n[n]
        x, y, z = positions_ac[i, 0], positions_ac[i, 1], positions_ac[i, 2]
        found = 0
        count_t[:] = 0
        for p in range(offsets_n[n], offsets_n[n + 1]):
            j = neighbours_p[p]
            dx, dy, dz = positions_ac[j, 0] - x, positions_ac[j, 1] - y, positions_ac[j, 2] - z
            r2 = real(dx * dx + dy * dy + dz * dz)
            if r2 <= rcut2:
                t = types_a[j]
                if t >= 0 and fate_t[t] != _ABSENT:
                    candidates[found] = j
                    candidate_r2[found] = r2
                    candidate_type[found] = t
                    found += 1
                    count_t[t] += 1
        if 0 < n_nearest < found:
            found_all = (found, candidates, candidate_r2, candidate_type)
            dropped += _keep_nearest(_ALL, n_nearest, found, *found_all, fate_t)
            count_t[:] = 0
            for q in range(found):
                if candidate_type[q] >= 0:
                    count_t[candidate_type[q]] += 1
        if len(sel_t) == n_types:
            for t in range(n_types):
                if count_t[t] > sel_t[t]:
                    found_all = (found, candidates, candidate_r2, candidate_type)
                    dropped += _keep_nearest(t, sel_t[t], count_t[t], *found_all, fate_t)
                    count_t[t] = sel_t[t]
        _fill_slots(
            b, found, candidates, candidate_type, sel_t, fate_t, count_t, slot_bs, first_tb,
            empty_tb,
        )  # fmt: skip
    return _lay_out(
        positions_ac, centres_n, members_b, slot_bs, first_tb, neighbour_p, r_cp
    ), dropped


@kernel
def _keep_nearest(t, keep, count, found, candidates, candidate_r2, candidate_type, fate_t):
    """Mark (type -1) all but the `keep` nearest candidates of element t; ties go by index.

    Returns how many of the others would be rows.
    """
    order = np.empty(count, np.int64)
    n = 0
    for q in range(found):
        if t == _ALL or candidate_type[q] == t:
            order[n] = q
            n += 1
    if keep > 0:  # else there is nothing to sort
        for k in range(1, count):  # insertion sort: rare, short
            q = order[k]
            m = k - 1
            while m >= 0 and (
                candidate_r2[order[m]] > candidate_r2[q]
                or (
                    candidate_r2[order[m]] == candidate_r2[q]
                    and candidates[order[m]] > candidates[q]
                )
            ):
                order[m + 1] = order[m]
                m -= 1
            order[m + 1] = q
    rows = 0
    for k in range(keep, count):
        rows += fate_t[candidate_type[order[k]]] == _ROW
        candidate_type[order[k]] = -1
    return rows


@kernel
def _fill_slots(
    b, found, candidates, candidate_type, sel_t, fate_t, count_t, slot_bs, first_tb, empty_tb
):
    """Rows of centre b, by element, and how many slots are empty.

    `count_t` holds how many slots each element takes, and is written over; `first_tb` holds the
    number of rows, until they are laid out.
    """
    n_types, n_blocks = len(fate_t), len(sel_t)
    for u in range(n_blocks):
        empty_tb[u, b] = sel_t[u]
    slot = 0
    for t in range(n_types):
        if fate_t[t] != _EMPTY:
            empty_tb[t if n_blocks > 1 else 0, b] -= count_t[t]
        first_tb[t, b + 1] = count_t[t] if fate_t[t] == _ROW else 0
        count_t[t] = slot
        slot += first_tb[t, b + 1]
    for q in range(found):
        t = candidate_type[q]
        if t >= 0 and fate_t[t] == _ROW:
            slot_bs[b, count_t[t]] = candidates[q]
            count_t[t] += 1


@kernel
def _lay_out(positions_ac, centres_n, members_b, slot_bs, first_tb, neighbour_p, r_cp):
    """Rows by element, and then by centre; returns their number."""
    n_types, n_b = len(first_tb), len(members_b)
    done_b = np.zeros(n_b, np.int64)
    row = 0
    for t in range(n_types):
        first_tb[t, 0] = row
        for b in range(n_b):
            i = centres_n[members_b[b]]
            for slot in range(done_b[b], done_b[b] + first_tb[t, b + 1]):
                j = slot_bs[b, slot]
                neighbour_p[row] = j
                for c in range(3):
                    r_cp[c, row] = positions_ac[j, c] - positions_ac[i, c]
                row += 1
            done_b[b] += first_tb[t, b + 1]
            first_tb[t, b + 1] = row
    return row


@kernel
def environment(r_cp, n_rows, rcut_smth, width, protection, davg_k, dstd_k, s_p, ds_p, rows_kp):
    """s = sw(r)/q, ds/dr and the normalised rows (R - davg)/dstd, computed in float64.

    q = r + protection; a `protection` of None, which is 0, is compiled to a kernel of its own.
    """
    shift = davg_k / dstd_k
    scale = 1.0 / dstd_k
    for p in range(n_rows):
        x, y, z = r_cp[0, p], r_cp[1, p], r_cp[2, p]
        inverse = 1.0 / np.sqrt(x * x + y * y + z * z)
        # sw = 1 at u = 0 and 0 at u = 1: no branches
        u = min(max((1.0 / inverse - rcut_smth) / width, 0.0), 1.0)
        sw = u * u * u * (-6.0 * u * u + 15.0 * u - 10.0) + 1.0
        dsw = -30.0 * u * u * (u - 1.0) * (u - 1.0) / width
        if protection is not None:
            inverse = inverse / (1.0 + protection * inverse)
        s = sw * inverse
        s_p[p] = s
        ds_p[p] = (dsw - s) * inverse
        s_over_r = s * inverse
        rows_kp[0, p] = s * scale[0] - shift[0]
        rows_kp[1, p] = s_over_r * x * scale[1] - shift[1]
        rows_kp[2, p] = s_over_r * y * scale[2] - shift[2]
        rows_kp[3, p] = s_over_r * z * scale[3] - shift[3]


@kernel
def add_padding(empty_b, padding_kq, start, b_bkq):
    """What the empty slots of a block add: B_kr += empty padding_kq.

    To columns start.. of `b_bkq`, after the rows: it is the largest term, and in float32 rounding
    is best this way.
    """
    width = padding_kq.shape[1]
    for b in range(len(empty_b)):
        empty = b_bkq.dtype.type(empty_b[b])
        for k in range(4):
            of_k = b_bkq[b, k]
            for r in range(width):
                of_k[start + r] += empty * padding_kq[k, r]


@kernel
def pair_gradients(r_cp, n_rows, dstd_k, protection, s_p, ds_p, drows_kp, g_cp):
    """dE/dr_c of each row (float64): the way back of `environment`."""
    scale = 1.0 / dstd_k
    for p in range(n_rows):
        x, y, z = r_cp[0, p], r_cp[1, p], r_cp[2, p]
        inverse = 1.0 / np.sqrt(x * x + y * y + z * z)
        x, y, z = x * inverse, y * inverse, z * inverse
        q1, q2, q3 = drows_kp[1, p] * scale[1], drows_kp[2, p] * scale[2], drows_kp[3, p] * scale[3]
        if protection is None:
            s_over_r, ds = s_p[p] * inverse, ds_p[p]
            along = drows_kp[0, p] * scale[0] * ds + (ds - s_over_r) * (q1 * x + q2 * y + q3 * z)
        else:
            ratio = 1.0 / (1.0 + protection * inverse)  # r/q
            s_over_r, ds = s_p[p] * inverse * ratio, ds_p[p]
            radial = (ds - s_over_r) * ratio
            along = drows_kp[0, p] * scale[0] * ds + radial * (q1 * x + q2 * y + q3 * z)
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
def scatter(
    r_cp, g_cp, neighbour_p, first_tb, centres_n, members_b, share, forces_ac, atom_virials_acc
):
    """Add a chunk's forces and (if the array is not empty) per-atom virials.

    `share` of a pair's virial is the centre's.
    """
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
                            if share != 0.0:
                                w = share * g_cp[c, p] * r_cp[d, p]
                                atom_virials_acc[i, c, d] -= w
                                atom_virials_acc[j, c, d] += w
            forces_ac[i, 0] += fx
            forces_ac[i, 1] += fy
            forces_ac[i, 2] += fz
