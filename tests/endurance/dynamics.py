"""Water for many steps in LAMMPS, with everything on that could keep memory or lose energy.

192 atoms at constant energy on two ranks: a compressed model drives them, a second one is evaluated
for the deviation file, energies and stresses of atoms are dumped. Sizes of the processes are read
all the time: from a tenth of the run on they must be flat within 1 %. The total energy may not
drift by more than kT (300 K) per 1,000 atoms and picosecond, 0.026 meV/atom/ps.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from lmp_dp import child
from lmp_dp.model import load, save
from lmp_dp.tools.compress import compress

INPUTS = Path(__file__).resolve().parents[2] / "lammps_inputs"
STEP_PS = 0.0005
SCRIPT = f"""
units           metal
neighbor        1.0 bin
neigh_modify    every 1 delay 0 check yes
read_data       {INPUTS}/water192.data
pair_style      dp a.h5 b.h5 out_freq 100
pair_coeff      * * O H
velocity        all create 330 4711
fix             1 all nve
timestep        {STEP_PS}
compute         e all pe/atom
compute         s all stress/atom NULL virial
dump            1 all custom 500 atoms.dump id type x y z fx fy fz c_e c_s[1] c_s[4]
thermo_style    custom step temp pe etotal press
thermo_modify   format float %.12g
thermo          100
run             {{steps}}
"""


def resident(pid: int) -> dict[int, int]:
    """Resident kB of the LAMMPS processes below a process, by their numbers."""
    listing = subprocess.run(
        ["ps", "-eo", "pid,ppid,rss,args"], capture_output=True, text=True, check=True
    )
    rows = [line.split(None, 3) for line in listing.stdout.splitlines()[1:]]
    below = {pid}
    for _ in rows:
        more = {int(row[0]) for row in rows if int(row[1]) in below} - below
        if not more:
            break
        below |= more
    return {
        int(r[0]): int(r[2])
        for r in rows
        if int(r[0]) in below and "mpirun" not in r[3] and "in.water" in r[3]
    }


def run(steps: int, _seed: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        save(compress(load(INPUTS / "models/water.h5")), directory / "a.h5")
        save(compress(load(INPUTS / "models/water.h5"), step=0.02), directory / "b.h5")
        (directory / "in.water").write_text(SCRIPT.format(steps=steps))
        command = child.command(
            "import lmp_dp.cli; sys.exit(lmp_dp.cli.main(sys.argv[1:]))", "run", "-in", "in.water"
        )
        mpirun = Path(sys.executable).parent / "mpirun"
        start = time.monotonic()
        sizes: list[tuple[float, dict[int, int]]] = []
        with open(directory / "screen", "w") as screen:
            process = subprocess.Popen(
                [str(mpirun), "-np", "2", *command], cwd=directory, stdout=screen, stderr=screen
            )
            while process.poll() is None:
                sizes.append((time.monotonic() - start, resident(process.pid)))
                time.sleep(0.5)
        log = (directory / "log.lammps").read_text() if process.returncode == 0 else ""
        if not log:
            print((directory / "screen").read_text()[-2000:])
            return 1
        rows = [
            line.split() for line in (directory / "model_devi.out").read_text().splitlines()[1:]
        ]
    thermo = np.array([row for row in map(numbers, log.splitlines()) if row is not None])
    return judge(thermo, sizes, len(rows), steps, time.monotonic() - start)


def numbers(line: str) -> list[float] | None:
    """The five columns of a line of thermodynamic output."""
    parts = line.split()
    if len(parts) != 5:
        return None
    try:
        return [float(part) for part in parts]
    except ValueError:
        return None


def judge(thermo, sizes, n_deviations: int, steps: int, seconds: float) -> int:
    failed = False
    if thermo[-1, 0] != steps or n_deviations != steps // 100 + 1:
        print(f"ended at step {thermo[-1, 0]:.0f}, {n_deviations} rows of deviations")
        failed = True
    energies_m, times_m = thermo[:, 3] / 192, thermo[:, 0] * STEP_PS
    drift = np.polyfit(times_m, energies_m, 1)[0]
    print(
        f"{steps} steps in {seconds:.0f} s; drift {1e3 * drift:.2g} meV/atom/ps, "
        f"spread {1e3 * energies_m.std():.2g} meV/atom, {thermo[:, 1].mean():.0f} K"
    )
    failed |= abs(drift) > 2.6e-5
    last = sizes[-3][0]
    for pid in sizes[-3][1]:
        kept = np.array(
            [now[pid] for at, now in sizes[:-2] if pid in now and at > 0.1 * last], float
        )
        growth = kept.max() / kept.min() - 1
        print(
            f"process: {kept[0] / 1e3:.1f} MB after a tenth of the run, "
            f"{kept[-1] / 1e3:.1f} MB at the end, all sizes within {100 * growth:.2f} %"
        )
        failed |= growth > 0.01
    return int(failed)
