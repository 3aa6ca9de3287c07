"""Frames evaluated by real LAMMPS runs of any pair style, each style in a process of its own.

Two pair styles that bring their own runtimes (Python here, TensorFlow there) stay apart this way,
and an error in one is only that. Numbers travel as binary arrays, not as LAMMPS's rounded text.
The other process runs `lmp_dp.tools.lammps_worker`.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmp_dp import child
from lmp_dp.errors import InputError, LmpDpError
from lmp_dp.lammps.type_table import STANDARD_MASSES
from lmp_dp.tools.data_file import DataFile, reduced

_WORKER = "from lmp_dp.tools import lammps_worker; lammps_worker.main(*sys.argv[1:])"


class LammpsRunError(LmpDpError):
    """A LAMMPS run could not be started, or ended with an error."""


@dataclass(frozen=True)
class Frames:
    """Configurations of the same atoms, periodic in all directions (Å, g/mol).

    Attributes
    ----------
    types_a : (n,) int32
        LAMMPS types, from 1.
    masses_y : (n_types,) float64
    positions_zac : (n_frames, n, 3) float64
    cells_zcc : (n_frames, 3, 3) float64
        Lattice vectors as rows, lower triangular as in LAMMPS; the box begins at the origin.
    """

    types_a: NDArray[Any]
    masses_y: NDArray[Any]
    positions_zac: NDArray[Any]
    cells_zcc: NDArray[Any]

    def with_masses(self, elements: Sequence[str]) -> Frames:
        """The same with masses that are NaN replaced by those of elements (of NULL: 1 g/mol).

        Raises
        ------
        InputError
            A name is not that of an element.
        """
        masses_y = self.masses_y.copy()
        for t in np.flatnonzero(np.isnan(masses_y)).tolist():
            name = elements[t] if t < len(elements) else "NULL"
            if name != "NULL" and name not in STANDARD_MASSES:
                raise InputError(
                    f"the data file has no masses, and {name} (LAMMPS type {t + 1}) is no element "
                    "with a known one: write a section Masses"
                )
            masses_y[t] = STANDARD_MASSES.get(name, 1.0)
        return replace(self, masses_y=masses_y)


@dataclass(frozen=True)
class Values:
    """What LAMMPS gives for `Frames` (eV, Å).

    Attributes
    ----------
    energies_z : (n_frames,) float64
    forces_zac : (n_frames, n, 3) float64
    virials_zu : (n_frames, 6) float64
        xx yy zz xy xz yz of the pressure without its kinetic part, times the volume.
    atom_energies_za : (n_frames, n) float64
    warnings : sequence of str
        Of pair style dp.
    """

    energies_z: NDArray[Any]
    forces_zac: NDArray[Any]
    virials_zu: NDArray[Any]
    atom_energies_za: NDArray[Any]
    warnings: Sequence[str] = ()


@dataclass(frozen=True)
class Trajectory:
    """What a short run at constant energy gives.

    Attributes
    ----------
    times_z : (n_samples,) float64
        ps.
    energies_z : (n_samples,) float64
        Total energy (eV).
    temperatures_z : (n_samples,) float64
        K.
    distances_h : (n_bins,) float64
        Å.
    rdf_uh : (n_pairs_of_types, n_bins) float64
        Radial distribution functions of types 1 1, 1 2, ..., 2 2, ..., averaged over the run.
    warnings : sequence of str
        Of pair style dp.
    """

    times_z: NDArray[Any]
    energies_z: NDArray[Any]
    temperatures_z: NDArray[Any]
    distances_h: NDArray[Any]
    rdf_uh: NDArray[Any]
    warnings: Sequence[str] = ()


def read_data(path: Path) -> tuple[Frames, DataFile]:
    """The configuration of a LAMMPS data file, read by LAMMPS itself; and what else the file says.

    Masses that are not in the file are NaN (`Frames.with_masses`).

    Raises
    ------
    InputError
        The file is none that can be used.
    LammpsRunError
        LAMMPS cannot read the file.
    """
    with tempfile.TemporaryDirectory(prefix="lmp_dp_") as directory:
        copy = Path(directory, "reduced.data")
        described = reduced(path, copy)
        job = {"task": "read", "data": str(copy), "atom_style": described.atom_style}
        frames = Frames(**_run(job, {}, f"reading {path}"))
    if not described.masses:
        frames = replace(frames, masses_y=np.full_like(frames.masses_y, np.nan))
    return frames, described


def write_data(frames: Frames, path: Path) -> None:
    """The first frame as a LAMMPS data file of atom style atomic."""
    (xx, _, _), (xy, yy, _), (xz, yz, zz) = frames.cells_zcc[0].tolist()
    with path.open("w") as file:
        file.write(
            f"written by lmp-dp\n\n{len(frames.types_a)} atoms\n"
            f"{len(frames.masses_y)} atom types\n0 {xx!r} xlo xhi\n0 {yy!r} ylo yhi\n"
            f"0 {zz!r} zlo zhi\n{xy!r} {xz!r} {yz!r} xy xz yz\n\nMasses\n\n"
        )
        for number, mass in enumerate(frames.masses_y.tolist(), start=1):
            file.write(f"{number} {mass!r}\n")
        file.write("\nAtoms # atomic\n\n")
        atoms = zip(frames.types_a.tolist(), frames.positions_zac[0].tolist(), strict=True)
        for number, (kind, (x, y, z)) in enumerate(atoms, start=1):
            file.write(f"{number} {kind} {x!r} {y!r} {z!r}\n")


def quoted(path: Path) -> str:
    """A path as one argument of a LAMMPS command.

    Raises
    ------
    LammpsRunError
        LAMMPS has no way to write it.
    """
    text = str(path)
    free = [quote for quote in "\"'" if quote not in text]
    if not free or not text.isprintable():
        raise LammpsRunError(
            f"LAMMPS cannot read a path with both kinds of quotes, or one that is not printable "
            f"UTF-8: {text!r}"
        )
    return f"{free[0]}{text}{free[0]}"


def warnings_of_dp(output: str) -> list[str]:
    """The warnings of pair style dp in LAMMPS's output, each once."""
    found = re.findall(r"^WARNING: (pair_style dp: .*?)(?: \(\S+\))?$", output, re.MULTILINE)
    return list(dict.fromkeys(found))


def reason_of(output: str, status: int) -> str:
    """The line that tells why LAMMPS failed: its error, or the last one of a traceback."""
    lines = [line.strip() for line in output.splitlines()]
    errors = [line.partition("ERROR")[2].lstrip(": ") for line in lines if "ERROR" in line]
    said = [line for line in lines if line]
    return (errors or said or [f"the process ended with status {status}"])[-1]


def evaluate(frames: Frames, pair_styles: Sequence[str], elements: Sequence[str]) -> list[Values]:
    """Energies, forces and virials of pair styles, one after the other in one process.

    Parameters
    ----------
    frames : Frames
    pair_styles : sequence of str
        Arguments of the command pair_style, for each.
    elements : sequence of str
        What follows `pair_coeff * *`.

    Raises
    ------
    LammpsRunError
        With LAMMPS's own message.
    """
    job = {"task": "evaluate", "pair_styles": list(pair_styles), "elements": list(elements)}
    found = _run(job, vars(frames), f"pair_style {' or '.join(pair_styles)}")
    names = [field.name for field in fields(Values)]
    return [Values(*(found[f"{k}/{name}"] for name in names)) for k in range(len(pair_styles))]


def simulate(frames: Frames, pair_style: str, elements: Sequence[str], steps: int) -> Trajectory:
    """A run of the first frame at constant energy, from random velocities of 300 K.

    The time step is 1 fs, or 0.25 fs with atoms lighter than 5 g/mol. Two pair styles that give the
    same forces start the same trajectory.

    Raises
    ------
    LammpsRunError
        With LAMMPS's own message.
    """
    job = {"task": "simulate", "pair_style": pair_style, "elements": list(elements)}
    return Trajectory(**_run({**job, "steps": steps}, vars(frames), f"pair_style {pair_style}"))


def _run(job: dict[str, Any], arrays: dict[str, Any], what: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="lmp_dp_") as directory:
        given, result = Path(directory, "given.npz"), Path(directory, "result.npz")
        np.savez(given, job=json.dumps(job), **arrays)
        done = subprocess.run(
            child.command(_WORKER, str(given), str(result)),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode or not result.exists():
            said = f"{done.stdout}\n{done.stderr}"
            raise LammpsRunError(f"{what}: {reason_of(said, done.returncode)}")
        with np.load(result) as loaded:
            return {
                name: array.tolist() if name.endswith("warnings") else array
                for name, array in loaded.items()
            }
