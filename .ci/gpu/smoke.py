"""LAMMPS with backend gpu beside backend cpu, lists kept for several steps: the same energies.

`smoke.py cuda|emulated COPPER WATER FOLDER`, with two compressed models.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from systems import DATA, ROOT

#: eV per atom: of total energies, and of pressure times volume
ALLOWED = 1e-10
#: eV/Å^3 in bar (LAMMPS, units metal)
BAR = 1.6021765e6
SCRIPT = """
units           metal
read_data       {data} nocoeff
replicate       {times} {times} {times}
pair_style      dp {model} backend {backend} timing yes
pair_coeff      * * {elements}
neighbor        1.0 bin
neigh_modify    every 5 delay 0 check no
velocity        all create 600 4711
timestep        0.0005
fix             1 all nve
thermo          1
thermo_style    custom step etotal press vol atoms
thermo_modify   format float %.16g
run             {steps}
"""


@dataclass(frozen=True)
class Case:
    """A run: so many copies of a system along each axis, for so many steps."""

    system: str
    times: int
    steps: int


#: Below and above the size up to which steps are recorded.
ON_A_DEVICE = (
    Case("copper", 3, 20),
    Case("copper", 12, 20),
    Case("water", 1, 20),
    Case("water", 3, 20),
)
EMULATED = (Case("copper", 2, 6),)


def rows_of(log: str) -> np.ndarray:
    """The last thermo table of a log: (rows, columns)."""
    lines = log.splitlines()
    first = max(k for k, line in enumerate(lines) if line.split()[:1] == ["Step"])
    rows = []
    for line in lines[first + 1 :]:
        if line.startswith("Loop time"):
            break
        if not line.startswith("WARNING"):
            rows.append([float(word) for word in line.split()])
    return np.array(rows)


def deviations(rows: np.ndarray, others: np.ndarray) -> tuple[float, float]:
    """Largest difference of total energy, and of pressure times volume, per atom (eV).

    Columns are step, energy (eV), pressure (bar), volume (Å^3), atoms.

    Raises
    ------
    ValueError
        The runs have not the same steps and atoms, or something is not a finite number.
    """
    if rows.shape != others.shape or not np.array_equal(rows[:, [0, 4]], others[:, [0, 4]]):
        raise ValueError("the runs differ in steps or atoms")
    if not (np.isfinite(rows).all() and np.isfinite(others).all()):
        raise ValueError("energies or pressures are not finite")
    n_atoms = rows[:, 4]
    energy = np.abs(rows[:, 1] - others[:, 1]) / n_atoms
    pressure = np.abs(rows[:, 2] - others[:, 2]) / BAR * rows[:, 3] / n_atoms
    return float(energy.max()), float(pressure.max())


def run(case: Case, model: Path, backend: str, program: Sequence[str], folder: Path) -> np.ndarray:
    """The thermo table of a run in `folder`, where input, log and output stay."""
    folder.mkdir(parents=True, exist_ok=True)
    data, elements = DATA[case.system]
    (folder / "in.lammps").write_text(
        SCRIPT.format(
            data=data, times=case.times, model=model.resolve(), backend=backend,
            elements=" ".join(elements), steps=case.steps,
        )
    )  # fmt: skip
    command = [*program, "run", "-in", "in.lammps", "-log", "log.lammps", "-nocite"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    output = done.stdout + done.stderr
    (folder / "output.txt").write_text(output)
    if done.returncode:
        raise RuntimeError(
            f"{case}, backend {backend}, status {done.returncode}:\n{output[-3000:]}"
        )
    if backend == "gpu" and "backend gpu" not in output:
        raise RuntimeError(f"{case}: the log does not say that backend gpu ran:\n{output[-3000:]}")
    return rows_of((folder / "log.lammps").read_text())


def main(arguments: Sequence[str] | None = None) -> int:
    """0 if all runs agree."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("device", choices=("cuda", "emulated"))
    parser.add_argument("copper", type=Path, help="compressed model")
    parser.add_argument("water", type=Path, help="compressed model")
    parser.add_argument("folder", type=Path, help="for inputs and logs")
    args = parser.parse_args(arguments)
    installed = [str(Path(sysconfig.get_path("scripts"), "lmp-dp"))]
    on_emulated = ROOT / "tests" / "lammps" / "run_on_device.py"
    stand_in = [sys.executable, str(on_emulated), "emulated", "0", "lmp-dp"]
    worst = 0.0
    for case in ON_A_DEVICE if args.device == "cuda" else EMULATED:
        model = args.copper if case.system == "copper" else args.water
        where = args.folder / f"{case.system}_{case.times}"
        cpu = run(case, model, "cpu", installed, where / "cpu")
        program = installed if args.device == "cuda" else stand_in
        gpu = run(case, model, "gpu", program, where / "gpu")
        energy, pressure = deviations(cpu, gpu)
        worst = max(worst, energy, pressure)
        print(
            f"{case.system}, {int(cpu[0, 4])} atoms, {case.steps} steps: total energies differ by "
            f"{energy:.1e}, pressure times volume by {pressure:.1e} eV/atom",
            flush=True,
        )
    print(f"{'ok' if worst <= ALLOWED else 'TOO MUCH'}: at most {worst:.1e}, allowed {ALLOWED:g}")
    return 0 if worst <= ALLOWED else 1


if __name__ == "__main__":
    sys.exit(main())
