"""How much two evaluations of the same frames differ, beside how much they may."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmp_dp.tools.lammps_frames import Values
from lmp_dp.tools.tolerances import Tolerances


@dataclass(frozen=True)
class Quantity:
    """Deviations of one quantity over all frames.

    Attributes
    ----------
    name, unit : str
    maximum, rms : float
        Largest and root mean square deviation of all frames.
    worst_frame : int
        The frame that decides: it comes nearest to its tolerance, or exceeds it most.
    deviation, tolerance : float
        Largest deviation of that frame, and what it may be there.
    ratio : float
        Their quotient, the largest of all frames; at most 1 if the check is passed.
    """

    name: str
    unit: str
    maximum: float
    rms: float
    worst_frame: int
    deviation: float
    tolerance: float
    ratio: float


def quantities(found: Values, target: Values, allowed: Tolerances) -> list[Quantity]:
    """Deviations of `found` from `target`, quantity by quantity."""
    n = target.forces_zac.shape[1]
    return [
        _quantity(name, unit, deviation, limit_z)
        for name, unit, deviation, limit_z in zip(
            ("energy per atom", "force", "virial", "energy of an atom"),
            ("eV", "eV/Å", "eV", "eV"),
            (
                (found.energies_z - target.energies_z) / n,
                found.forces_zac - target.forces_zac,
                found.virials_zu - target.virials_zu,
                found.atom_energies_za - target.atom_energies_za,
            ),
            allowed.limits_zu(target.forces_zac, target.virials_zu).T,
            strict=True,
        )
    ]


def _quantity(name: str, unit: str, deviation: NDArray[Any], tolerance_z: NDArray[Any]) -> Quantity:
    absolute = abs(deviation.reshape(len(tolerance_z), -1))
    largest_z = absolute.max(axis=1)
    # a value that is no number is a failure, not a pass
    ratio_z = np.nan_to_num(largest_z / tolerance_z, nan=np.inf)
    worst = int(ratio_z.argmax())
    return Quantity(
        name=name,
        unit=unit,
        maximum=float(absolute.max()),
        rms=float(np.sqrt((absolute**2).mean())),
        worst_frame=worst,
        deviation=float(largest_z[worst]),
        tolerance=float(tolerance_z[worst]),
        ratio=float(ratio_z[worst]),
    )
