"""Pairs in place of positions: a neighbourhood in which every pair is an atom of its own.

Codes that hand over displacements r_ij = r_j - r_i instead of positions need dE/dr_ij of each pair.
With all centres at the origin and a neighbour of its own at r_ij for each pair, positions are
displacements again, exactly, and the force on that neighbour is -dE/dr_ij: every backend can do it.
"""

from __future__ import annotations

from lmp_dp.engine.namespace import namespace_of
from lmp_dp.engine.neighbourhood import Array, Neighbourhood


def neighbourhood(
    r_pc: Array, centre_p: Array, centre_types_n: Array, neighbour_types_p: Array
) -> tuple[Neighbourhood, Array]:
    """A neighbourhood of (n + n_pairs) atoms, the centres first.

    Parameters
    ----------
    r_pc : (n_pairs, 3) float64
        r_j - r_i (Å).
    centre_p : (n_pairs,) int
        Index of the centre, in any order.
    centre_types_n : (n,) int
    neighbour_types_p : (n_pairs,) int

    Returns
    -------
    Neighbourhood
    order_p : (n_pairs,) int
        Atom ``n + k`` is the neighbour of pair ``order_p[k]``.
    """
    xp = namespace_of(r_pc)
    n = len(centre_types_n)
    order_p = xp.argsort(centre_p, kind="stable")
    counts_n = xp.bincount(centre_p, minlength=n)
    types = xp.concatenate([centre_types_n, neighbour_types_p[order_p]])
    return (
        Neighbourhood(
            positions_ac=xp.concatenate([xp.zeros((n, 3)), r_pc[order_p]]),
            types_a=types.astype(xp.int32),
            n_local=n,
            centres_n=xp.arange(n, dtype=xp.int32),
            offsets_n=xp.concatenate([xp.zeros(1, dtype=xp.int64), xp.cumsum(counts_n)]),
            neighbours_p=n + xp.arange(len(r_pc), dtype=xp.int32),
        ),
        order_p,
    )
