"""Neighbour lists that are built and kept on a device (`neighbours.cu`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lmp_dp.engine.gpu import kernels
from lmp_dp.engine.gpu.device import Device
from lmp_dp.engine.gpu.room import ListRoom
from lmp_dp.engine.neighbourhood import Array
from lmp_dp.errors import BackendError

#: Slots are counted in 32 bits where they are stored.
MOST_SLOTS = 2**32 - 1


class NotFiniteError(ValueError):
    """A position is not finite: there is no list."""


@dataclass(frozen=True)
class Chunk:
    """Centres of one element that are evaluated together.

    Attributes
    ----------
    element : int
    first, n : int
        Its centres are ``members_n[first:first + n]``.
    slots_t : list of int
        First slot of each neighbour element, and behind them the end (numbers of the whole list).
    """

    element: int
    first: int
    n: int
    slots_t: list[int]

    @property
    def first_slot(self) -> int:
        """First slot of the chunk."""
        return self.slots_t[0]

    @property
    def n_slots(self) -> int:
        """Number of slots."""
        return self.slots_t[-1] - self.slots_t[0]


@dataclass(frozen=True)
class DeviceLists:
    """Neighbours by chunk, element of the neighbour and centre; and who is whose neighbour.

    Attributes
    ----------
    members_n : (n_centres,) int32
        Atoms of the centres, by element.
    chunks : list of Chunk
    offsets_g : (n_centres * n_types + 1,) int64
        First slot of each block, see `lmp_dp.engine.gpu.kernels`.
    neighbours_p : (n_slots,) int32
    reverse_offsets_a : (n_all + 1,) int64
        The slots in which atom ``a`` is the neighbour are
        ``reverse_p[reverse_offsets_a[a]:reverse_offsets_a[a + 1]]``, in ascending order: sums over
        them have the same bits always.
    reverse_p : (n_slots,) uint32
    """

    members_n: Array
    chunks: list[Chunk]
    offsets_g: Array
    neighbours_p: Array
    reverse_offsets_a: Array
    reverse_p: Array


def build(
    device: Device,
    compiled: Any,
    room: ListRoom,
    positions_ac: Array,
    types_a: np.ndarray,
    n_local: int,
    cutoff: float,
    excluded_tt: np.ndarray,
    chunk_sizes: Callable[[list[int], int], list[int]],
) -> DeviceLists:
    """Lists of all local atoms that the model sees.

    Parameters
    ----------
    device, compiled
        A device and what its `compile` gave.
    room : ListRoom
        Where the lists go; those that were there are lost.
    positions_ac : (n_all, 3) float64 array of the device
        Å.
    types_a : (n_all,) int32 array of the host
    cutoff : float
        Å, with skin.
    excluded_tt : (n_types, n_types) bool
        Pairs (centre, neighbour) of elements that are left out.
    chunk_sizes : callable
        Centres per chunk by element, given the longest of each element's lists and the number of
        slots in all.

    Raises
    ------
    NotFiniteError
    BackendError
        There are more than `MOST_SLOTS` slots.
    """
    xp = device.xp
    n_all, n_types = len(types_a), len(excluded_tt)
    search = _Search(device, compiled, positions_ac, device.upload(types_a), cutoff, excluded_tt)

    # centres by element; atoms that the model does not see come first, and are left out
    counts_t = np.bincount(types_a[:n_local] + 1, minlength=n_types + 1)
    starts_t = np.concatenate([[0], np.cumsum(counts_t[1:])])
    by_type_a = xp.argsort(search.types_a[:n_local], kind="stable")
    members_n = by_type_a[int(counts_t[0]) :].astype(xp.int32)

    counts_a = xp.zeros(n_all, xp.int32)
    by_element = [
        search.count(members_n[starts_t[t] : starts_t[t + 1]], t, counts_a) for t in range(n_types)
    ]
    chunks, offsets_g = _chunks(device, by_element, chunk_sizes)
    del by_element
    reverse_offsets_a = _offsets(xp, counts_a)
    del counts_a

    n_slots = chunks[-1].slots_t[-1] if chunks else 0
    neighbours_p = room.neighbours_p.take(xp, (n_slots,), np.int32)
    reverse_p = room.reverse_p.take(xp, (n_slots,), np.uint32)
    cursors_a = reverse_offsets_a[:-1].astype(xp.uint32)
    for chunk in chunks:
        cursors_g = offsets_g[n_types * chunk.first : n_types * (chunk.first + chunk.n)].copy()
        search.launch(
            "fill_neighbours", members_n[chunk.first : chunk.first + chunk.n], chunk.element,
            cursors_g, neighbours_p, cursors_a, reverse_p,
        )  # fmt: skip
    device.launch(
        compiled, "sort_reverse", kernels.warps(n_all), np.int32(n_all), reverse_offsets_a,
        reverse_p,
    )  # fmt: skip
    return DeviceLists(members_n, chunks, offsets_g, neighbours_p, reverse_offsets_a, reverse_p)


def _chunks(
    device: Device,
    by_element: list[Array],
    chunk_sizes: Callable[[list[int], int], list[int]],
) -> tuple[list[Chunk], Array]:
    """Chunks, and the first slot of each block; given (n_types, n_centres) counts per element."""
    xp, n_types = device.xp, len(by_element)
    longest = [int(of.sum(axis=0).max()) if of.size else 0 for of in by_element]
    n_slots = sum(int(of.sum(dtype=xp.int64)) for of in by_element)
    if n_slots > MOST_SLOTS:
        raise BackendError(
            f"neighbour lists of {n_slots} entries in all are too long for one device, which takes "
            f"{MOST_SLOTS}: use more devices, or a smaller skin"
        )
    counts_g = xp.empty(sum(of.size for of in by_element), xp.int32)
    parts: list[tuple[int, int, int]] = []
    start = 0
    for t, size in enumerate(chunk_sizes(longest, n_slots)):
        for first in range(0, by_element[t].shape[1], size):
            of_chunk = by_element[t][:, first : first + size]
            n = of_chunk.shape[1]
            counts_g[n_types * start : n_types * (start + n)].reshape(n_types, n)[...] = of_chunk
            parts.append((t, start, n))
            start += n
    offsets_g = _offsets(xp, counts_g)
    edges = [n_types * first + t * n for _, first, n in parts for t in range(n_types + 1)]
    first_slots = device.download(offsets_g[xp.asarray(np.array(edges, np.int64))])
    return [
        Chunk(t, first, n, first_slots[k * (n_types + 1) : (k + 1) * (n_types + 1)].tolist())
        for k, (t, first, n) in enumerate(parts)
    ], offsets_g


def _offsets(xp: Any, counts_g: Array) -> Array:
    """Where parts of these lengths begin, and the end; (n + 1,) int64."""
    offsets_g = xp.zeros(len(counts_g) + 1, xp.int64)
    if len(counts_g):
        offsets_g[1:] = xp.cumsum(counts_g, dtype=xp.int64)
    return offsets_g


class _Search:
    """Looks for neighbours by cells."""

    def __init__(
        self,
        device: Device,
        compiled: Any,
        positions_ac: Array,
        types_a: Array,
        cutoff: float,
        excluded_tt: np.ndarray,
    ) -> None:
        self._device, self._compiled = device, compiled
        self.types_a = types_a
        self._excluded_tt = device.upload(excluded_tt.astype(np.int32))
        self._cutoff2 = np.float64(cutoff * cutoff)
        self._cells = _cells(device, compiled, positions_ac, types_a, cutoff)

    def count(self, members_n: Array, t: int, counts_a: Array) -> Array:
        """Neighbours of centres of element `t` by element, (n_types, n); adds to `counts_a`."""
        counts_tn = self._device.xp.zeros((len(self._excluded_tt), len(members_n)), np.int32)
        self.launch("count_neighbours", members_n, t, counts_tn, counts_a)
        return counts_tn

    def launch(self, name: str, members_n: Array, t: int, *results: Array) -> None:
        """A kernel that goes through the neighbours of centres of element `t`."""
        n = len(members_n)
        self._device.launch(
            self._compiled, name, kernels.warps(n), members_n, np.int32(n), *self._cells,
            self._excluded_tt[t], self._cutoff2, *results,
        )  # fmt: skip


def _cells(
    device: Device, compiled: Any, positions_ac: Array, types_a: Array, cutoff: float
) -> tuple[Array, ...]:
    """Atoms sorted by cell: the arguments of the kernels from `positions_ac` on."""
    xp = device.xp
    n_all = len(types_a)
    low_c, high_c = np.zeros(3), np.zeros(3)
    if n_all:
        low_c, high_c = device.download(
            xp.stack([positions_ac.min(axis=0), positions_ac.max(axis=0)])
        )
    # not narrower than the cutoff, and not many more cells than atoms (sparse clusters)
    extent_c = high_c - low_c
    if not np.isfinite(extent_c).all():
        raise NotFiniteError
    most_cells = min(max(1.0, 8.0 * n_all), 2e9)  # they are counted in 32 bits
    width_c = np.maximum(cutoff, extent_c / most_cells ** (1 / 3))
    n_c = np.maximum(1, np.floor(extent_c / width_c)).astype(np.int32)
    per_width_c = n_c / np.maximum(extent_c, width_c)
    grid = (device.upload(np.concatenate([low_c, per_width_c])), device.upload(n_c))
    cell_a = xp.empty(n_all, xp.int32)
    device.launch(
        compiled, "cells", kernels.blocks(n_all), positions_ac, types_a, np.int32(n_all),
        *grid, cell_a,
    )  # fmt: skip
    order_a = xp.argsort(cell_a, kind="stable")
    cells = xp.arange(int(np.prod(n_c, dtype=np.int64)) + 1, dtype=xp.int32)
    first_h = xp.searchsorted(cell_a[order_a], cells).astype(xp.int32)
    return (
        positions_ac,
        *grid,
        first_h,
        positions_ac[order_a],
        types_a[order_a],
        order_a.astype(xp.int32),
    )
