"""What is measured: bulk copper and water of any size, as the engine is given it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lmp_dp.engine import periodic
from lmp_dp.engine.neighbourhood import Neighbourhood

ROOT = Path(__file__).resolve().parents[2]
#: Data files of LAMMPS, and the elements of their types.
DATA = {
    "copper": (ROOT / "lammps_inputs" / "benchmarks" / "copper.data", ("Cu",)),
    "water": (ROOT / "lammps_inputs" / "water192.data", ("O", "H")),
}


@dataclass(frozen=True)
class System:
    """A periodic cell.

    Attributes
    ----------
    positions_ac : (n, 3) float64
        Å.
    types_a : (n,) int32
        Model types.
    edges_c : (3,) float64
        Of the orthogonal cell (Å).
    """

    positions_ac: np.ndarray
    types_a: np.ndarray
    edges_c: np.ndarray

    def replicated(self, times: int) -> System:
        """So many copies along each axis."""
        shifts = np.stack(np.meshgrid(*[np.arange(times)] * 3, indexing="ij"), -1).reshape(-1, 1, 3)
        return System(
            (shifts * self.edges_c + self.positions_ac).reshape(-1, 3),
            np.tile(self.types_a, times**3),
            self.edges_c * times,
        )

    def shaken(self, width: float) -> System:
        """Each coordinate moved by a normal deviate (Å), the same ones each time."""
        rng = np.random.default_rng(1)
        moved_ac = self.positions_ac + rng.normal(0.0, width, self.positions_ac.shape)
        return System(moved_ac, self.types_a, self.edges_c)

    def neighbourhood(self, rcut: float, skin: float) -> Neighbourhood:
        """With ghosts and without lists, which the gpu backend makes itself and then keeps."""
        cell_cc = np.diag(self.edges_c)
        found = periodic.build(self.positions_ac, self.types_a, cell_cc, rcut + skin, lists=False)
        found.neighbourhood.skin, found.neighbourhood.build = skin, 1
        return found.neighbourhood


def system(name: str, type_map: tuple[str, ...], times: int) -> System:
    """Copper (4 atoms) or water (192 atoms), `times` along each axis, off its lattice sites."""
    path, elements = DATA[name]
    one = read(path, np.array([type_map.index(element) for element in elements], np.int32))
    # water was equilibrated, and its copies must not be alike
    return one.replicated(times).shaken(0.1 if name == "copper" else 0.01)


def read(path: Path, model_type_of: np.ndarray) -> System:
    """The atoms of a data file in atom style atomic with an orthogonal box.

    Parameters
    ----------
    path : Path
    model_type_of : (n,) int32
        Model type of each of LAMMPS's types, which count from 1.
    """
    lines = path.read_text().splitlines()
    bounds = [line.split() for line in lines if line.split()[2:3] in (["xlo"], ["ylo"], ["zlo"])]
    edges_c = np.array([float(high) - float(low) for low, high, *_ in bounds])
    first = next(k for k, line in enumerate(lines) if line.split()[:1] == ["Atoms"]) + 2
    rows = []
    for line in lines[first:]:
        if not line.strip():
            break
        rows.append([float(word) for word in line.split()[:5]])
    table = np.array(rows)
    return System(table[:, 2:5], model_type_of[table[:, 1].astype(int) - 1], edges_c)
