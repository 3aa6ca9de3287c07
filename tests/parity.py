"""How far a backend may be from what DeePMD-kit gave, and how far it is."""

from __future__ import annotations

import numpy as np

from conftest import Frame
from lmp_dp import Potential
from lmp_dp.tools.tolerances import EXACT

#: eV per atom, eV/Å, eV, eV. float64: the project's contract.
FLOAT64 = dict(zip(("energy", "forces", "virial", "atom_energies"), EXACT, strict=True))
#: float32 nets: 50 units in the last place (6e-8) of values up to ~1, on sums over <= 100 slots.
FLOAT32 = {"energy": 3e-6, "forces": 3e-6, "virial": 3e-5, "atom_energies": 3e-6}
#: The source evaluates the nets in float16 (unit in the last place 1e-3), lmp_dp in float32.
FLOAT16 = {"energy": 3e-3, "forces": 3e-3, "virial": 3e-2, "atom_energies": 3e-3}


def tolerances(model: str, precision: str) -> dict[str, float]:
    if model == "oh_mixed_precision":
        return FLOAT16
    return FLOAT64 if precision == "float64" else FLOAT32


def deviations(potential: Potential, frame: Frame) -> dict[str, float]:
    result = potential.evaluate(
        frame.positions, frame.types, frame.cell, fparam=frame.fparam, aparam=frame.aparam
    )
    return {
        "energy": abs(result.energy - frame.energy) / len(frame.types),
        "forces": np.abs(result.forces - frame.forces).max(),
        "virial": max(
            np.abs(result.virial - frame.virial).max(),
            np.abs(result.atom_virials - frame.atom_virials).max(),
        ),
        "atom_energies": np.abs(result.atom_energies - frame.atom_energies).max(),
    }
