"""The `Moment` form of a chunk: rows, B by tables or embedding nets, C, features, and back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lmp_dp.engine.cpu.chunk import Chunk, Pairs
from lmp_dp.engine.cpu.embedding import embed
from lmp_dp.engine.cpu.environment import EnvironmentStage, Rows
from lmp_dp.engine.cpu.kernels import features, gates, nets, rows, tables
from lmp_dp.engine.cpu.kernels.products import multiply
from lmp_dp.engine.cpu.packing import (
    EmptyBlock,
    NetworkBlock,
    PackedMoment,
    SplineBlock,
    lanes_of,
)
from lmp_dp.engine.cpu.room import Buffer, MomentRoom
from lmp_dp.engine.forms import Moment

_I32 = np.dtype("int32")
#: How far rows have faded out, and the slope of that by their first component.
_Fades = tuple[np.ndarray, np.ndarray]
_Embedded = list[tuple[SplineBlock | NetworkBlock, tuple[np.ndarray, np.ndarray]]]


@dataclass(frozen=True)
class Tape:
    """What the way back needs of the way forward."""

    rows: Rows
    fades: _Fades | None
    embedded: _Embedded
    b_shape: tuple[int, ...]
    c_bkr: np.ndarray
    beyond_table: int


class MomentStage:
    """Evaluates a `Moment` for a fitting net of precision `fitting_dtype`."""

    def __init__(self, moment: Moment, fitting_dtype: np.dtype) -> None:
        self._moment, self._packed = moment, PackedMoment(moment)
        self._environment = EnvironmentStage(
            moment.selection, moment.davg_k, moment.dstd_k, moment.dtype
        )
        self._dtype, self._fitting_dtype = moment.dtype, fitting_dtype
        self._divisor = moment.dtype.type(moment.divisor)
        self._shape = (moment.rank, moment.n_axis, lanes_of(fitting_dtype))

    def new_room(self) -> MomentRoom:
        """What a worker takes chunks through this stage in."""
        return MomentRoom()

    def forward(self, chunk: Chunk, room: MomentRoom) -> tuple[np.ndarray, Tape]:
        """Features of the centres in the fitting net's precision, and the tape."""
        found = self._environment.forward(chunk, room.rows)
        chunk.clock.lap(0)
        fades = self._fades(found, room) if self._moment.gated else None
        b_bkq, embedded, beyond = self._embed_all(len(chunk.members_b), found, fades, room)
        c_bkr = b_bkq
        if self._packed.k_qr is not None:
            c_bkr = room.c_bkr.take((len(b_bkq), 4, self._moment.rank), self._dtype)
            packed = self._packed
            multiply(_flat(b_bkq), packed.k_qr, packed.zeros, packed.lanes, _flat(c_bkr))
        chunk.clock.lap(1)
        if self._fitting_dtype != self._dtype:  # in a buffer with slack: vectors are read whole
            cast_bkr = room.cast_bkr.take(c_bkr.shape, self._fitting_dtype)
            cast_bkr[:] = c_bkr
            c_bkr = cast_bkr
        x_bi = room.features_bi.take((len(c_bkr), self._moment.n_features), self._fitting_dtype)
        features.forward(c_bkr, *self._shape, x_bi)
        return x_bi, Tape(found, fades, embedded, b_bkq.shape, c_bkr, beyond)

    def backward(self, chunk: Chunk, room: MomentRoom, dx_bi: np.ndarray, tape: Tape) -> Pairs:
        """Pair gradients from dE/dx of the features."""
        dc_bkr = room.dc_bkr.take(tape.c_bkr.shape, self._fitting_dtype)
        features.backward(tape.c_bkr, dx_bi, *self._shape, dc_bkr)
        dc_bkr = dc_bkr.astype(self._dtype, copy=False)
        chunk.clock.lap(2)
        packed, found = self._packed, tape.rows
        db_bkq = dc_bkr
        if packed.k_qr is not None:
            db_bkq = room.db_bkq.take(tape.b_shape, self._dtype)
            multiply(_flat(dc_bkr), packed.k_rq, packed.zeros, packed.lanes, _flat(db_bkq))
        if self._divisor != 1:
            db_bkq /= self._divisor
        drows_kp = room.rows.drows_kp.take((4, found.capacity), self._dtype)
        for block, arrays in tape.embedded:
            first_b = found.first_tb[block.neighbour]
            if isinstance(block, SplineBlock) and block.fades:
                assert tape.fades is not None
                gates.gradients(
                    found.rows_kp, *tape.fades, *arrays, block.coefficients_veq, block.slope_v,
                    first_b, db_bkq, block.start, packed.lanes, drows_kp,
                )  # fmt: skip
            elif isinstance(block, SplineBlock):
                tables.gradients(
                    found.rows_kp, *arrays, block.coefficients_veq, block.slope_v, first_b, db_bkq,
                    block.start, packed.lanes, drows_kp,
                )  # fmt: skip
            else:
                nets.gradients(found.rows_kp, *arrays, first_b, db_bkq, drows_kp)
        pairs = self._environment.backward(found, room.rows, drows_kp, tape.beyond_table)
        chunk.clock.lap(3)
        return pairs

    def _embed_all(
        self, n_b: int, found: Rows, fades: _Fades | None, room: MomentRoom
    ) -> tuple[np.ndarray, _Embedded, int]:
        """B, per block what its gradients need, and how many rows are beyond the tables."""
        packed, rows_kp = self._packed, found.rows_kp
        b_bkq = room.b_bkq.take((n_b, 4, packed.n_columns), self._dtype)
        if not self._moment.tabulated:
            b_bkq[:] = 0.0
        # of all blocks: each fills the part of its rows
        piece_p = room.piece_p.take((found.capacity,), _I32)
        x_p = room.x_p.take((found.capacity,), self._dtype)
        embedded: _Embedded = []
        beyond = 0
        for block in packed.blocks:
            if isinstance(block, EmptyBlock):
                if self._moment.tabulated:
                    b_bkq[:, :, block.start :] = 0.0
                empty_b = found.empty_b(block.neighbour)
                rows.add_padding(empty_b, block.padding_kq, block.start, b_bkq)
                continue
            first_b = found.first_tb[block.neighbour]
            first, last = int(first_b[0]), int(first_b[-1])
            if isinstance(block, SplineBlock):
                beyond += tables.locate(rows_kp[0], first, last, *block.lookup, piece_p, x_p)
                arrays = (piece_p, x_p)
                of_table = (*arrays, block.coefficients_veq, first_b, block.start)
                if block.fades:
                    assert fades is not None
                    gates.moment(rows_kp, fades[0], *of_table, packed.lanes, b_bkq)
                else:
                    tables.moment(rows_kp, *of_table, packed.lanes, b_bkq)
            else:
                arrays = self._embed(block, rows_kp[0, first:last], room)
                if block.gate_m is not None:
                    assert fades is not None
                    of_block = (array_p[first:last] for array_p in fades)
                    gates.gate(block.gate_m, *of_block, *arrays)
                nets.moment(rows_kp, arrays[0], first_b, b_bkq)
            empty_b = found.empty_b(block.neighbour)
            rows.add_padding(empty_b, block.padding_kq, block.start, b_bkq)
            embedded.append((block, arrays))
        if self._divisor != 1:
            # not a multiplication by 1/N: in float32 its rounding would shift all energies alike
            b_bkq /= self._divisor
        return b_bkq, embedded, beyond

    def _fades(self, found: Rows, room: MomentRoom) -> _Fades:
        fade_p = room.fade_p.take((found.capacity,), self._dtype)
        fade_slope_p = room.fade_slope_p.take((found.capacity,), self._dtype)
        moment, radius = self._moment, self._moment.fade_radius
        if not any(block.fades for block in moment.blocks):
            fade_p[:], fade_slope_p[:] = 1.0, 0.0
        else:
            gates.fades(
                found.s_p, found.ds_p, found.r_cp, found.n, radius is not None, radius or 0.0,
                moment.selection.protection, moment.dstd_k[0], fade_p, fade_slope_p,
            )  # fmt: skip
        return fade_p, fade_slope_p

    def _embed(
        self, block: NetworkBlock, s_p: np.ndarray, room: MomentRoom
    ) -> tuple[np.ndarray, np.ndarray]:
        """G_pm and dG_pm/ds of rows with inputs `s_p`."""
        # kept per neighbour element until the backward pass
        g = room.g_tpm.setdefault(block.neighbour, Buffer())
        dg = room.dg_tpm.setdefault(block.neighbour, Buffer())
        return embed(block.net, block.packed, s_p, g, dg, room.work)


def _flat(array_bkq: np.ndarray) -> np.ndarray:
    return array_bkq.reshape(-1, array_bkq.shape[2])
