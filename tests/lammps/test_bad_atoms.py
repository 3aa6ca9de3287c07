"""Errors in the middle of a run, on one rank of several or on all: named, and no rank hangs."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lammps_runs import run_lammps
from lmp_dp.engine import Neighbourhood
from lmp_dp.engine.neighbourhood import Result
from lmp_dp.errors import RangeError
from lmp_dp.lammps import bad_atoms

COPPER = """
units metal
atom_modify map yes
lattice fcc 3.615
region box block 0 4 0 2 0 2
create_box 1 box
create_atoms 1 box
mass 1 63.546
pair_style dp {model}
pair_coeff * * Cu
velocity all create 300 77
timestep 0.001
fix nve all nve
group one id 37
variable nan equal 1e308*10-1e308*10
{commands}
"""
#: Long before this a hanging rank is sure; short enough for the suite.
SECONDS = 60.0


def ended(model: Path, commands: str, folder: Path, ranks: int) -> str:
    done = run_lammps(
        COPPER.format(model=model, commands=commands),
        folder,
        ranks=ranks,
        check=False,
        timeout=SECONDS,
    )
    assert done.returncode != 0
    assert "Traceback" not in done.output
    return done.output


@pytest.fixture(scope="module")
def tables(compressed_file: Callable[[str], Path]) -> Path:
    return compressed_file("cu")


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_a_position_that_is_nan(cu_model: Path, tmp_path: Path, ranks: int) -> None:
    commands = "run 2\nfix bad one addforce v_nan 0.0 0.0\nrun 1000"
    output = ended(cu_model, commands, tmp_path, ranks)
    assert re.search(r"ERROR.*pair_style dp: atom 37 \(its ID\) is at -?nan [\d.e-]+", output)
    assert "is the timestep too long" in output


@pytest.mark.parametrize("ranks", [1, 2])
def test_two_atoms_in_one_place(cu_model: Path, tables: Path, tmp_path: Path, ranks: int) -> None:
    where = "variable x equal x[37]\nvariable y equal y[37]\nvariable z equal z[37]\n"
    place = "set atom 38 x ${x} y ${y} z ${z}\nrun 10"
    for model in (cu_model, tables):
        output = ended(model, where + place, tmp_path, ranks)
        assert re.search(
            r"pair_style dp: the force on atom \d+ \(its ID\) is .*nan.*; the nearest two atoms "
            r"here, 3[78] and 3[78], are 0 A apart",
            output,
        )


@pytest.mark.parametrize("ranks", [1, 2])
def test_lost_atoms(cu_model: Path, tmp_path: Path, ranks: int) -> None:
    """LAMMPS's own error."""
    commands = "change_box all boundary f p p\nvelocity one set 1e7 0 0\nrun 100"
    assert "ERROR: Lost atoms" in ended(cu_model, commands, tmp_path, ranks)


def test_checks_of_arrays() -> None:
    tags = np.array([7, 9, 4], np.int32)
    sound = np.arange(9.0).reshape(3, 3)
    bad_atoms.check_positions(sound, tags)
    bad_atoms.check_positions(np.full((3, 3), 1e308), tags)  # the sum overflows, no atom is bad
    bad_atoms.check_positions(np.empty((0, 3)), np.empty(0, np.int32))
    broken = sound.copy()
    broken[1, 2] = np.inf
    with pytest.raises(RangeError, match=r"atom 9 \(its ID\) is at 3 4 inf"):
        bad_atoms.check_positions(broken, tags)


def test_checks_of_results() -> None:
    tags = np.array([7, 9, 4], np.int32)
    here = Neighbourhood(
        positions_ac=np.array([[0.0, 0, 0], [2.0, 0, 0], [2.0, 0.5, 0]]),
        types_a=np.zeros(3, np.int32),
        n_local=2,
        centres_n=np.arange(2, dtype=np.int32),
        offsets_n=np.array([0, 2, 4]),
        neighbours_p=np.array([1, 2, 0, 2], np.int32),
    )
    forces = np.zeros((3, 3))
    bad_atoms.check_result(Result(energy=1.0, forces_ac=forces), here, tags)
    with pytest.raises(RangeError, match="the energy is nan"):
        bad_atoms.check_result(Result(energy=float("nan"), forces_ac=forces), here, tags)
    forces[0, 1] = np.nan
    with pytest.raises(RangeError, match=r"atom 7 .* is 0 nan 0; .*, 9 and 4, are 0.5 A apart"):
        bad_atoms.check_result(Result(energy=1.0, forces_ac=forces), here, tags)


# ------------------------------------------------------------------------ errors of other kinds


def test_a_damaged_model_on_two_ranks(cu_model: Path, tmp_path: Path) -> None:
    data = bytearray(cu_model.read_bytes())
    data[len(data) // 2] ^= 4
    broken = tmp_path / "broken.h5"
    broken.write_bytes(data)
    output = ended(broken, "run 0", tmp_path, 2)
    assert output.count("ERROR") == 1
    assert f"pair_style dp: {broken}: the file is damaged" in output


FAILS_ON_ONE_RANK = """
import os, sys
from lmp_dp.lammps import launcher, pair_style

compute = pair_style.PairStyle.compute

def failing(self):
    if os.environ["PMI_RANK"] == "1" and self.shared.step.timestep == 3:
        raise ZeroDivisionError("on purpose")
    compute(self)

pair_style.PairStyle.compute = failing
sys.exit(launcher.main(["-in", "in.lammps", "-nocite"]))
"""


def test_an_exception_on_one_rank_of_two(cu_model: Path, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(FAILS_ON_ONE_RANK)
    done = run_lammps(
        COPPER.format(model=cu_model, commands="run 1000"),
        tmp_path,
        ranks=2,
        program=(sys.executable, "program.py"),
        check=False,
        timeout=SECONDS,
    )
    assert done.returncode != 0
    assert "ERROR on proc 1: pair_style dp: ZeroDivisionError: on purpose" in done.output
    assert "LMP_DP_TRACEBACK=1 in the environment shows where" in done.output
