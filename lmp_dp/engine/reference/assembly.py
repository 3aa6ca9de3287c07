"""Forces, virial and per-atom virials from pair gradients, in one place.

With g_ij = dE/dr_ij and r_ij = r_j - r_i:

    F_i += g_ij,   F_j -= g_ij,   W_ab = -sum_ij g_ij,a r_ij,b,   W_j,ab -= g_ij,a r_ij,b

where a share of the last may be the centre's in place of the neighbour's.
"""

from __future__ import annotations

from lmp_dp.engine.namespace import namespace_of
from lmp_dp.engine.neighbourhood import Array


def add_pairs(
    g_pc: Array,
    r_pc: Array,
    centre_p: Array,
    neighbour_p: Array,
    share_of_centre: float,
    forces_ac: Array,
    atom_virials_acc: Array | None,
) -> Array:
    """Add the pairs' forces (and per-atom virials) in place; return their virial (3, 3)."""
    xp = namespace_of(g_pc)
    n_all = len(forces_ac)
    for c in range(3):
        forces_ac[:, c] += xp.bincount(centre_p, weights=g_pc[:, c], minlength=n_all)
        forces_ac[:, c] -= xp.bincount(neighbour_p, weights=g_pc[:, c], minlength=n_all)
    if atom_virials_acc is not None:
        for a in range(3):
            for b in range(3):
                w_p = g_pc[:, a] * r_pc[:, b]
                for atom_p, share in (
                    (neighbour_p, 1.0 - share_of_centre),
                    (centre_p, share_of_centre),
                ):
                    if share:
                        w_a = xp.bincount(atom_p, weights=share * w_p, minlength=n_all)
                        atom_virials_acc[:, a, b] -= w_a
    return -(g_pc.T @ r_pc)
