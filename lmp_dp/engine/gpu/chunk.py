"""A chunk of centres of one element on a device: its part of the lists and of a step's arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lmp_dp.engine.gpu.lists import Chunk, DeviceLists
from lmp_dp.engine.neighbourhood import Array


@dataclass(frozen=True)
class StepArrays:
    """What a step reads and writes (`room.StepRoom`)."""

    positions_ac: Array
    forces_ac: Array
    energies_a: Array
    virials_ncc: Array
    gradients_pc: Array
    totals: Array


class ChunkArrays:
    """What the stages of a chunk take; arrays of centres and blocks begin at its first one."""

    def __init__(self, chunk: Chunk, lists: DeviceLists, step: StepArrays, n_types: int) -> None:
        self._chunk = chunk
        self.n, self.n_slots, self.n_types = chunk.n, chunk.n_slots, n_types
        self.members_b = lists.members_n[chunk.first : chunk.first + chunk.n]
        self.offsets_g = lists.offsets_g[n_types * chunk.first :]
        self.neighbours_p = lists.neighbours_p
        self.positions_ac, self.forces_ac = step.positions_ac, step.forces_ac
        self.energies_a, self.totals = step.energies_a, step.totals
        self.gradients_pc = step.gradients_pc
        self.virials_bcc = step.virials_ncc[chunk.first :]

    @property
    def sizes(self) -> tuple[Any, ...]:
        """Centres, elements and slots, as kernels take them."""
        return np.int32(self.n), np.int32(self.n_types), np.int32(self.n_slots)

    def first_slot_of(self, neighbour: int) -> int:
        """First slot of neighbours of an element; behind the last element, the end."""
        return self._chunk.slots_t[neighbour] - self._chunk.first_slot
