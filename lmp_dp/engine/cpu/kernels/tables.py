"""Embedding by tables: moments of the basis functions, and gradients of the rows."""

from __future__ import annotations

import numpy as np

from lmp_dp.engine.cpu.kernels.compiled import kernel
from lmp_dp.engine.cpu.kernels.simd import fill, load, multiply, multiply_add, store, total


@kernel
def locate(s_p, first, last, lower, inner, cell_width, pieces_h, first_h, piece_p, x_p):
    """Piece and local coordinate of rows first..last (see `lmp_dp.engine.table.locate`).

    Returns how many rows lie beyond the table's fine part (atoms closer than it was made for).
    """
    n_cells, n_pieces = len(pieces_h), first_h[-1]
    beyond = 0
    for p in range(first, last):
        s = np.float64(s_p[p])
        at = (s - lower) / cell_width
        cell = min(max(np.int64(np.floor(at)), 0), n_cells - 1)
        within = (at - cell) * pieces_h[cell]
        local = min(max(np.int64(np.floor(within)), 0), np.int64(pieces_h[cell]) - 1)
        piece, x = first_h[cell] + local, within - local
        if at >= n_cells:
            piece, x = n_pieces, at - n_cells
        elif at < 0.0:
            piece, x = n_pieces + 1, at
        piece_p[p] = piece
        x_p[p] = x
        beyond += s > inner
    return beyond


@kernel
def _polynomial(coefficients_veq, at, rank, x):
    """phi on one vector of basis functions; `at` is the flat index of x^0."""
    phi = load(coefficients_veq, at + 5 * rank)
    for k in range(4, -1, -1):
        phi = multiply_add(phi, x, load(coefficients_veq, at + k * rank))
    return phi


@kernel
def moment(rows_kp, piece_p, x_p, coefficients_veq, first_b, start, lanes, b_bkq):
    """B_kr = sum_rows R_k phi_r, to columns start.. of `b_bkq`.

    `lanes` is a tuple of one vector's length. Two vectors of accumulators stay in registers
    over all rows of a centre.
    """
    rank, n_columns = coefficients_veq.shape[2], b_bkq.shape[2]
    width = len(lanes)
    zero = fill(b_bkq.dtype.type(0.0))
    for b in range(len(first_b) - 1):
        for v in range(0, rank, 2 * width):
            a0, a1, a2, a3 = zero, zero, zero, zero
            c0, c1, c2, c3 = zero, zero, zero, zero
            two = v + width < rank
            if two:
                for p in range(first_b[b], first_b[b + 1]):
                    at = np.int64(piece_p[p]) * 6 * rank + v
                    x = fill(x_p[p])
                    one_phi = _polynomial(coefficients_veq, at, rank, x)
                    two_phi = _polynomial(coefficients_veq, at + width, rank, x)
                    r0, r1 = fill(rows_kp[0, p]), fill(rows_kp[1, p])
                    r2, r3 = fill(rows_kp[2, p]), fill(rows_kp[3, p])
                    a0, c0 = multiply_add(one_phi, r0, a0), multiply_add(two_phi, r0, c0)
                    a1, c1 = multiply_add(one_phi, r1, a1), multiply_add(two_phi, r1, c1)
                    a2, c2 = multiply_add(one_phi, r2, a2), multiply_add(two_phi, r2, c2)
                    a3, c3 = multiply_add(one_phi, r3, a3), multiply_add(two_phi, r3, c3)
            else:
                for p in range(first_b[b], first_b[b + 1]):
                    at = np.int64(piece_p[p]) * 6 * rank + v
                    phi = _polynomial(coefficients_veq, at, rank, fill(x_p[p]))
                    a0 = multiply_add(phi, fill(rows_kp[0, p]), a0)
                    a1 = multiply_add(phi, fill(rows_kp[1, p]), a1)
                    a2 = multiply_add(phi, fill(rows_kp[2, p]), a2)
                    a3 = multiply_add(phi, fill(rows_kp[3, p]), a3)
            at = b * 4 * n_columns + start + v
            store(b_bkq, at, a0)
            store(b_bkq, at + n_columns, a1)
            store(b_bkq, at + 2 * n_columns, a2)
            store(b_bkq, at + 3 * n_columns, a3)
            if two:
                at += width
                store(b_bkq, at, c0)
                store(b_bkq, at + n_columns, c1)
                store(b_bkq, at + 2 * n_columns, c2)
                store(b_bkq, at + 3 * n_columns, c3)


@kernel
def gradients(
    rows_kp, piece_p, x_p, coefficients_veq, slope_v, first_b, db_bkq, start, lanes, drows_kp
):
    """dE/dR_k of the rows of one neighbour element; phi and phi' in one Horner pass.

    dE/dR_k = sum_r phi_r dB_kr,  and for k = 0 also  sum_r phi'_r sum_k R_k dB_kr.
    """
    rank, n_columns = coefficients_veq.shape[2], db_bkq.shape[2]
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
                phi, dphi = load(coefficients_veq, at + 5 * rank), zero
                for k in range(4, -1, -1):
                    dphi = multiply_add(dphi, x, phi)
                    phi = multiply_add(phi, x, load(coefficients_veq, at + k * rank))
                b0, b1 = load(db_bkq, of_b + v), load(db_bkq, of_b + n_columns + v)
                b2 = load(db_bkq, of_b + 2 * n_columns + v)
                b3 = load(db_bkq, of_b + 3 * n_columns + v)
                e0, e1 = multiply_add(phi, b0, e0), multiply_add(phi, b1, e1)
                e2, e3 = multiply_add(phi, b2, e2), multiply_add(phi, b3, e3)
                along = multiply_add(r0, b0, multiply(r1, b1))
                along = multiply_add(r2, b2, multiply_add(r3, b3, along))
                slope = multiply_add(dphi, along, slope)
            drows_kp[0, p] = total(multiply_add(slope, fill(slope_v[piece_p[p]]), e0))
            drows_kp[1, p] = total(e1)
            drows_kp[2, p] = total(e2)
            drows_kp[3, p] = total(e3)
