"""The pair table of a chunk: what it takes over from the nets, and its own pairs."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from lmp_dp.engine.cpu.chunk import Chunk, Pairs
from lmp_dp.engine.cpu.environment import EnvironmentStage, Rows
from lmp_dp.engine.cpu.kernels import pair_table, rows
from lmp_dp.engine.cpu.room import Buffer, RowsRoom
from lmp_dp.engine.forms import PairTerm
from lmp_dp.engine.selection import Selection

_F64 = np.dtype("float64")


@dataclass(frozen=True)
class PairTermRoom:
    """A chunk on its way through a `PairTerm`; P is the capacity of its rows."""

    rows: RowsRoom = field(default_factory=RowsRoom)
    near_rows: RowsRoom = field(default_factory=RowsRoom)
    r_p: Buffer = field(default_factory=Buffer)  # (P,) float64
    near_r_p: Buffer = field(default_factory=Buffer)  # (P,) float64
    de_p: Buffer = field(default_factory=Buffer)  # (P,) float64
    dl_p: Buffer = field(default_factory=Buffer)  # (P,) float64
    near_g_cp: Buffer = field(default_factory=Buffer)  # (3, P) float64


class PairTermStage:
    """Evaluates a `PairTerm`: E = (1 - l) E^net + l E^pair."""

    def __init__(self, term: PairTerm) -> None:
        self._term = term
        self._neighbours = _stage(term.selection)
        #: None where sigma is made of the same neighbours.
        self._near = None if term.nearness is term.selection else _stage(term.nearness)

    def evaluate(
        self, chunk: Chunk, room: PairTermRoom, energies_b: np.ndarray
    ) -> tuple[np.ndarray, list[Pairs]]:
        """Mix `energies_b` (eV) with the table's; the weight of the nets', and the pairs."""
        term, n_b = self._term, len(energies_b)
        found = self._neighbours.forward(chunk, room.rows)
        near = found if self._near is None else self._near.forward(chunk, room.near_rows)
        r_p = _distances(found, room.r_p)
        near_r_p = r_p if near is found else _distances(near, room.near_r_p)
        l_b, e_b = np.empty(n_b), np.empty(n_b)
        dl_p = room.dl_p.take((near.capacity,), _F64)
        de_p = room.de_p.take((found.capacity,), _F64)
        pair_table.nearness(
            near_r_p, near.first_tb, term.alpha, term.switch_start, term.switch_width, l_b, dl_p
        )
        too_close = pair_table.energies(
            r_p, found.first_tb, term.selection.rcut, term.start, term.step, term.coefficients_tve,
            e_b, de_p,
        )  # fmt: skip
        difference_b = e_b + term.bias - energies_b
        energies_b += l_b * difference_b
        g_cp = room.rows.g_cp.take((3, found.capacity), _F64)
        near_g_cp = room.near_g_cp.take((3, near.capacity), _F64)
        return 1.0 - l_b, [
            _pairs(found, r_p, l_b, de_p, g_cp, too_close, term.share_of_centre),
            _pairs(near, near_r_p, difference_b, dl_p, near_g_cp, 0, 0.0),
        ]


def _stage(selection: Selection) -> EnvironmentStage:
    return EnvironmentStage(selection, np.zeros(4), np.ones(4), _F64)


def _distances(found: Rows, buffer: Buffer) -> np.ndarray:
    r_p = buffer.take((found.capacity,), _F64)
    pair_table.distances(found.r_cp, found.n, r_p)
    return r_p


def _pairs(
    found: Rows,
    r_p: np.ndarray,
    weight_b: np.ndarray,
    slope_p: np.ndarray,
    g_cp: np.ndarray,
    too_close: int,
    share_of_centre: float,
) -> Pairs:
    pair_table.gradients(found.r_cp, r_p, found.first_tb, weight_b, slope_p, g_cp)
    virial_cc = np.empty((3, 3))
    rows.virial_of_rows(found.r_cp, g_cp, found.n, virial_cc)
    return Pairs(
        neighbour_p=found.neighbour_p,
        first_tb=found.first_tb,
        r_cp=found.r_cp,
        g_cp=g_cp,
        virial_cc=virial_cc,
        dropped=0,  # they are far away: the table is short
        beyond_table=too_close,
        share_of_centre=share_of_centre,
    )
