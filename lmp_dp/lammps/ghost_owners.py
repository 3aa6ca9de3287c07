"""Who owns each ghost atom, and the way back: values on ghosts are summed onto their owners.

LAMMPS does this for a pair style (reverse communication); fix external has to do it itself. An
owner is found by its atom ID. With several ranks the IDs are looked up in a directory that is
spread over them (rank = ID modulo ranks), so that no rank ever holds more than its share.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class GhostOwners:
    """The owners of one set of ghosts; valid until LAMMPS exchanges atoms or makes other ghosts.

    Parameters
    ----------
    tags_a : (n_all,) int array
        Atom IDs of local atoms, then of ghosts.
    n_local : int
    comm : mpi4py communicator or None
        All ranks of the LAMMPS instance, which must make this object together; None: just one.

    Attributes
    ----------
    orphans : array
        Atom IDs of ghosts without an owner on any rank (there are none in a healthy run); `fold`
        leaves them out.
    """

    def __init__(self, tags_a: Array, n_local: int, comm: Any = None) -> None:
        self.comm = comm
        self.n_local = n_local
        tags_a = tags_a.astype(np.int64)
        local, ghosts = _Index(tags_a[:n_local]), tags_a[n_local:]
        owner = local.find(ghosts)
        self._here = np.flatnonzero(owner >= 0)
        self._owner_here = owner[self._here]
        elsewhere = np.flatnonzero(owner < 0)
        if comm is None:
            self.orphans = ghosts[elsewhere]
            return

        # directory: each rank learns who owns the IDs of which it keeps the record
        size = comm.Get_size()
        order, counts_g = _by_rank(tags_a[:n_local] % size, size)
        record_tags, record_counts_g = _exchange(comm, tags_a[:n_local][order], counts_g)
        record = _Index(record_tags)
        record_rank = np.repeat(np.arange(size), record_counts_g)
        # question to the record keeper, and its answer the same way back
        order, counts_g = _by_rank(ghosts[elsewhere] % size, size)
        elsewhere = elsewhere[order]
        asked, asked_counts_g = _exchange(comm, ghosts[elsewhere], counts_g)
        found = record.find(asked)
        answer = np.full(len(asked), -1, np.int64)
        answer[found >= 0] = record_rank[found[found >= 0]]
        rank, _ = _exchange(comm, answer, asked_counts_g)
        self.orphans = ghosts[elsewhere[rank < 0]]
        elsewhere, rank = elsewhere[rank >= 0], rank[rank >= 0]
        # each owner is told once which values it will get
        order, self._counts_g = _by_rank(rank, size)
        self._elsewhere = elsewhere[order]
        incoming, _ = _exchange(comm, ghosts[self._elsewhere], self._counts_g)
        self._owner_incoming = local.find(incoming)

    def fold(self, values_au: Array) -> Array:
        """Sum values of ghosts onto their owners (all ranks together).

        Parameters
        ----------
        values_au : (n_all, n_values) float64

        Returns
        -------
        (n_local, n_values) float64
            Own values of local atoms plus those of all their ghosts, on whichever rank.
        """
        folded, ghosts = values_au[: self.n_local].copy(), values_au[self.n_local :]
        _add_rows(folded, self._owner_here, ghosts[self._here])
        if self.comm is not None:
            incoming, _ = _exchange(self.comm, ghosts[self._elsewhere], self._counts_g)
            _add_rows(folded, self._owner_incoming, incoming)
        return folded


class _Index:
    """Position of each value in an array of distinct values."""

    def __init__(self, values: Array) -> None:
        self._order = np.argsort(values, kind="stable")
        self._sorted = values[self._order]

    def find(self, wanted: Array) -> Array:
        """Positions of `wanted`; -1 where absent."""
        if not len(self._sorted):
            return np.full(len(wanted), -1, np.int64)
        at = np.minimum(np.searchsorted(self._sorted, wanted), len(self._sorted) - 1)
        return np.where(self._sorted[at] == wanted, self._order[at], -1)


def _by_rank(rank: Array, size: int) -> tuple[Array, Array]:
    """The order that groups items by rank, and how many each rank gets."""
    return np.argsort(rank, kind="stable"), np.bincount(rank, minlength=size)


def _exchange(comm: Any, rows: Array, counts_g: Array) -> tuple[Array, Array]:
    """Send the first counts_g[0] rows to rank 0, the next to rank 1, ...; collect what comes."""
    rows = np.ascontiguousarray(rows)
    incoming_g = np.array(comm.alltoall(counts_g.tolist()), dtype=np.int64)
    received = np.empty((int(incoming_g.sum()), *rows.shape[1:]), rows.dtype)
    width = int(np.prod(rows.shape[1:]))
    comm.Alltoallv([rows, (counts_g * width).tolist()], [received, (incoming_g * width).tolist()])
    return received, incoming_g


def _add_rows(target_au: Array, index: Array, rows: Array) -> None:
    """target[index] += rows with repeated indices; bincount is several times faster than add.at."""
    for k in range(target_au.shape[1]):
        target_au[:, k] += np.bincount(index, weights=rows[:, k], minlength=len(target_au))
