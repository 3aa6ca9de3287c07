"""A chunk of centres of one element: what it is, and what its evaluation gives."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter

import numpy as np

from lmp_dp.engine.neighbourhood import Neighbourhood

#: Stages that are timed; the last one is done by the caller, the others by the workers.
STAGES = ("neighbours", "embedding forward", "fitting net", "embedding backward", "forces")


class Clock:
    """Seconds per stage of a chunk."""

    def __init__(self) -> None:
        self.seconds = [0.0] * len(STAGES)
        self._last = perf_counter()

    def lap(self, stage: int) -> None:
        """All time since the last lap was stage number `stage`."""
        now = perf_counter()
        self.seconds[stage] += now - self._last
        self._last = now


@dataclass(frozen=True)
class Chunk:
    """Centres that are evaluated together.

    Attributes
    ----------
    members_b : (n_b,) int64
        Their rows in the neighbour lists `nb`.
    longest : int
        Length of the longest neighbour list of all.
    """

    nb: Neighbourhood
    members_b: np.ndarray
    longest: int
    clock: Clock

    @property
    def centres_b(self) -> np.ndarray:
        """Indices of the centres among all atoms."""
        return self.nb.centres_n[self.members_b]


@dataclass(frozen=True)
class Pairs:
    """Pairs of a chunk, their gradients and virial; in a worker's room until its next chunk.

    Attributes
    ----------
    neighbour_p : (P,) int32
    first_tb : (n_types, n_b + 1) int64
        Rows of centre b with neighbours of element t begin at first_tb[t, b].
    r_cp, g_cp : (3, P) float64
        r_j - r_i (Å) and dE/dr_ij (eV/Å).
    virial_cc : (3, 3) float64
        eV.
    dropped, beyond_table : int
        As in `Result`.
    share_of_centre : float
        What part of a pair's virial is the centre's; the neighbour has the rest.
    """

    neighbour_p: np.ndarray
    first_tb: np.ndarray
    r_cp: np.ndarray
    g_cp: np.ndarray
    virial_cc: np.ndarray
    dropped: int
    beyond_table: int
    share_of_centre: float = 0.0


@dataclass(frozen=True)
class ChunkResult:
    """What a chunk gives: `pairs` per form; its energies are where they belong already."""

    members_b: np.ndarray
    pairs: list[Pairs]
    seconds: list[float]
