"""Child processes in working directories that hold what they must not import."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import lmp_dp
from conftest import INPUTS
from lammps_runs import BIN, environment, run_lammps
from lmp_dp import child


@pytest.fixture(params=["clone", "files"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A working directory: the root of a clone without plugin, or broken modules of our names."""
    if request.param == "clone":
        source = Path(lmp_dp.__file__).parent
        shutil.copytree(source, tmp_path / "lmp_dp", ignore=shutil.ignore_patterns("*.so"))
    else:
        for name in ("lmp_dp", "numpy", "lammps", "importlib", "json"):
            (tmp_path / f"{name}.py").write_text(f"raise SystemExit('{name}.py of the folder')\n")
    return tmp_path


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("doctor", "pair_style dp is known to LAMMPS"),
        (
            "check water.h5 --against reference --data water.data --frames 0",
            "passed: pair dp reproduces backend reference",
        ),
        (
            "bench water.h5 --data water.data --steps 1 --warm-up 0 --repeats 1",
            "1 steps, 1 repeat",
        ),
    ],
)
def test_nothing_is_imported_from_the_working_directory(
    command: str, said: str, folder: Path
) -> None:
    (folder / "water.h5").symlink_to(INPUTS / "models" / "water.h5")
    (folder / "water.data").symlink_to(INPUTS / "water192.data")
    done = subprocess.run(
        [str(BIN / "lmp-dp"), *command.split()],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert said in done.stdout


@pytest.mark.parametrize("folder", ["files"], indirect=True)
def test_plain_lammps_does_not_either(folder: Path) -> None:
    """The Python that the plugin starts inside of the program lmp."""
    script = f"""
units metal
read_data {INPUTS / "water192.data"}
pair_style dp {INPUTS / "models" / "water.h5"}
pair_coeff * * O H
run 0
"""
    assert "pair_style dp: " in run_lammps(script, folder, program=("lmp",), timeout=120).output


def test_a_child_has_the_parents_package_and_its_own_arguments(tmp_path: Path) -> None:
    """Also if only the parent can find it, and with the settings of the user's Python."""
    (tmp_path / "of_the_user.py").write_text("value = 3\n")
    code = "import of_the_user, lmp_dp.errors as e; print(of_the_user.value, sys.argv, e.__file__)"
    done = subprocess.run(
        child.command(code, "a b", "c"),
        env=environment(PYTHONPATH=str(tmp_path)),
        capture_output=True,
        text=True,
        check=True,
    )
    expected = Path(lmp_dp.__file__).resolve().with_name("errors.py")
    assert done.stdout.strip() == f"3 ['-c', 'a b', 'c'] {expected}"
    moved = tmp_path / "elsewhere" / "lmp_dp"
    moved.mkdir(parents=True)
    for name in ("__init__.py", "child.py", "errors.py"):
        shutil.copy(Path(lmp_dp.__file__).with_name(name), moved)
    program = (
        f"import sys; sys.path.insert(0, {str(moved.parent)!r}); from lmp_dp import child;"
        "import subprocess; subprocess.run(child.command('import lmp_dp; print(lmp_dp.__file__)'))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == str(moved / "__init__.py"), done.stderr
