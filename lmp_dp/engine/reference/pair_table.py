r"""Energies of pairs in place of the nets' where atoms come close (`lmp_dp.model.pair_table`).

E_i = (1 - l_i) E^net_i + l_i E^pair_i
dE_i/dr_j = (1 - l_i) dE^net_i/dr_j + l_i u'_ij/2 r_ij/|r_ij| + (E^pair_i - E^net_i) dl_i/dr_j
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lmp_dp.engine.namespace import namespace_of
from lmp_dp.engine.neighbourhood import Array
from lmp_dp.engine.switch import switch
from lmp_dp.model.pair_table import ORDER, PairTable


class Slots(NamedTuple):
    """Neighbours of centres of one element.

    Attributes
    ----------
    slots_ns : (n, n_slots) int array
        Their indices, -1 in empty slots.
    types_ns : (n, n_slots) int array
    r_nsc : (n, n_slots, 3) array
        r_j - r_i (Å).
    """

    slots_ns: Array
    types_ns: Array
    r_nsc: Array

    def distances(self) -> Array:
        """|r_ij| (Å), 1 in empty slots."""
        xp = namespace_of(self.r_nsc)
        squares_ns = (self.r_nsc * self.r_nsc).sum(axis=2)
        return xp.where(self.slots_ns >= 0, xp.sqrt(squares_ns), 1.0)


def nearness(table: PairTable, found: Slots) -> tuple[Array, Array]:
    """l_n of centres, and dl/d|r_ij| of their neighbours."""
    xp = namespace_of(found.r_nsc)
    r_ns, filled_ns = found.distances(), found.slots_ns >= 0
    nearest_n = xp.where(filled_ns, r_ns, np.inf).min(axis=1, initial=table.rcut)
    # relative to the nearest one: no underflow of all terms
    terms_ns = xp.where(filled_ns, xp.exp((nearest_n[:, None] - r_ns) / table.alpha), 0.0)
    alone_n = ~filled_ns.any(axis=1)
    sums_n = xp.where(alone_n, 1.0, terms_ns.sum(axis=1))
    sigma_n = (r_ns * terms_ns).sum(axis=1) / sums_n
    sigma_n = xp.where(alone_n, table.switch_end, sigma_n)
    l_n, slope_n = switch(sigma_n, table.switch_start, table.switch_width)
    # dsigma/dr_j = t_j (1 - (r_j - sigma)/alpha) / sum t
    dsigma_ns = terms_ns * (1.0 - (r_ns - sigma_n[:, None]) / table.alpha) / sums_n[:, None]
    return xp.where(alone_n, 0.0, l_n), slope_n[:, None] * dsigma_ns


def energies(table: PairTable, t: int, found: Slots) -> tuple[Array, Array, int]:
    """E^pair_n of centres of element `t`, u'/2 of their neighbours, and how many come too close."""
    xp = namespace_of(found.r_nsc)
    r_ns, filled_ns = found.distances(), found.slots_ns >= 0
    coefficients_tve = xp.asarray(table.coefficients_ttve[t])
    n_pieces = coefficients_tve.shape[1]
    at_ns = (r_ns - table.start) / table.step
    counted_ns = filled_ns & (at_ns < n_pieces) & (r_ns < table.environment.rcut)
    piece_ns = xp.clip(xp.floor(at_ns).astype(xp.int64), 0, n_pieces - 1)
    x_ns = at_ns - piece_ns
    c_nse = coefficients_tve[xp.where(filled_ns, found.types_ns, 0), piece_ns]
    u_ns, slope_ns = c_nse[:, :, ORDER - 1], xp.zeros_like(x_ns)
    for e in range(ORDER - 2, -1, -1):
        slope_ns = slope_ns * x_ns + u_ns
        u_ns = u_ns * x_ns + c_nse[:, :, e]
    u_ns, slope_ns = xp.where(counted_ns, u_ns, 0.0), xp.where(counted_ns, slope_ns, 0.0)
    too_close = int((filled_ns & (r_ns < table.start)).sum())
    e_n = 0.5 * u_ns.sum(axis=1) + table.bias_t[t]
    return e_n, 0.5 * slope_ns / table.step, too_close


def gradients(found: Slots, slope_ns: Array) -> Array:
    """dE/dr_c of neighbours from dE/d|r_ij|: (n, n_slots, 3)."""
    return (slope_ns / found.distances())[:, :, None] * found.r_nsc
