"""Evaluating a `lmp_dp.model.Table`: the tabulated twin of `lmp_dp.engine.network`.

G_m(s) = sum_q phi_q(s) U_qm,   phi_q = sum_e c_eq x^e on the piece that s lies in
"""

from __future__ import annotations

from lmp_dp.engine.namespace import namespace_of
from lmp_dp.engine.neighbourhood import Array
from lmp_dp.model.table import ORDER, Table


def locate(table: Table, s_p: Array) -> tuple[Array, Array, Array]:
    """Piece, local coordinate and dx/ds of each s; s outside lies on the two straight lines.

    The lines are the pieces n and n + 1 (`Table.lines`).
    """
    xp = namespace_of(s_p)
    pieces_h = xp.asarray(table.pieces_h)
    first_h = xp.concatenate([xp.zeros(1, dtype=pieces_h.dtype), xp.cumsum(pieces_h)])
    n_cells, n_pieces = len(table.pieces_h), int(table.pieces_h.sum())
    at_p = (s_p.astype(xp.float64) - table.lower) / table.cell_width
    cell_p = xp.clip(xp.floor(at_p).astype(xp.int64), 0, n_cells - 1)
    within_p = (at_p - cell_p) * pieces_h[cell_p]
    local_p = xp.clip(xp.floor(within_p).astype(xp.int64), 0, pieces_h[cell_p] - 1)
    above_p, below_p = at_p >= n_cells, at_p < 0
    piece_p = xp.where(
        above_p, n_pieces, xp.where(below_p, n_pieces + 1, first_h[cell_p] + local_p)
    )
    x_p = xp.where(above_p, at_p - n_cells, xp.where(below_p, at_p, within_p - local_p))
    per_cell_p = xp.where(above_p | below_p, 1, pieces_h[cell_p])
    return piece_p, x_p, per_cell_p / table.cell_width


def forward(table: Table, s_p: Array) -> tuple[Array, Array]:
    """G_pm and dG_pm/ds in the precision of `s_p`."""
    xp = namespace_of(s_p)
    dtype = s_p.dtype
    piece_p, x_p, slope_p = locate(table, s_p)
    coefficients_veq = xp.concatenate(
        [xp.asarray(table.coefficients_veq), xp.asarray(table.lines())]
    ).astype(dtype)
    c_peq = coefficients_veq[piece_p]
    x_p1 = x_p.astype(dtype)[:, None]
    phi_pq, dphi_pq = c_peq[:, ORDER - 1], xp.zeros_like(c_peq[:, 0])
    for k in range(ORDER - 2, -1, -1):
        dphi_pq = dphi_pq * x_p1 + phi_pq
        phi_pq = phi_pq * x_p1 + c_peq[:, k]
    basis_qm = xp.asarray(table.basis_qm).astype(dtype)
    return phi_pq @ basis_qm, (dphi_pq * slope_p.astype(dtype)[:, None]) @ basis_qm
