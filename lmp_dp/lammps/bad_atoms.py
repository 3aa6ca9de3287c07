"""Positions and forces that are not numbers: the run is ended, and the atom named by its ID.

LAMMPS looks for such atoms when it makes a new neighbour list, and never makes one again once a
position is NaN, since no distance moved exceeds the skin then. The engine would drop the atom's
neighbours, whose distances compare as outside of the cutoff, and go on.

Axes: _a atoms (local, then ghosts), _c Cartesian.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from lmp_dp.errors import RangeError

ADVICE = (
    "is the timestep too long, are atoms too close at the start (minimize first), or does a fix or "
    "the input give wrong values?"
)


def check_positions(positions_ac: NDArray[np.float64], tags_a: NDArray[np.int32]) -> None:
    """Refuse positions that are not finite.

    Parameters
    ----------
    positions_ac : (n_all, 3) float64
    tags_a : (n_all,) int32
        Atom IDs.

    Raises
    ------
    RangeError
        With the ID of the first such atom.
    """
    atom = _first_not_finite(positions_ac)
    if atom is not None:
        raise RangeError(
            f"atom {tags_a[atom]} (its ID) is at {_vector(positions_ac[atom])}, which is not a "
            f"place: {ADVICE}"
        )


def check_result(
    energy: float,
    forces_ac: NDArray[np.float64],
    positions_ac: NDArray[np.float64],
    tags_a: NDArray[np.int32],
) -> None:
    """Refuse an energy or forces that are not finite.

    Parameters
    ----------
    energy : float
        eV.
    forces_ac, positions_ac : (n_all, 3) float64
        eV/Å and Å.
    tags_a : (n_all,) int32
        Atom IDs.

    Raises
    ------
    RangeError
        With the ID of the first atom whose force is not finite, and its nearest neighbour.
    """
    atom = _first_not_finite(forces_ac)
    if atom is not None:
        distances_a = np.linalg.norm(positions_ac - positions_ac[atom], axis=1)
        distances_a[atom] = np.inf
        nearest = int(distances_a.argmin())
        raise RangeError(
            f"the force on atom {tags_a[atom]} (its ID) is {_vector(forces_ac[atom])}; its nearest "
            f"neighbour, atom {tags_a[nearest]}, is at {distances_a[nearest]:g} A: {ADVICE}"
        )
    if not math.isfinite(energy):
        raise RangeError(f"the energy is {energy}, although all forces are finite: {ADVICE}")


def _first_not_finite(values_ac: NDArray[np.float64]) -> int | None:
    if math.isfinite(values_ac.sum()):  # one pass; a sum of finite values may overflow as well
        return None
    bad_a = ~np.isfinite(values_ac).all(axis=1)
    return int(bad_a.argmax()) if bad_a.any() else None


def _vector(values_c: NDArray[np.float64]) -> str:
    return " ".join(f"{value:g}" for value in values_c)
