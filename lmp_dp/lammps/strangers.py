"""Processes that a launcher has started together, and MPI does not bring together.

Under ``srun --mpi=none``, or the mpirun of another MPI, each process is rank 0 of 1: it would do
the whole of a run, alone, and write to the same files as the others. What a launcher leaves in the
environment tells. Standard library only: this is used inside of `import lammps`, too.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from pathlib import Path
from typing import NamedTuple

from lmp_dp.errors import LmpDpError
from lmp_dp.lammps import libraries

#: What tells a process how many were started, and which of them it is. The first that is set
#: counts: a launcher inside of another leaves the outer one's variables, and mpirun may use srun.
_VARIABLES = (
    ("PMI_SIZE", "PMI_RANK"),  # mpirun of MPICH and Intel MPI, srun --mpi=pmi2
    ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),  # mpirun of Open MPI
    ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID"),  # any srun
)

_SECONDS_TO_SAY_IT = 3.0


class Started(NamedTuple):
    """Processes started together: how many, which of them this is, what says so, and by whom."""

    processes: int
    rank: int
    variable: str
    by: str


def started() -> Started:
    """What this process was told; one process where nothing was."""
    for variable, rank in _VARIABLES:
        if variable in os.environ:
            return Started(_number(variable), _number(rank), variable, _launcher(variable))
    return Started(1, 0, "", "")


def before_mpi(command: str) -> str:
    """What is wrong where MPI_Init would end this process; `refusal` knows the rest.

    A process that was started alone needs no launcher, so what would hinder it is removed from the
    environment: it runs under any.

    Parameters
    ----------
    command : str
        What shall be written behind the launcher.
    """
    told, mpi = started(), _mpi_library()
    if mpi.startswith("MPICH ") and "PMIX_NAMESPACE" in os.environ and not _has_pmix():
        if told.processes > 1 and told.variable != "PMI_SIZE":
            return _sentence(told, mpi, command)
        for name in [name for name in os.environ if name.startswith("PMIX_")]:
            del os.environ[name]
    # Open MPI wants srun's PMIx. Some builds of version 4 take pmi2, which they know themselves.
    elif (
        mpi.startswith("Open MPI ")
        and "SLURM_STEP_ID" in os.environ
        and "PMIX_NAMESPACE" not in os.environ
        and told.variable != "OMPI_COMM_WORLD_SIZE"
    ):
        if told.processes <= 1:
            del os.environ["SLURM_STEP_ID"]
        elif os.environ.get("SLURM_MPI_TYPE") != "pmi2" or not mpi.startswith("Open MPI v4."):
            return _sentence(told, mpi, command)
    return ""


def refusal(world_size: int, command: str) -> str:
    """What is wrong where several processes were started, and MPI has one rank; else empty.

    Parameters
    ----------
    world_size : int
        Ranks of MPI_COMM_WORLD.
    command : str
        As for `before_mpi`.
    """
    told = started()
    return (
        _sentence(told, _mpi_library(), command) if world_size == 1 and told.processes > 1 else ""
    )


def refuse(world_size: int) -> None:
    """`refusal` as an error, for those who cannot say it in one of the processes only.

    Raises
    ------
    LmpDpError
        In each of them; in the first with what to do.
    """
    told = started()
    if wrong := refusal(world_size, "..."):
        brief = f"{told.processes} processes were started together: see what the first one says"
        raise LmpDpError(wrong if told.rank == 0 else brief)


def say(who: str, text: str) -> None:
    """Print what is wrong, in the first of the processes only.

    The others wait: Open MPI's mpirun kills all when one has ended, also the one that shall say it.
    """
    if started().rank == 0:
        print(f"{who}: {text}", file=sys.stderr, flush=True)
    else:
        time.sleep(_SECONDS_TO_SAY_IT)


def _sentence(told: Started, mpi: str, command: str) -> str:
    if mpi.startswith("Open MPI "):
        mpirun, pmi = "mpirun", "pmix"
    else:
        beside = Path(sys.executable).with_name("mpirun")  # of the mpich wheel
        mpirun, pmi = str(beside) if beside.exists() else "mpirun", "pmi2"
    count, whose = told.processes, mpi or "MPI"
    return (
        f"{count} processes were started together by {told.by} ({told.variable} is {count}), but "
        f"not as ranks of {whose}, the MPI of this LAMMPS: each would do the whole run, "
        f"alone. Write `{mpirun} -np {count} {command}`, with the mpirun of {whose}, or "
        f"`srun --mpi={pmi} -n {count} {command}`. Where runs of one process each are meant: "
        f"`env -u {told.variable} {command}`"
    )


def _launcher(variable: str) -> str:
    if variable == "OMPI_COMM_WORLD_SIZE":
        return "the mpirun of Open MPI"
    if variable == "PMI_SIZE":
        of_slurm = os.environ.get("SLURM_MPI_TYPE") == "pmi2" and "PMI_JOBID" in os.environ
        return "srun --mpi=pmi2" if of_slurm else "the mpirun of MPICH"
    return "srun --mpi=pmix" if "PMIX_NAMESPACE" in os.environ else "srun --mpi=none"


def _mpi_library() -> str:
    """What the MPI in this process calls itself, in short; empty where there is none to ask."""
    loaded = libraries.loaded_mpi()
    return loaded[1].partition(",")[0].replace("MPICH Version:", "MPICH") if loaded else ""


def _has_pmix() -> bool:
    """Whether an MPICH in this process was built with PMIx, which is a library of its own."""
    return hasattr(ctypes.CDLL(None), "PMIx_Init")


def _number(variable: str) -> int:
    text = os.environ.get(variable, "")
    return int(text) if text.isascii() and text.isdigit() else 0
