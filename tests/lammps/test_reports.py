"""What pair style dp says: warnings of its limits, totals over ranks, times per stage."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from conftest import INPUTS
from lammps_runs import run_lammps
from lmp_dp.lammps import timing
from lmp_dp.model import load, save
from lmp_dp.tools.compress import compress

#: fcc copper, squeezed: more than 120 neighbours within 6 Å, which is sel of the model.
SQUEEZED = """
units metal
lattice fcc 2.95
region box block 0 4 0 3 0 3
create_box 1 box
create_atoms 1 box
mass 1 63.546
pair_style dp {model} {options}
pair_coeff * * Cu
thermo_style custom step pe
{more}
"""


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tables") / "cu.h5"
    save(compress(load(INPUTS / "models" / "cu.h5")), path)
    return path


def neighbours_within_cutoff() -> int:
    """Of one atom of the squeezed lattice, counted here."""
    cells = np.stack(np.meshgrid(*[np.arange(-3, 4)] * 3, indexing="ij"), -1).reshape(-1, 1, 3)
    basis = np.array([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
    distance = np.linalg.norm(2.95 * (cells + basis).reshape(-1, 3), axis=1)
    return int(((distance > 0) & (distance < 6.0)).sum())


@pytest.mark.parametrize("ranks", [1, 2])
def test_too_many_neighbours(ranks: int, cu_model: Path, tmp_path: Path) -> None:
    expected = 144 * (neighbours_within_cutoff() - 120)
    assert expected > 0
    script = SQUEEZED.format(model=cu_model, options="", more="run 0\nrun 0\n")
    output = run_lammps(script, tmp_path, ranks=ranks).output
    warnings = re.findall(
        r"WARNING: pair_style dp: \d+ neighbours within the cutoff exceed", output
    )
    assert 1 <= len(warnings) <= ranks  # once per rank, not per run
    totals = re.findall(r"in total (\d+) neighbours were left out", output)
    # each run evaluates once, and once more in setup where LAMMPS does so
    assert [int(t) % expected for t in totals] == [0, 0]
    assert int(totals[1]) == 2 * int(totals[0]) > 0


def test_too_many_neighbours_as_an_error(cu_model: Path, tmp_path: Path) -> None:
    script = SQUEEZED.format(model=cu_model, options="sel error", more="run 0\n")
    for ranks in (1, 2):
        done = run_lammps(script, tmp_path, ranks=ranks, check=False)
        assert done.returncode != 0
        assert "exceed the model's sel" in done.output
        assert "stopped since 'sel error' is set" in done.output


def test_atoms_too_close_for_the_tables(tables: Path, tmp_path: Path) -> None:
    more = "create_atoms 1 single 0.3 0.3 0.0\nrun 0\n"
    script = SQUEEZED.format(model=tables, options="sel ignore", more=more)
    output = run_lammps(script, tmp_path).output
    assert "pairs of atoms are closer than the model's tables were made for" in output
    assert re.search(r"in total \d+ pairs were closer than the model's tables", output)
    script = SQUEEZED.format(model=tables, options="sel ignore table ignore", more=more)
    assert "WARNING: pair_style dp" not in run_lammps(script, tmp_path).output
    script = SQUEEZED.format(model=tables, options="sel ignore table error", more=more)
    done = run_lammps(script, tmp_path, check=False)
    assert done.returncode != 0
    assert "stopped since 'table error' is set" in done.output


def test_timing(tables: Path, tmp_path: Path) -> None:
    more = "fix 1 all nve\nrun 5\n"
    script = SQUEEZED.format(model=tables, options="sel ignore timing yes", more=more)
    output = run_lammps(script, tmp_path).output
    rows = dict(re.findall(r"^([A-Za-z ]+?) +([\d.]+) +[\d.]+ +[\d.]+$", output, re.MULTILINE))
    assert list(rows) == [
        "neighbours",
        "embedding forward",
        "fitting net",
        "embedding backward",
        "forces",
        "Python and waiting",
    ]
    # kernels are compiled or loaded before the run, and Python's share of a step is small
    per_step = float(rows["Python and waiting"]) / 6
    assert per_step < 2e-3
    script = SQUEEZED.format(model=tables, options="sel ignore", more=more)
    assert "pair_style dp timing" not in run_lammps(script, tmp_path).output


def test_timing_table() -> None:
    text = timing.table({"a": 1.0, "b": 2.0}, wall=2.0, threads=2, atom_steps=1_000_000)
    assert "first rank, 2 threads, 2 s" in text
    assert re.search(r"Python and waiting +1.0000 +1.000 +25.0", text)
