"""Ending all MPI processes from one of them, with the MPI that LAMMPS brought into the process.

For code that LAMMPS calls on each rank and that gets no communicator. mpi4py is not needed, and
might use another MPI.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time

MPICH_COMM_WORLD = 0x44000000  # an int; the ABI of MPICH, Intel MPI, MVAPICH and Cray
_SECONDS_TO_READ_IT = 0.5  # mpirun forgets what it has not read before all is ended


def abort_others(message: str) -> None:
    """End all processes, this one included, if MPI runs several; else do nothing.

    What LAMMPS on this rank has not yet written (the log file, on the first) is written before.
    """
    process = ctypes.CDLL(None)
    if not hasattr(process, "MPI_Abort"):
        return
    if hasattr(process, "ompi_mpi_comm_world"):  # Open MPI: the address of a variable
        variable = ctypes.c_char.in_dll(process, "ompi_mpi_comm_world")
        world: ctypes.c_void_p | ctypes.c_int = ctypes.c_void_p(ctypes.addressof(variable))
    else:
        world = ctypes.c_int(MPICH_COMM_WORLD)
    size, rank, initialized = ctypes.c_int(1), ctypes.c_int(0), ctypes.c_int(0)
    process.MPI_Initialized(ctypes.byref(initialized))
    if initialized:
        process.MPI_Comm_size(world, ctypes.byref(size))
        process.MPI_Comm_rank(world, ctypes.byref(rank))
    if size.value == 1:
        return
    sys.stdout.flush()
    process.fflush(None)
    print(f"ERROR on rank {rank.value}: {message}", file=sys.stderr, flush=True)
    time.sleep(_SECONDS_TO_READ_IT)
    process.MPI_Abort(world, 1)
    os._exit(1)  # MPICH's may return, and this process would run on until it is killed
