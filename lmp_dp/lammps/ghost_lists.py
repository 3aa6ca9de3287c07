"""Neighbour lists from LAMMPS's local and ghost atoms, and whether no ghost is missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lmp_dp.engine.periodic import neighbour_lists
from lmp_dp.errors import InputError
from lmp_dp.lammps import bad_atoms
from lmp_dp.lammps.ghost_owners import GhostOwners

if TYPE_CHECKING:
    from lammps import lammps

SKIN = 1.0  # Å: lists stay valid until an atom has moved by half of it
EDGE = 1e-6  # Å: pairs so near to the cutoff are not used to judge whether ghosts are complete


@dataclass
class GhostLists:
    """Neighbour lists and ghost owners, and the atoms that they were made for."""

    positions_ac: NDArray[Any]
    tags_a: NDArray[Any]
    types_a: NDArray[Any]
    n_local: int
    owners: GhostOwners
    offsets_n: NDArray[Any]
    neighbours_p: NDArray[Any]

    def fit(
        self, positions_ac: NDArray[Any], tags_a: NDArray[Any], types_a: NDArray[Any], n_local: int
    ) -> bool:
        """True if the atoms are the same, in the same order, and near to where they were."""
        if n_local != self.n_local or not np.array_equal(tags_a, self.tags_a):
            return False
        moved_ac = positions_ac - self.positions_ac
        near = (moved_ac * moved_ac).sum(axis=1).max(initial=0.0) <= (0.5 * SKIN) ** 2
        return bool(near) and np.array_equal(types_a, self.types_a)

    @classmethod
    def build(
        cls,
        positions_ac: NDArray[Any],
        tags_a: NDArray[Any],
        types_a: NDArray[Any],
        owners: GhostOwners,
        rcut: float,
    ) -> tuple[GhostLists, float]:
        """New lists, and a number whose sum over all ranks is 0 if no ghost is missing.

        If atom i sees j, then j must see i, maybe as a ghost on another rank. Each ordered pair is
        given the weight w(i) - w(j) with w a pseudo-random function of the atom ID, so that the two
        views cancel. (A pair across a face is seen one-sidedly where one atom is nearer to the face
        than LAMMPS's communication cutoff and the other is not.)
        """
        n_local = owners.n_local
        if len(owners.orphans):
            raise InputError(
                f"ghosts of atom IDs {owners.orphans[:5]} ... have no owner on any rank, expected "
                "one for each: are atom IDs unique, and were atoms lost?"
            )
        bad_atoms.check_positions(positions_ac, tags_a)
        offsets_n, neighbours_p = neighbour_lists(positions_ac, n_local, rcut + SKIN)
        # 20 bits each: the sum over 2^30 pairs is exact in double precision
        weight_a = (
            (tags_a.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(44)
        ).astype(np.float64)
        centres_p = np.repeat(np.arange(n_local), np.diff(offsets_n))
        r_pc = positions_ac[neighbours_p] - positions_ac[centres_p]
        seen_p = (r_pc * r_pc).sum(axis=1) < (rcut - EDGE) ** 2
        asymmetry = (weight_a[centres_p[seen_p]] - weight_a[neighbours_p[seen_p]]).sum()
        lists = cls(positions_ac, tags_a, types_a, n_local, owners, offsets_n, neighbours_p)
        return lists, float(asymmetry)


def near_a_face(lmp: lammps, positions_nc: NDArray[Any], rcut: float, length: float) -> int:
    """How many atoms must be somebody's ghost, being near to a face of this rank's domain.

    Parameters
    ----------
    lmp : lammps.lammps
    positions_nc : (n_local, 3) array
        Å.
    rcut : float
        Å.
    length : float
        1 Å in LAMMPS's unit.
    """
    low, high, xy, yz, xz, periodic, _ = lmp.extract_box()
    cell_cc = np.diag(np.subtract(high, low))
    cell_cc[1, 0], cell_cc[2, 0], cell_cc[2, 1] = xy, xz, yz
    inverse_cc = np.linalg.inv(cell_cc / length)
    fractional_nc = (positions_nc - np.divide(low, length)) @ inverse_cc
    margin_c = rcut * np.linalg.norm(inverse_cc, axis=0)
    if lmp.extract_setting("triclinic"):
        first_c, last_c = lmp.extract_global("sublo_lambda"), lmp.extract_global("subhi_lambda")
    else:
        first_c, last_c = (
            np.subtract(lmp.extract_global(name), low) / cell_cc.diagonal()
            for name in ("sublo", "subhi")
        )
    near_n = np.zeros(len(positions_nc), bool)
    for axis in range(3):
        f_n = fractional_nc[:, axis]
        if periodic[axis] or first_c[axis] > 0.0:
            near_n |= f_n < first_c[axis] + margin_c[axis]
        if periodic[axis] or last_c[axis] < 1.0:
            near_n |= f_n > last_c[axis] - margin_c[axis]
    return int(near_n.sum())
