"""Formulas of model deviation against np.std, and its file when there is no room for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lmp_dp.errors import InputError
from lmp_dp.lammps.model_deviation import DeviationFile, force_deviation, virial_deviation

#: Sums of a few numbers of order one.
ROUND_OFF = 1e-14


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)


@pytest.mark.parametrize("n_models", [2, 3, 4])
def test_forces(n_models: int, rng: np.random.Generator) -> None:
    """As DeePMD-kit's tests have it: the norm of the standard deviations of x, y and z."""
    forces = rng.normal(size=(7, n_models, 3))
    expected = np.linalg.norm(np.std(forces, axis=1), axis=1)
    np.testing.assert_allclose(force_deviation(forces), expected, atol=ROUND_OFF)
    relative = expected / (np.linalg.norm(np.mean(forces, axis=1), axis=1) + 0.3)
    np.testing.assert_allclose(force_deviation(forces, 0.3), relative, atol=ROUND_OFF)


@pytest.mark.parametrize("n_models", [2, 4])
def test_virials(n_models: int, rng: np.random.Generator) -> None:
    virials = rng.normal(size=(n_models, 9))
    expected = np.std(virials, axis=0) / 11
    np.testing.assert_allclose(virial_deviation(virials, 11), expected, atol=ROUND_OFF)
    relative = expected / (np.abs(np.mean(virials, axis=0)) / 11 + 0.2)
    np.testing.assert_allclose(virial_deviation(virials, 11, 0.2), relative, atol=ROUND_OFF)


def test_models_that_agree_do_not_deviate(rng: np.random.Generator) -> None:
    same = np.repeat(rng.normal(size=(5, 1, 3)), 4, axis=1)
    assert (force_deviation(same) < ROUND_OFF).all()
    # without a force and a level a relative deviation is no number, but no failure either
    assert np.isnan(force_deviation(np.zeros((1, 2, 3)), 0.0)).all()


HEADER = (
    "#       step         max_devi_v         min_devi_v         avg_devi_v"
    "         max_devi_f         min_devi_f         avg_devi_f"
)
ROW = (
    "          20       3.000000e+00       1.000000e+00       2.236068e+00"
    "       9.000000e+00       1.000000e-10       4.333333e+00"
)
VIRIAL = np.array([1.0, 3.0, *np.full(7, np.sqrt(5.0))])  # mean square 5
FORCES = np.array([4.0, 1e-10, 9.0])


def test_rows_are_formatted_and_appended(tmp_path: Path) -> None:
    path = tmp_path / "devi.out"
    path.write_text("to be overwritten\n")
    file = DeviationFile(path, append=False, atomic=False)
    file.write(20, VIRIAL, FORCES, None)
    file.close()
    assert path.read_text() == f"{HEADER}\n{ROW}\n"
    file = DeviationFile(path, append=True, atomic=True)
    file.write(20, VIRIAL, FORCES, np.array([12, 5, 7], np.int32))
    file.close()
    by_id = "       1.000000e-10       9.000000e+00       4.000000e+00"
    assert path.read_text() == f"{HEADER}\n{ROW}\n{ROW}{by_id}\n"


def test_no_atoms(tmp_path: Path) -> None:
    file = DeviationFile(tmp_path / "devi.out", append=False, atomic=True)
    file.write(0, np.zeros(9), np.zeros(0), np.zeros(0, np.int32))
    file.close()
    assert (tmp_path / "devi.out").read_text().splitlines()[1].split()[4:] == ["nan"] * 3


FULL = f"""
import resource
import numpy as np
from lmp_dp.lammps.model_deviation import DeviationFile
file = DeviationFile("devi.out", append=False, atomic=False)
row = np.ones(9), np.ones(3), None
file.write(0, *row)
size = {len(HEADER) + len(ROW) + 2}
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 50, size + 50))  # room for half a row
file.write(100, *row)
"""


def test_no_half_rows_on_a_full_disk(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert (
        "InputError: model deviations cannot be written to devi.out: File too large" in done.stderr
    )
    lines = (tmp_path / "devi.out").read_text().split("\n")
    assert [len(line) for line in lines] == [len(HEADER), len(ROW), 0]


def test_unwritable_paths_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"No such file or directory\. Make room, or name"):
        DeviationFile(tmp_path / "missing" / "devi.out", append=False, atomic=False)
    with pytest.raises(InputError, match="No space left on device"):
        DeviationFile("/dev/full", append=False, atomic=False)
