"""What pair style dp says: warnings of its limits, totals over ranks, times per stage."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lammps_runs import dump, run_lammps
from lmp_dp.lammps import timing

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
def tables(compressed_file: Callable[[str], Path]) -> Path:
    return compressed_file("cu")


def neighbours_within_cutoff() -> int:
    """Of one atom of the squeezed lattice, counted here."""
    cells = np.stack(np.meshgrid(*[np.arange(-3, 4)] * 3, indexing="ij"), -1).reshape(-1, 1, 3)
    basis = np.array([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
    distance = np.linalg.norm(2.95 * (cells + basis).reshape(-1, 3), axis=1)
    return int(((distance > 0) & (distance < 6.0)).sum())


#: A cluster in the last quarter of the box shrinks around its centre, forces are ignored; the run
#: is ended by an error. Lengths in Å, times in ps.
SHRINKING = """
units metal
processors * 1 1
lattice sc 15
region box block 0 4 0 2 0 2
create_box 1 box
create_atoms 1 region box
lattice fcc 3.6 origin 0.1 0.1 0.1
region corner block 12.5 16.5 1 5 1 5
delete_atoms region corner
create_atoms 1 region corner
group cluster region corner
mass 1 63.546
neigh_modify delay 0
pair_style dp {model}
pair_coeff * * Cu
variable vx atom -25*(x-{centre[0]})
variable vy atom -25*(y-{centre[1]})
variable vz atom -25*(z-{centre[2]})
velocity cluster set v_vx v_vy v_vz
fix 1 all nve/noforce
dump 1 cluster custom 1000 start.dump x y z
dump_modify 1 format float %.17g
thermo 1000
variable step equal step
fix 2 all halt 1 v_step >= 18 error hard
run 1000
"""


def excess(x_ac: np.ndarray, sel: int) -> int:
    """Neighbours within 6 Å beyond `sel`, over all atoms; no periodic images."""
    distance_aa = np.linalg.norm(x_ac[:, None] - x_ac, axis=2)
    return int(np.maximum((distance_aa < 6.0).sum(axis=1) - 1 - sel, 0).sum())


def test_what_one_rank_sees_is_said_during_the_run(cu_model: Path, tmp_path: Path) -> None:
    centre = np.array([52.2, 10.8, 10.8])
    script = SHRINKING.format(model=cu_model, centre=centre)
    said = set()
    for ranks in (1, 2, 4):
        done = run_lammps(script, tmp_path, ranks=ranks, check=False)
        assert done.returncode != 0
        assert "Fix halt condition" in done.output
        assert "in total" not in done.output
        (found,) = re.findall(
            r"WARNING: pair_style dp: (\d+) neighbours within the cutoff exceed the model's sel; "
            r".* \(up to step (\d+)\)",
            done.output,
        )
        said.add((int(found[0]), int(found[1])))
    ((count, step),) = said
    start = dump(tmp_path / "start.dump")
    start_ac = np.stack([start[c][0] for c in "xyz"], axis=1)
    assert (start_ac[:, 0] > 45.0).all()  # on the last rank of four, and no other
    per_step = [
        excess(centre + (start_ac - centre) * (1.0 - 0.025 * s), 120) for s in range(step + 1)
    ]
    assert per_step[0] == 0
    assert count == sum(per_step) > 0
    assert step < 18


def test_an_error_that_one_rank_sees_ends_all(cu_model: Path, tmp_path: Path) -> None:
    centre = np.array([52.2, 10.8, 10.8])
    script = SHRINKING.format(model=f"{cu_model} sel error", centre=centre)
    done = run_lammps(script, tmp_path, ranks=4, check=False, timeout=60.0)
    assert done.returncode != 0
    assert "ERROR on proc 3: pair_style dp: 80 neighbours within the cutoff exceed" in done.output
    assert "Fix halt condition" not in done.output


@pytest.mark.parametrize("ranks", [1, 2])
def test_too_many_neighbours(ranks: int, cu_model: Path, tmp_path: Path) -> None:
    expected = 144 * (neighbours_within_cutoff() - 120)
    assert expected > 0
    script = SQUEEZED.format(model=cu_model, options="", more="run 0\nrun 0\n")
    output = run_lammps(script, tmp_path, ranks=ranks).output
    warnings = re.findall(
        r"WARNING: pair_style dp: \d+ neighbours within the cutoff exceed", output
    )
    assert len(warnings) == 1
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
