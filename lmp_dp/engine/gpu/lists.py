"""Neighbour lists that are built and kept on a device (`neighbours.cu`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lmp_dp.engine.gpu import kernels
from lmp_dp.engine.neighbourhood import Array


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
    neighbours_p, centres_p : (n_slots,) int32
    reverse_offsets_a : (n_all + 1,) int64
        The slots in which atom ``a`` is the neighbour are
        ``reverse_p[reverse_offsets_a[a]:reverse_offsets_a[a + 1]]``.
    reverse_p : (n_slots,) int64
    """

    members_n: Array
    chunks: list[Chunk]
    offsets_g: Array
    neighbours_p: Array
    centres_p: Array
    reverse_offsets_a: Array
    reverse_p: Array

    @property
    def nbytes(self) -> int:
        """Bytes on the device."""
        arrays = (
            self.members_n, self.offsets_g, self.neighbours_p, self.centres_p,
            self.reverse_offsets_a, self.reverse_p,
        )  # fmt: skip
        return sum(int(array.nbytes) for array in arrays)


def build(
    device: Any,
    compiled: Any,
    positions_ac: Array,
    types_a: np.ndarray,
    n_local: int,
    cutoff: float,
    excluded_tt: np.ndarray,
    chunk_size: Callable[[int, int], int],
) -> DeviceLists:
    """Lists of all local atoms that the model sees.

    Parameters
    ----------
    device, compiled
        `lmp_dp.engine.gpu.device.CudaDevice` and what its `compile` gave.
    positions_ac : (n_all, 3) float64 array of the device
        Å.
    types_a : (n_all,) int32 array of the host
    cutoff : float
        Å, with skin.
    excluded_tt : (n_types, n_types) bool
        Pairs (centre, neighbour) of elements that are left out.
    chunk_size : callable
        Centres per chunk, given their element and the longest of their lists.
    """
    xp = device.xp
    n_all, n_types = len(types_a), len(excluded_tt)
    on_device_a = device.upload(types_a)
    search = _cells(device, compiled, positions_ac, on_device_a, cutoff)

    # centres by element; atoms that the model does not see come first, and are left out
    counts_t = np.bincount(types_a[:n_local] + 1, minlength=n_types + 1)
    starts_t = np.concatenate([[0], np.cumsum(counts_t[1:])])
    by_type_a = xp.argsort(on_device_a[:n_local], kind="stable")
    members_n = by_type_a[int(counts_t[0]) :].astype(xp.int32)

    chunks: list[tuple[int, int, int]] = []
    counts: list[Array] = []
    excluded = device.upload(excluded_tt.astype(np.int32))
    for t in range(n_types):
        start, n = int(starts_t[t]), int(counts_t[t + 1])
        if n == 0:
            continue
        counts_tn = xp.zeros((n_types, n), xp.int32)
        device.launch(
            compiled, "count_neighbours", kernels.warps(n), members_n[start : start + n],
            np.int32(n), *search, excluded[t], np.float64(cutoff * cutoff), counts_tn,
        )  # fmt: skip
        size = chunk_size(t, int(counts_tn.sum(axis=0).max()))
        for first in range(0, n, size):
            of_chunk = counts_tn[:, first : first + size]
            chunks.append((t, start + first, of_chunk.shape[1]))
            counts.append(of_chunk.ravel())
    offsets_g = xp.zeros(n_types * len(members_n) + 1, xp.int64)
    if counts:
        offsets_g[1:] = xp.cumsum(xp.concatenate(counts), dtype=xp.int64)
    edges = [n_types * first + t * n for _, first, n in chunks for t in range(n_types + 1)]
    first_slots = device.download(offsets_g[xp.asarray(np.array(edges, np.int64))])
    made = [
        Chunk(t, first, n, first_slots[k * (n_types + 1) : (k + 1) * (n_types + 1)].tolist())
        for k, (t, first, n) in enumerate(chunks)
    ]

    n_slots = made[-1].slots_t[-1] if made else 0
    neighbours_p, centres_p = xp.empty(n_slots, xp.int32), xp.empty(n_slots, xp.int32)
    cursors_g = offsets_g[:-1].copy()
    for chunk in made:
        device.launch(
            compiled, "fill_neighbours", kernels.warps(chunk.n),
            members_n[chunk.first : chunk.first + chunk.n], np.int32(chunk.n), *search,
            excluded[chunk.element], np.float64(cutoff * cutoff),
            cursors_g[n_types * chunk.first :], neighbours_p, centres_p,
        )  # fmt: skip
    reverse_offsets_a = xp.zeros(n_all + 1, xp.int64)
    reverse_offsets_a[1:] = xp.cumsum(xp.bincount(neighbours_p, minlength=n_all))
    # stable: by slot within each atom, so that sums are made in the same order always
    reverse_p = xp.argsort(neighbours_p, kind="stable")
    return DeviceLists(
        members_n, made, offsets_g, neighbours_p, centres_p, reverse_offsets_a, reverse_p
    )


def _cells(
    device: Any, compiled: Any, positions_ac: Array, types_a: Array, cutoff: float
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
    width_c = np.maximum(cutoff, extent_c / max(1.0, (8.0 * n_all) ** (1 / 3)))
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
