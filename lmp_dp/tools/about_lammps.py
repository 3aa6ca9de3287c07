"""What a LAMMPS says of itself in its help (`lmp -h`), asked in a process of its own.

Standard library only, since doctor runs where the imports of the other tools fail.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from lmp_dp import child
from lmp_dp.lammps.installations import Installation, NoLammpsError
from lmp_dp.tools.findings import finished

_BEGINNING = "Massively Parallel Simulator - "
# The library says it as well: LAMMPS's options come after a name.
_OF_LIBRARY = """
import ctypes
from lmp_dp.lammps import installations
library = installations.chosen(sys.argv[1] or None).load()
words = (ctypes.c_char_p * 3)(b"lmp", b"-h", None)
library.lammps_open_no_mpi(2, words, None)
"""


@dataclass(frozen=True)
class About:
    """What a LAMMPS is.

    Attributes
    ----------
    version : str
        "22 Jul 2025 - Update 2".
    mpi : str
        Name and version of its MPI.
    mpi_family : {"Open MPI", "MPICH", ""}
        Whose mpirun starts it; MPICH's ABI is also that of Intel MPI, Cray MPICH and MVAPICH.
    bigbig : bool
        Atom IDs have 64 bits.
    packages : frozenset of str
        The packages that it was built with.
    """

    version: str
    mpi: str
    mpi_family: str
    bigbig: bool
    packages: frozenset[str]

    def __str__(self) -> str:
        return f"LAMMPS {self.version}, {self.mpi}{', BIGBIG' if self.bigbig else ''}"


def about(lammps: Installation) -> About:
    """Ask a LAMMPS.

    Raises
    ------
    NoLammpsError
        It cannot be started, or does not say what is expected.
    """
    lammps.check()
    if lammps.library is None:
        command = [str(lammps.file), "-h"]
    else:
        command = child.command(_OF_LIBRARY, lammps.named)
    environment = {k: v for k, v in os.environ.items() if k != "LAMMPS_PLUGIN_PATH"}
    try:
        done = finished(command, env=environment)
    except OSError as error:
        raise NoLammpsError(f"{lammps} cannot be started: {error.strerror}") from None
    text = done.stdout
    if _BEGINNING not in text:
        said = (done.stderr + text).strip().rpartition("\n")[2] or f"status {done.returncode}"
        raise NoLammpsError(f"{lammps} does not answer to -h as a LAMMPS does, but: {said}")
    version = text.partition(_BEGINNING)[2].partition("\n")[0].strip()
    mpi = re.search(r"^MPI v[\d.]+: *(.*)", text, re.MULTILINE)
    name = " ".join(mpi[1].split()).partition(",")[0] if mpi else "no MPI"
    name = name.replace("MPICH Version:", "MPICH")
    packages = text.partition("Installed packages:\n")[2].partition("\nList of")[0]
    return About(
        version=version,
        mpi=name,
        mpi_family=family(name),
        bigbig=bool(re.search(r"^sizeof\(tagint\): *64-bit", text, re.MULTILINE)),
        packages=frozenset(packages.split()),
    )


def family(mpi: str) -> str:
    """Whose MPI that is, by what it or its mpirun says: "Open MPI", "MPICH" or empty."""
    if "Open MPI" in mpi:
        return "Open MPI"
    kinds = ("MPICH", "HYDRA", "Intel", "MVAPICH", "CRAY")
    return "MPICH" if any(kind in mpi for kind in kinds) else ""
