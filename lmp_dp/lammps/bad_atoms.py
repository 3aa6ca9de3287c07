"""Positions and forces that are not numbers: the run is ended, and the atom named by its ID.

LAMMPS looks for such atoms when it makes a new neighbour list, and never makes one again once a
position is NaN, since no distance moved exceeds the skin then. The engine would drop the atom's
neighbours, whose distances compare as outside of the cutoff, and go on.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from lmp_dp.engine.neighbourhood import Neighbourhood, Result
from lmp_dp.errors import RangeError

ADVICE = (
    "is the timestep too long, are atoms too close at the start (minimize first), or does a fix or "
    "the input give wrong values?"
)


def check_positions(positions_ac: NDArray[np.float64], tags_a: NDArray[np.integer]) -> None:
    """Refuse positions that are not finite.

    Parameters
    ----------
    positions_ac : (n_all, 3) float64
    tags_a : (n_all,) int array
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


def check_result(result: Result, neighbourhood: Neighbourhood, tags_a: NDArray[np.integer]) -> None:
    """Refuse an energy or forces that are not finite.

    Parameters
    ----------
    result : Result
    neighbourhood : Neighbourhood
        What the result is of.
    tags_a : (n_all,) int array
        Atom IDs.

    Raises
    ------
    RangeError
        With the ID of the first atom whose force is not finite, and (where there are lists) the two
        atoms that are nearest to each other: one bad pair spoils the forces of all around it.
    """
    atom = _first_not_finite(result.forces_ac)
    if atom is not None:
        text = f"the force on atom {tags_a[atom]} (its ID) is {_vector(result.forces_ac[atom])}"
        if neighbourhood.neighbours_p is not None:
            one, two, distance = _nearest(neighbourhood)
            text += (
                f"; the nearest two atoms here, {tags_a[one]} and {tags_a[two]}, are "
                f"{distance:g} A apart"
            )
        raise RangeError(f"{text}: {ADVICE}")
    if not math.isfinite(result.energy):
        raise RangeError(f"the energy is {result.energy}, although all forces are finite: {ADVICE}")


def _nearest(nb: Neighbourhood) -> tuple[int, int, float]:
    """The two atoms of the lists that are nearest to each other, and their distance (Å)."""
    centres_p = np.repeat(nb.centres_n, np.diff(nb.offsets_n))
    squared_p = np.zeros(len(centres_p))
    for c in range(3):
        x_a = nb.positions_ac[:, c]
        squared_p += (x_a[nb.neighbours_p] - x_a[centres_p]) ** 2
    pair = int(squared_p.argmin())
    return int(centres_p[pair]), int(nb.neighbours_p[pair]), math.sqrt(squared_p[pair])


def _first_not_finite(values_ac: NDArray[np.float64]) -> int | None:
    finite_ac = np.isfinite(values_ac)
    return None if finite_ac.all() else int((~finite_ac.all(axis=1)).argmax())


def _vector(values_c: NDArray[np.float64]) -> str:
    return " ".join(f"{value:g}" for value in values_c)
