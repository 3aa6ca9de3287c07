"""Scripts that are run by hand say what they do, and refuse what they do not understand."""

from __future__ import annotations

import subprocess

import pytest

from documentation.markdown import ROOT

SCRIPTS = (
    *(".ci/release", ".ci/ranges", "docker/build-here", "docker/recipe"),
    *("tests/real_lammps/run", "tests/real_lammps/build_lammps", "tests/slurm/lab"),
)


def called(script: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / script, *words], capture_output=True, text=True, timeout=20, check=False
    )


@pytest.mark.parametrize("script", SCRIPTS)
def test_help(script: str) -> None:
    done = called(script, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) >= 5
    assert script.rpartition("/")[2] in done.stdout


@pytest.mark.parametrize(
    ("script", "options"),
    [
        (".ci/release", "--output"),
        ("docker/build-here", "--variant --engine --tag"),
        ("tests/real_lammps/run", "--build --source --debian --mpi --system --python"),
        ("tests/real_lammps/build_lammps", "--source --debian --mpi --python --jobs"),
    ],
)
def test_an_option_without_its_value(script: str, options: str) -> None:
    for option in options.split():
        done = called(script, option)
        assert done.returncode == 2, option
        assert f"{option} needs a " in done.stderr
        assert len(done.stderr.splitlines()) == 1
