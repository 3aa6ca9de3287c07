"""Evaluating a `lmp_dp.model.Table`: the tabulated twin of `lmp_dp.engine.network`.

G_m(s) = sum_r phi_r(s) U_rm,   phi_r = sum_k c_kr x^k on the piece that s lies in
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
    pieces_q = xp.asarray(table.pieces_q)
    first_q = xp.concatenate([xp.zeros(1, dtype=pieces_q.dtype), xp.cumsum(pieces_q)])
    n_cells, n_pieces = len(table.pieces_q), int(table.pieces_q.sum())
    at_p = (s_p.astype(xp.float64) - table.lower) / table.cell_width
    cell_p = xp.clip(xp.floor(at_p).astype(xp.int64), 0, n_cells - 1)
    within_p = (at_p - cell_p) * pieces_q[cell_p]
    local_p = xp.clip(xp.floor(within_p).astype(xp.int64), 0, pieces_q[cell_p] - 1)
    above_p, below_p = at_p >= n_cells, at_p < 0
    piece_p = xp.where(
        above_p, n_pieces, xp.where(below_p, n_pieces + 1, first_q[cell_p] + local_p)
    )
    x_p = xp.where(above_p, at_p - n_cells, xp.where(below_p, at_p, within_p - local_p))
    per_cell_p = xp.where(above_p | below_p, 1, pieces_q[cell_p])
    return piece_p, x_p, per_cell_p / table.cell_width


def forward(table: Table, s_p: Array) -> tuple[Array, Array]:
    """G_pm and dG_pm/ds in the precision of `s_p`."""
    xp = namespace_of(s_p)
    dtype = s_p.dtype
    piece_p, x_p, slope_p = locate(table, s_p)
    coefficients_qkr = xp.concatenate(
        [xp.asarray(table.coefficients_pkr), xp.asarray(table.lines())]
    ).astype(dtype)
    c_pkr = coefficients_qkr[piece_p]
    x_p1 = x_p.astype(dtype)[:, None]
    phi_pr, dphi_pr = c_pkr[:, ORDER - 1], xp.zeros_like(c_pkr[:, 0])
    for k in range(ORDER - 2, -1, -1):
        dphi_pr = dphi_pr * x_p1 + phi_pr
        phi_pr = phi_pr * x_p1 + c_pkr[:, k]
    basis_rm = xp.asarray(table.basis_rm).astype(dtype)
    return phi_pr @ basis_rm, (dphi_pr * slope_p.astype(dtype)[:, None]) @ basis_rm
