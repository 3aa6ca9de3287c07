"""How much two evaluations of one model may differ: the one table of info, check and the tests.

exact: two float64 codes differ in the order of summation only (observed 1e-13), with a margin.

compressed: tables are made for a relative error of 1e-9 of G; slopes, and sums over neighbours,
make it a hundred times more. They allow more where atoms come closer than the tables' fine part:
as the tables' own tolerance, these then grow as the 12th power of s = 1/r (`relaxation`).

float32: some 10 units in the last place (6e-8) of intermediate values of order 10, which forces
inherit relative to their size: F is the root mean square of the components of a frame's forces, at
least 1 eV/Å. The virial sums n such errors at random, at distances of up to the cutoff:
F n^(1/2) rcut.

half: DeePMD-kit computed the nets in float16 or bfloat16, of which 10 units in the last place
(4e-3) are meant, of values of order 1 or of the largest force and virial; lmp_dp has float32.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lmp_dp.engine import periodic
from lmp_dp.engine.tabulation import OUTER_LIMIT, OUTER_POWER, finest_distance
from lmp_dp.model import DeepPotential
from lmp_dp.tools.lammps_frames import Frames


class Limits(NamedTuple):
    """Largest deviations that pass (eV, eV/Å, eV, eV)."""

    energy_per_atom: float
    force: float
    virial: float
    atom_energy: float


EXACT = Limits(1e-10, 1e-9, 1e-8, 1e-9)
COMPRESSED = Limits(1e-8, 1e-6, 1e-5, 1e-7)
#: Force in units of F, virial in units of F n^(1/2) rcut.
FLOAT32 = Limits(1e-5, 1e-4, 1e-4, 1e-4)
#: What a float32 model's reference frame may differ by at most, however large its forces: the frame
#: is ours to choose, a jittered lattice of some eV/Å.
FLOAT32_PROOF = Limits(1e-5, 1e-3, 1e-2, 1e-4)
#: Force in units of the largest, at least 1 eV/Å, virial in tenths of the largest, at least 10 eV.
HALF = Limits(4e-2, 4e-2, 4e-1, 4e-2)
_OF_KIND = {"exact": EXACT, "compressed": COMPRESSED, "float32": FLOAT32, "half": HALF}


def limits(kind: str, rcut: float, forces_ac: NDArray[Any], virial: NDArray[Any]) -> Limits:
    """Tolerances of one frame.

    Parameters
    ----------
    kind : {"exact", "compressed", "float32", "half"}
    rcut : float
        Cutoff (Å).
    forces_ac : (n, 3) array
        What the forces are compared with (eV/Å).
    virial : array
        The components that the virial is compared with (eV).
    """
    found = _OF_KIND[kind]
    if kind == "float32":
        size = max(1.0, float(np.sqrt((forces_ac**2).mean()))) if len(forces_ac) else 1.0
        force = found.force * size
        virial_limit = found.virial * size * math.sqrt(len(forces_ac)) * rcut
        return found._replace(force=force, virial=virial_limit)
    if kind == "half":
        largest = max(1.0, float(np.abs(forces_ac).max(initial=0.0)))
        virial_size = max(1.0, float(np.abs(virial).max()) / 10.0)
        return found._replace(force=found.force * largest, virial=found.virial * virial_size)
    return found


@dataclass(frozen=True)
class Tolerances:
    """What two evaluations of a model may differ by, in some frames.

    Attributes
    ----------
    kind : {"exact", "compressed", "float32", "half"}
    rcut : float
        Cutoff (Å).
    relaxation_z : (n_frames,) float64
        Factor on all tolerances.
    """

    kind: str
    rcut: float
    relaxation_z: NDArray[Any]

    @property
    def energy_per_atom(self) -> float:
        """eV, in a frame without close pairs."""
        return _OF_KIND[self.kind].energy_per_atom

    def limits_zu(self, forces_zac: NDArray[Any], virials_zu: NDArray[Any]) -> NDArray[Any]:
        """`Limits` of each frame: (n_frames, 4)."""
        frames = zip(forces_zac, virials_zu, strict=True)
        limits_zu = np.array([limits(self.kind, self.rcut, *frame) for frame in frames])
        return limits_zu * self.relaxation_z[:, None]


def tolerances(models: Sequence[DeepPotential], frames: Frames, same: bool) -> Tolerances:
    """Tolerances between model files, or between one and what it was made from.

    Parameters
    ----------
    models : sequence of DeepPotential
    frames : Frames
    same : bool
        True if the same file is evaluated twice, so that its tables make no difference.
    """
    one_z = np.ones(len(frames.positions_zac))
    rcut = models[0].rcut
    if any(model.precision != "float64" for model in models):
        return Tolerances("float32", rcut, one_z)
    if len(models) == 1 and models[0].provenance.source_tables:
        same = True
    tabulated = [] if same else [model for model in models if model.tables]
    if not tabulated:
        return Tolerances("exact", rcut, one_z)
    factors = [relaxation(frames, model) for model in tabulated]
    return Tolerances("compressed", rcut, np.max(factors, axis=0))


def relaxation(frames: Frames, model: DeepPotential) -> NDArray[Any]:
    """Factor on a compressed model's tolerances, by the closest pair of each frame."""
    if not model.tables:
        return np.ones(len(frames.positions_zac))
    finest = finest_distance(model)
    factors = []
    for positions_ac, cell_cc in zip(frames.positions_zac, frames.cells_zcc, strict=True):
        nb = periodic.build(positions_ac, frames.types_a, cell_cc, finest).neighbourhood
        centre_p = np.repeat(nb.centres_n, np.diff(nb.offsets_n))
        r_pc = nb.positions_ac[nb.neighbours_p] - nb.positions_ac[centre_p]
        closest = np.linalg.norm(r_pc, axis=1).min(initial=finest)
        factors.append(min((finest / closest) ** OUTER_POWER, OUTER_LIMIT))
    return np.array(factors)
