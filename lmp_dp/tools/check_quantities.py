"""How much two evaluations of the same frames differ, and how much they may.

float64 models (the two codes differ in the order of summation only):

    energy per atom 1e-10 eV, force 1e-9 eV/Å, virial 1e-8 eV, energy of an atom 1e-9 eV

compressed float64 models against others (tables made for a relative error of 1e-9 of G, seen
through slopes and sums over neighbours):

    energy per atom 1e-8 eV, force 1e-6 eV/Å, virial 1e-5 eV, energy of an atom 1e-7 eV

and more in frames where atoms come closer than the tables' fine part: as the tables' own
tolerance, these grow as the 12th power of s = 1/r.

models with float32 nets (round-off 6e-8, which forces inherit relative to their size), with F the
root mean square of the force components of a frame (at least 1 eV/Å) and n its number of atoms:

    energy per atom 1e-5 eV, force 1e-4 F, virial 1e-4 F n^(1/2) rcut, energy of an atom 1e-4 eV
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmp_dp.engine import periodic
from lmp_dp.model import DeepPotential
from lmp_dp.tools.compress import OUTER_LIMIT, OUTER_POWER
from lmp_dp.tools.lammps_frames import Frames, Values

#: Energy per atom (eV), force (eV/Å), virial (eV), energy of an atom (eV).
EXACT, COMPRESSED = (1e-10, 1e-9, 1e-8, 1e-9), (1e-8, 1e-6, 1e-5, 1e-7)
FLOAT32_ENERGY, FLOAT32_FORCE, FLOAT32_ATOM = 1e-5, 1e-4, 1e-4


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


@dataclass(frozen=True)
class Tolerances:
    """What two evaluations of a model may differ by.

    Attributes
    ----------
    kind : {"exact", "compressed", "float32"}
    rcut : float
        Cutoff (Å).
    relaxation_f : (n_frames,) float64
        Factor on the tolerances of the kind "compressed".
    """

    kind: str
    rcut: float
    relaxation_f: NDArray[Any]

    @property
    def energy_per_atom(self) -> float:
        """eV, in a frame without close pairs."""
        return {"exact": EXACT[0], "compressed": COMPRESSED[0], "float32": FLOAT32_ENERGY}[
            self.kind
        ]


def tolerances(models: Sequence[DeepPotential], frames: Frames, same: bool) -> Tolerances:
    """Tolerances between model files, or between one and what it was made from.

    Parameters
    ----------
    models : sequence of DeepPotential
    frames : Frames
    same : bool
        True if the same file is evaluated twice, so that its tables make no difference.
    """
    one_f = np.ones(len(frames.positions_fac))
    rcut = models[0].descriptor.rcut
    if any(model.precision != "float64" for model in models):
        return Tolerances("float32", rcut, one_f)
    tabulated = [] if same else [model for model in models if model.descriptor.tables]
    if not tabulated:
        return Tolerances("exact", rcut, one_f)
    factors = [relaxation(frames, model) for model in tabulated]
    return Tolerances("compressed", rcut, np.max(factors, axis=0))


def relaxation(frames: Frames, model: DeepPotential) -> NDArray[Any]:
    """Factor on a compressed model's tolerances, by the closest pair of each frame."""
    d = model.descriptor
    if not d.tables:
        return np.ones(len(frames.positions_fac))
    s_fine = min(
        d.tables[n].inner * d.dstd_tk[t, 0] + d.davg_tk[t, 0]
        for (t, _), n in np.ndenumerate(d.net_tt)
        if n >= 0
    )
    factors = []
    for positions_ac, cell_cc in zip(frames.positions_fac, frames.cells_fcc, strict=True):
        nb = periodic.build(positions_ac, frames.types_a, cell_cc, 1.0 / s_fine).neighbourhood
        centre_p = np.repeat(nb.centres_n, np.diff(nb.offsets_n))
        r_pc = nb.positions_ac[nb.neighbours_p] - nb.positions_ac[centre_p]
        closest = np.linalg.norm(r_pc, axis=1).min(initial=1.0 / s_fine)
        factors.append(min((1.0 / (closest * s_fine)) ** OUTER_POWER, OUTER_LIMIT))
    return np.array(factors)


def quantities(found: Values, target: Values, allowed: Tolerances) -> list[Quantity]:
    """Deviations of `found` from `target`, quantity by quantity."""
    n = target.forces_fac.shape[1]
    if allowed.kind == "float32":
        norm_f = np.maximum(1.0, np.sqrt((target.forces_fac**2).mean(axis=(1, 2))))
        force_f = FLOAT32_FORCE * norm_f
        limits = [
            FLOAT32_ENERGY * np.ones_like(norm_f),
            force_f,
            force_f * np.sqrt(n) * allowed.rcut,
            FLOAT32_ATOM * np.ones_like(norm_f),
        ]
    else:
        values = EXACT if allowed.kind == "exact" else COMPRESSED
        limits = [value * allowed.relaxation_f for value in values]
    return [
        _quantity(name, unit, deviation, limit_f)
        for name, unit, deviation, limit_f in zip(
            ("energy per atom", "force", "virial", "energy of an atom"),
            ("eV", "eV/Å", "eV", "eV"),
            (
                (found.energies_f - target.energies_f) / n,
                found.forces_fac - target.forces_fac,
                found.virials_f - target.virials_f,
                found.atom_energies_fa - target.atom_energies_fa,
            ),
            limits,
            strict=True,
        )
    ]


def _quantity(name: str, unit: str, deviation: NDArray[Any], tolerance_f: NDArray[Any]) -> Quantity:
    absolute = abs(deviation.reshape(len(tolerance_f), -1))
    largest_f = absolute.max(axis=1)
    # a value that is no number is a failure, not a pass
    ratio_f = np.nan_to_num(largest_f / tolerance_f, nan=np.inf)
    worst = int(ratio_f.argmax())
    return Quantity(
        name=name,
        unit=unit,
        maximum=float(absolute.max()),
        rms=float(np.sqrt((absolute**2).mean())),
        worst_frame=worst,
        deviation=float(largest_f[worst]),
        tolerance=float(tolerance_f[worst]),
        ratio=float(ratio_f[worst]),
    )
