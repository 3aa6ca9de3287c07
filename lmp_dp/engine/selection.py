"""Which neighbours a centre takes, neutral of any backend."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np


class Fate(IntEnum):
    """What a neighbour within the cutoff becomes."""

    ROW = 0
    #: It takes no slot.
    ABSENT = 1
    #: It takes a slot, which adds nothing: neither a row nor an empty slot.
    HIDDEN = 2
    #: It takes a slot, which then counts as an empty one.
    EMPTY = 3


@dataclass(frozen=True)
class Selection:
    """Which neighbours of a centre get a slot, and the switching function of their rows.

    Attributes
    ----------
    rcut, rcut_smth, width : float
        Up to where neighbours take slots; start of the switching function, and its length, up to
        the cutoff (Å).
    sel_t : (n_types,) or (1,) int64
        Slots per element of the neighbour, or of all together; the nearest are kept.
    fate_t : (n_types,) int64
        What becomes of neighbours of an element around this centre, a `Fate`.
    in_float32 : bool
        Whether neighbours are within the cutoff, and nearer than others, by r^2 in float32.
    n_nearest : int
        So many of all elements, the nearest, are chosen before those of each; 0 for all.
    protection : float
        Added to r where rows divide by it (Å).
    """

    rcut: float
    rcut_smth: float
    width: float
    sel_t: np.ndarray
    fate_t: np.ndarray
    in_float32: bool = True
    n_nearest: int = 0
    protection: float = 0.0

    @property
    def n_slots(self) -> int:
        """Slots of one centre."""
        return int(self.sel_t.sum())

    @property
    def excluded_t(self) -> np.ndarray:
        """Elements that get no slots around this centre."""
        return np.ascontiguousarray(self.fate_t == Fate.ABSENT)
