"""The `LocalFrame` form of a chunk: NumPy on dense slots, as the reference has it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lmp_dp.engine import local_frame
from lmp_dp.engine.cpu.chunk import Chunk, Pairs
from lmp_dp.engine.cpu.environment import EnvironmentStage, Rows
from lmp_dp.engine.cpu.kernels import rows
from lmp_dp.engine.cpu.room import RowsRoom
from lmp_dp.engine.forms import LocalFrame

_NORMALISED = np.zeros(4), np.ones(4)


@dataclass(frozen=True)
class Tape:
    """What the way back needs of the way forward; `row_bs` is -1 in empty slots."""

    rows: Rows
    row_bs: np.ndarray
    backward: Callable[[np.ndarray], np.ndarray]


class LocalFrameStage:
    """Evaluates a `LocalFrame` for a fitting net of precision `fitting_dtype`."""

    def __init__(self, form: LocalFrame, fitting_dtype: np.dtype) -> None:
        self._form, self._fitting_dtype = form, fitting_dtype
        self._environment = EnvironmentStage(form.selection, *_NORMALISED, form.dtype)

    def new_room(self) -> RowsRoom:
        """What a worker takes chunks through this stage in."""
        return RowsRoom()

    def forward(self, chunk: Chunk, room: RowsRoom) -> tuple[np.ndarray, Tape]:
        """D of the centres in the fitting net's precision, and the tape."""
        found = self._environment.forward(chunk, room)
        chunk.clock.lap(0)
        row_bs = _slots(found, self._form.selection.sel_t)
        r_pc = np.append(found.r_cp.T, np.zeros((1, 3)), axis=0)  # the last is of empty slots
        r_bsc = r_pc[row_bs]
        d_bd, backward = local_frame.evaluate(
            self._form.descriptor, self._form.element, r_bsc, row_bs >= 0
        )
        chunk.clock.lap(1)
        return d_bd.astype(self._fitting_dtype, order="C"), Tape(found, row_bs, backward)

    def backward(self, chunk: Chunk, room: RowsRoom, dx_bi: np.ndarray, tape: Tape) -> Pairs:
        """Pair gradients from dE/dD."""
        chunk.clock.lap(2)
        found, filled_bs = tape.rows, tape.row_bs >= 0
        g_cp = room.g_cp.take((3, found.capacity), np.dtype("float64"))
        g_bsc = tape.backward(dx_bi.astype(np.float64))
        g_cp[:, tape.row_bs[filled_bs]] = g_bsc[filled_bs].T
        virial_cc = np.empty((3, 3))
        rows.virial_of_rows(found.r_cp, g_cp, found.n, virial_cc)
        chunk.clock.lap(3)
        return Pairs(
            neighbour_p=found.neighbour_p,
            first_tb=found.first_tb,
            r_cp=found.r_cp,
            g_cp=g_cp,
            virial_cc=virial_cc,
            dropped=found.dropped,
            beyond_table=0,
        )


def _slots(found: Rows, sel_t: np.ndarray) -> np.ndarray:
    """Rows by centre and slot, those of an element side by side: (n_b, n_slots)."""
    parts = []
    for first_b, count in zip(found.first_tb, sel_t.tolist(), strict=True):
        row_bs = first_b[:-1, None] + np.arange(count)
        parts.append(np.where(row_bs < first_b[1:, None], row_bs, -1))
    return np.concatenate(parts, axis=1)
