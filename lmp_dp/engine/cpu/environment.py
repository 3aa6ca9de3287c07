"""The environment of a chunk: neighbours that have a slot as rows, and back to pairs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lmp_dp.engine.cpu.chunk import Chunk, Pairs
from lmp_dp.engine.cpu.kernels import rows
from lmp_dp.engine.cpu.room import RowsRoom
from lmp_dp.engine.selection import Selection

_F64, _F32, _I64, _I32 = map(np.dtype, ("float64", "float32", "int64", "int32"))


@dataclass(frozen=True)
class Rows:
    """Neighbours that have a slot, as rows (`kernels`); P is their capacity, of which n are used.

    Attributes
    ----------
    dropped : int
        As in `Result`.
    first_tb, neighbour_p, r_cp : arrays
        As in `Pairs`.
    empty_tb : (n_types, n_b) int64
        Empty slots of each element, or (1, n_b) of all elements together.
    s_p, ds_p : (P,) float64
        s = sw(r)/r and ds/dr.
    rows_kp : (4, P) array
        (R - davg)/dstd.
    """

    n: int
    dropped: int
    first_tb: np.ndarray
    empty_tb: np.ndarray
    neighbour_p: np.ndarray
    r_cp: np.ndarray
    s_p: np.ndarray
    ds_p: np.ndarray
    rows_kp: np.ndarray

    def empty_b(self, neighbour: int) -> np.ndarray:
        """Empty slots of element `neighbour`, or `forms.ALL`, around each centre."""
        return self.empty_tb[neighbour if len(self.empty_tb) > 1 else 0]

    @property
    def capacity(self) -> int:
        """Columns of the arrays."""
        return self.r_cp.shape[1]


class EnvironmentStage:
    """Rows of precision `dtype`, normalised as a form has it."""

    def __init__(
        self, selection: Selection, davg_k: np.ndarray, dstd_k: np.ndarray, dtype: np.dtype
    ) -> None:
        self._selection, self._dtype = selection, dtype
        self._davg_k, self._dstd_k = davg_k, dstd_k
        self._real = _F32 if selection.in_float32 else _F64
        self._protection = selection.protection or None

    def forward(self, chunk: Chunk, of: RowsRoom) -> Rows:
        """Choose neighbours, and their environment."""
        nb, n_b, longest = chunk.nb, len(chunk.members_b), chunk.longest
        selection, n_slots = self._selection, self._selection.n_slots
        capacity = n_b * min(n_slots, longest)
        first_tb = of.first_tb.take((len(selection.fate_t), n_b + 1), _I64)
        empty_tb = of.empty_tb.take((len(selection.sel_t), n_b), _I64)
        neighbour_p = of.neighbour_p.take((capacity,), _I32)
        r_cp = of.r_cp.take((3, capacity), _F64)
        n_rows, dropped = rows.gather(
            nb.positions_ac,
            nb.types_a,
            nb.centres_n,
            chunk.members_b,
            nb.offsets_n,
            nb.neighbours_p,
            selection.sel_t,
            selection.fate_t,
            selection.n_nearest,
            selection.rcut,
            of.candidate.take((longest,), _I32),
            of.candidate_r2.take((longest,), self._real),
            of.candidate_type.take((longest,), _I32),
            of.slot_bs.take((n_b, min(n_slots, longest)), _I32),
            first_tb,
            empty_tb,
            neighbour_p,
            r_cp,
        )
        s_p, ds_p = of.s_p.take((capacity,), _F64), of.ds_p.take((capacity,), _F64)
        rows_kp = of.rows_kp.take((4, capacity), self._dtype)
        switch = (selection.rcut_smth, selection.width, self._protection)
        statistics = (self._davg_k, self._dstd_k)
        rows.environment(r_cp, n_rows, *switch, *statistics, s_p, ds_p, rows_kp)
        return Rows(n_rows, dropped, first_tb, empty_tb, neighbour_p, r_cp, s_p, ds_p, rows_kp)

    def backward(self, found: Rows, of: RowsRoom, drows_kp: np.ndarray, beyond_table: int) -> Pairs:
        """Pair gradients and virial from dE/dR of the rows."""
        g_cp = of.g_cp.take((3, found.capacity), _F64)
        virial_cc = np.empty((3, 3))
        rows.pair_gradients(
            found.r_cp, found.n, self._dstd_k, self._protection, found.s_p, found.ds_p, drows_kp,
            g_cp,
        )  # fmt: skip
        rows.virial_of_rows(found.r_cp, g_cp, found.n, virial_cc)
        return Pairs(
            neighbour_p=found.neighbour_p,
            first_tb=found.first_tb,
            r_cp=found.r_cp,
            g_cp=g_cp,
            virial_cc=virial_cc,
            dropped=found.dropped,
            beyond_table=beyond_table,
        )
