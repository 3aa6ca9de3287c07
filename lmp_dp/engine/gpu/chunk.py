"""A chunk of centres of one element on a device: its part of the lists and of a step's arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lmp_dp.engine.gpu import kernels
from lmp_dp.engine.gpu.lists import Chunk, DeviceLists
from lmp_dp.engine.neighbourhood import Array

#: What `total_sums` of sums.cu gives.
_N_SUMS = kernels.SUMMED + 2


@dataclass(frozen=True)
class Sent:
    """What comes from the host for a step: positions, and what some models need of local atoms.

    Attributes
    ----------
    positions_ac : (n_all, 3) float64
    vacuum_a : (n_local,) float64, optional
        What is subtracted from an atom's energy (eV), where that depends on its parameters.
    parameters_af : (n_local, n_parameters) array, optional
        In the fitting nets' precision.
    """

    positions_ac: Array
    vacuum_a: Array | None = None
    parameters_af: Array | None = None


class Packed:
    """What goes back to the host, of `n_all` atoms: parts of one array, of the device or the host.

    Attributes
    ----------
    forces_ac : (n_all, 3) float64
    sums_u : (n_values,) float64
        Energy, nine of the virial, atoms whose position or force is not finite, neighbours dropped
        and pairs beyond the tables (`sums.cu`).
    energies_a : (n_all,) float64
        Last, since they are seldom asked for.
    """

    def __init__(self, whole: Array, n_all: int) -> None:
        self.whole = whole
        start = 3 * n_all
        self.forces_ac = whole[:start].reshape(n_all, 3)
        self.sums_u = whole[start : start + _N_SUMS]
        self.energies_a = whole[start + _N_SUMS : self.size(n_all)]

    @staticmethod
    def size(n_all: int, *, energies: bool = True) -> int:
        """Length of `whole`, with or without the energies of atoms."""
        return (4 if energies else 3) * n_all + _N_SUMS


@dataclass(frozen=True)
class StepArrays:
    """What a step reads and writes (`room.StepRoom`)."""

    sent: Sent
    packed: Packed
    gradients_pc: Array
    totals: Array
    partial: Array


class ChunkArrays:
    """What the stages of a chunk take; arrays of centres and blocks begin at its first one."""

    def __init__(self, chunk: Chunk, lists: DeviceLists, step: StepArrays, n_types: int) -> None:
        self._chunk = chunk
        self.n, self.n_slots, self.n_types = chunk.n, chunk.n_slots, n_types
        self.members_b = lists.members_n[chunk.first : chunk.first + chunk.n]
        self.offsets_g = lists.offsets_g[n_types * chunk.first :]
        self.neighbours_p = lists.neighbours_p
        self.positions_ac, self.forces_ac = step.sent.positions_ac, step.packed.forces_ac
        self.energies_a, self.totals = step.packed.energies_a, step.totals
        self.gradients_pc = step.gradients_pc

    @property
    def sizes(self) -> tuple[Any, ...]:
        """Centres, elements and slots, as kernels take them."""
        return np.int32(self.n), np.int32(self.n_types), np.int32(self.n_slots)

    def first_slot_of(self, neighbour: int) -> int:
        """First slot of neighbours of an element; behind the last element, the end."""
        return self._chunk.slots_t[neighbour] - self._chunk.first_slot
