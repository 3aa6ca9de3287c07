"""Short runs at constant energy with pair style dp and with what it is compared with.

Both start from the same positions and velocities. The total energy departs from its first value by
the error of the time step, which is a property of the potential: a style whose forces do not fit
its energies departs further. Passed: at most twice as far as the other (two trajectories that have
parted sample different peaks of that error), or less than the energies may differ anyway. Radial
distribution functions stand side by side; of them only the largest difference is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from lmp_dp.tools.lammps_frames import Frames, Trajectory, simulate

FACTOR = 2.0


@dataclass(frozen=True)
class Dynamics:
    """Two runs.

    Attributes
    ----------
    steps : int
    found, target : Trajectory
        Of pair style dp, and of what it is compared with.
    pairs : list of str
        Elements of each radial distribution function.
    n_atoms : int
    allowed : float
        By how much energies may differ in any case (eV/atom).
    """

    steps: int
    found: Trajectory
    target: Trajectory
    pairs: list[str]
    n_atoms: int
    allowed: float

    def departure(self, run: Trajectory) -> float:
        """Largest change of the total energy (eV/atom)."""
        return float(abs(run.energies_z - run.energies_z[0]).max() / self.n_atoms)

    @property
    def tolerance(self) -> float:
        """What the departure of pair style dp is allowed to be (eV/atom)."""
        return max(FACTOR * self.departure(self.target), self.allowed)

    @property
    def passed(self) -> bool:
        """True if the departure is a number and within its tolerance."""
        return bool(self.departure(self.found) <= self.tolerance)

    @property
    def largest_rdf_difference(self) -> float:
        """Between the radial distribution functions."""
        return float(abs(self.found.rdf_uh - self.target.rdf_uh).max())

    def as_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return {
            "passed": self.passed,
            "steps": self.steps,
            "picoseconds": float(self.found.times_z[-1]),
            "energy_departure": self.departure(self.found),
            "energy_departure_of_target": self.departure(self.target),
            "tolerance": self.tolerance,
            "largest_rdf_difference": self.largest_rdf_difference,
            "pairs": self.pairs,
            "distances": self.found.distances_h.tolist(),
            "rdf": self.found.rdf_uh.tolist(),
            "rdf_of_target": self.target.rdf_uh.tolist(),
        }


def compare(
    frames: Frames, style: str, yardstick: str, elements: Sequence[str], steps: int, allowed: float
) -> Dynamics:
    """Run both pair styles from the first frame.

    Raises
    ------
    LammpsRunError
        A run ends with an error.
    """
    pairs = [(i, j) for i in range(len(elements)) for j in range(i, len(elements))]
    present = set((frames.types_a - 1).tolist())
    kept = [q for q, pair in enumerate(pairs) if present.issuperset(pair)]
    runs = [simulate(frames, one, elements, steps) for one in (style, yardstick)]
    found, target = (replace(run, rdf_uh=run.rdf_uh[kept]) for run in runs)
    return Dynamics(
        steps=steps,
        found=found,
        target=target,
        pairs=[f"{elements[i]}-{elements[j]}" for i, j in (pairs[q] for q in kept)],
        n_atoms=len(frames.types_a),
        allowed=allowed,
    )
