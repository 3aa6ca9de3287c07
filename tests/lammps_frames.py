"""Every frame that a LAMMPS run wrote, evaluated again without LAMMPS.

Whatever a run did to atoms, types, box and neighbour lists: energy, virial and forces of each step
must be those of the reference backend for the positions, types and box that were written, found
with its own neighbour search. (That backend is compared with DeePMD-kit in tests/engine.)
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lammps_runs import BAR, thermo
from lmp_dp import Potential

#: xx yy zz xy xz yz of a (3, 3) array, LAMMPS's order.
SIX = ([0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2])
#: Round-off: of 1e2 atoms with energies of 1 eV to 1e2 eV, and of neighbour sums in another order.
ENERGY, FORCE, VIRIAL = 1e-9, 1e-10, 1e-8


@dataclass
class Frame:
    """One frame of a dump; `cell` has the lattice vectors as rows."""

    step: int
    cell: np.ndarray
    periodic: tuple[bool, bool, bool]
    columns: dict[str, np.ndarray]

    def vectors(self, *names: str) -> np.ndarray:
        return np.stack([self.columns[name] for name in names], axis=1)

    @property
    def types(self) -> np.ndarray:
        return self.columns["type"].astype(int)


def output(name: str, every: int = 1) -> str:
    """Commands that write `name`.log and `name`.dump."""
    return f"""
log {name}.log
compute virial all pressure NULL virial
thermo {every}
thermo_style custom step pe ke etotal press vol atoms c_virial[*]
thermo_modify format float %.17g norm no lost error
dump frames all custom {every} {name}.dump id type x y z vx vy vz fx fy fz
dump_modify frames sort id format float %.17g
"""


def read_frames(path: Path) -> list[Frame]:
    """All frames of a custom dump; the number of atoms and the box may change."""
    found = []
    for block in path.read_text().split("ITEM: TIMESTEP\n")[1:]:
        header, _, body = block.partition("ITEM: ATOMS ")
        lines = header.splitlines()
        at = next(k for k, line in enumerate(lines) if line.startswith("ITEM: BOX BOUNDS"))
        bounds = np.array([line.split() for line in lines[at + 1 : at + 4]], dtype=float)
        xy, xz, yz = bounds[:, 2] if bounds.shape[1] == 3 else (0.0, 0.0, 0.0)
        low, high = bounds[:, 0].copy(), bounds[:, 1].copy()
        low[:2] -= [min(0.0, xy, xz, xy + xz), min(0.0, yz)]
        high[:2] -= [max(0.0, xy, xz, xy + xz), max(0.0, yz)]
        cell = np.diag(high - low)
        cell[1, 0], cell[2, 0], cell[2, 1] = xy, xz, yz
        x, y, z = (word == "pp" for word in lines[at].split()[-3:])
        first, _, rows = body.partition("\n")
        names = first.split()
        table = np.array(rows.split(), dtype=float).reshape(-1, len(names))
        columns = {name: table[:, k] for k, name in enumerate(names)}
        found.append(Frame(int(lines[0]), cell, (x, y, z), columns))
    return found


@functools.cache
def potential(model: Path) -> Potential:
    return Potential(model, backend="reference")


def assert_frames_are_right(
    folder: Path, name: str, model: Path, elements: Sequence[str]
) -> list[Frame]:
    """Compare each frame and the line of thermo output of its step.

    `elements` names the element of each LAMMPS type; "NULL" is an atom without energy.
    """
    table = thermo(folder / f"{name}.log")
    rows: dict[int, int] = {}
    for k, step in enumerate(table["Step"]):
        rows.setdefault(int(step), k)  # as in the dump, which has a step once
    frames = read_frames(folder / f"{name}.dump")
    assert frames
    kinds = ["NULL", *elements]
    for frame in frames:
        k = rows[frame.step]
        names = np.array([kinds[t] for t in frame.types])
        seen = names != "NULL"
        expected = potential(model).evaluate(
            frame.vectors("x", "y", "z")[seen], names[seen], frame.cell, frame.periodic
        )
        where = f"{name}, step {frame.step}"
        assert len(names) == table["Atoms"][k], where
        np.testing.assert_allclose(
            table["PotEng"][k], expected.energy, rtol=0, atol=ENERGY, err_msg=where
        )
        forces = np.zeros((len(names), 3))
        forces[seen] = expected.forces
        np.testing.assert_allclose(
            frame.vectors("fx", "fy", "fz"), forces, rtol=0, atol=FORCE, err_msg=where
        )
        w = 0.5 * (expected.virial + expected.virial.T)
        virial = w[SIX]
        found = [table[f"c_virial[{c}]"][k] * table["Volume"][k] / BAR for c in range(1, 7)]
        np.testing.assert_allclose(found, virial, rtol=0, atol=VIRIAL, err_msg=where)
    return frames
