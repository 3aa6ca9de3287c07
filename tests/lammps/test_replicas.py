"""Replicas in partitions of one mpirun: nudged elastic band and parallel tempering."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from lammps_frames import assert_frames_are_right, output
from lammps_runs import run_lammps, thermo

REPLICAS = 3
COPPER = """
clear
units metal
atom_modify map array sort 0 0.0
lattice fcc 3.615
region box block 0 2 0 2 0 2
create_box 1 box
create_atoms 1 box
mass 1 63.546
pair_style dp {model}
pair_coeff * * Cu
"""
#: The atom at (0.5, 0.5, 0) moves to the vacancy at the origin.
HOP = """
group first id 1
delete_atoms group first compress no
"""
NEB = """
fix neb all neb 1.0
timestep 0.01
min_style fire
thermo 50
neb 0.0 0.005 200 50 50 final hop.coords
unfix neb
"""
TEMPER = """
velocity all create $t 4928459
fix bath all nvt temp $t $t 0.05
timestep 0.002
temper 40 5 $t bath 3847 58382
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, cu_model: Path) -> Path:
    path = tmp_path_factory.mktemp("replicas")
    (path / "hop.coords").write_text("1\n2 0.0 0.0 0.0\n")
    start = COPPER.format(model=cu_model)
    text = (
        f"variable p world 0 1 2\nvariable t world 500 550 600\n{start}{HOP}{NEB}"
        + output("neb.${p}")
        + f"run 0\n{start}"
        + output("temper.${p}", 5)
        + TEMPER
    )
    run_lammps(text, path, ranks=REPLICAS, options=("-partition", f"{REPLICAS}x1"))
    # the vacancy and the saddle point again, without NEB: for the latter from half way, where the
    # forces along the hop cancel
    half = "set atom 2 x 0.90375 y 0.90375 z 0.0\n"
    text = "".join(
        f"{start}{HOP}{move}{output(name, 100)}minimize 0 1e-6 200 2000\n"
        for name, move in (("vacancy", ""), ("saddle", half))
    )
    run_lammps(text, path, options=("-log", "none"))
    return path


def test_the_barrier_of_a_vacancy(folder: Path, cu_model: Path) -> None:
    """Three images: by symmetry the middle one comes to the saddle point."""
    rows = [line.split() for line in (folder / "log.lammps").read_text().splitlines()]
    last = [row for row in rows if len(row) >= 9 + 2 * REPLICAS and row[0].isdecimal()][-1]
    forward, backward = float(last[6]), float(last[7])
    vacancy, saddle = (thermo(folder / f"{x}.log")["PotEng"][-1] for x in ("vacancy", "saddle"))
    assert forward == pytest.approx(backward, abs=1e-7)  # both ends are the same crystal
    # 5 meV/Å are left of the forces: an energy of (5e-3)^2 / 2k, with k > 1 eV/Å^2
    assert forward == pytest.approx(saddle - vacancy, abs=2e-5)
    assert 0.5 < forward < 0.9  # copper has 0.7 eV
    for p in range(REPLICAS):
        (frame,) = assert_frames_are_right(folder, f"neb.{p}", cu_model, ["Cu"])
        energy = thermo(folder / f"neb.{p}.log")["PotEng"][0]
        printed = float(last[9 + 2 * p + 1])
        assert printed == pytest.approx(energy, abs=1e-5)  # 8 digits
        assert len(frame.types) == 31


def test_tempering(folder: Path, cu_model: Path) -> None:
    for p in range(REPLICAS):
        assert len(assert_frames_are_right(folder, f"temper.{p}", cu_model, ["Cu"])) == 9
    rows = re.findall(r"^(\d+) (\d) (\d) (\d) *$", (folder / "log.lammps").read_text(), re.M)
    swaps = np.array(rows, dtype=int)[:, 1:]
    assert len(swaps) == 9
    assert (np.sort(swaps, axis=1) == [0, 1, 2]).all()
    assert (swaps != [0, 1, 2]).any()
