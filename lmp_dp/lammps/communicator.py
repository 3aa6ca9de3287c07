"""The ranks of a LAMMPS instance as Python sees them, through mpi4py."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from lmp_dp.errors import InputError

if TYPE_CHECKING:
    from lammps import lammps


def communicator(lmp: lammps) -> Any:
    """The communicator of a LAMMPS instance; None on one rank.

    Raises
    ------
    InputError
        Several ranks, and mpi4py is missing or uses another MPI library than LAMMPS.
    """
    size = lmp.extract_setting("world_size")
    if size == 1:
        return None
    try:
        from mpi4py import MPI
    except Exception as error:  # also RuntimeError, where it finds no MPI library
        raise InputError(
            f"FixExternal on {size} ranks returns forces to the owners of ghost atoms through "
            f"mpi4py, which cannot be imported ({error}): pip install mpi4py, or run on one rank"
        ) from None
    comm = lmp.get_mpi_comm()
    handle_bytes = lmp.lib.lammps_config_has_mpi_support()
    same = handle_bytes in (1, MPI._sizeof(MPI.Comm))  # 1: an older LAMMPS says only yes
    if comm is None or not same or comm.Get_size() != size:
        raise InputError(
            "mpi4py uses another MPI library than LAMMPS: build it with the mpicc that goes with "
            "this LAMMPS (pip install --no-binary mpi4py mpi4py), or run on one rank"
        )
    return comm


def node(comm: Any) -> tuple[int, int]:
    """Ranks on this node, and the cores that they may use together."""
    own = os.sched_getaffinity(0)
    if comm is None:
        return 1, len(own)
    from mpi4py import MPI

    local = comm.Split_type(MPI.COMM_TYPE_SHARED)
    try:
        return local.Get_size(), len(set().union(*local.allgather(own)))
    finally:
        local.Free()
