"""The `Moment` form of a chunk: rows, B by tables or embedding nets, C, features, and back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lmp_dp.engine import jet
from lmp_dp.engine.cpu.chunk import Chunk, Pairs
from lmp_dp.engine.cpu.kernels import embedding, features, nets, rows, tables
from lmp_dp.engine.cpu.packing import NetworkBlock, PackedMoment, SplineBlock, lanes_of
from lmp_dp.engine.cpu.room import Buffer, MomentRoom
from lmp_dp.engine.forms import Moment

_F64, _F32, _I64, _I32 = map(np.dtype, ("float64", "float32", "int64", "int32"))
_Embedded = list[tuple[SplineBlock | NetworkBlock, tuple[np.ndarray, np.ndarray]]]


@dataclass(frozen=True)
class _Rows:
    """Neighbours that have a slot, as rows (`kernels`)."""

    n: int
    dropped: int
    first_tb: np.ndarray
    neighbour_p: np.ndarray
    r_cp: np.ndarray
    s_p: np.ndarray
    ds_p: np.ndarray
    rows_kp: np.ndarray

    @property
    def capacity(self) -> int:
        """Columns of the arrays."""
        return self.r_cp.shape[1]


@dataclass(frozen=True)
class Tape:
    """What the way back needs of the way forward."""

    rows: _Rows
    embedded: _Embedded
    b_shape: tuple[int, ...]
    c_bkr: np.ndarray
    beyond_table: int


class MomentStage:
    """Evaluates a `Moment` for a fitting net of precision `fitting_dtype`."""

    def __init__(self, moment: Moment, fitting_dtype: np.dtype) -> None:
        self._moment, self._packed = moment, PackedMoment(moment)
        self._dtype, self._fitting_dtype = moment.dtype, fitting_dtype
        self._divisor = moment.dtype.type(moment.divisor)
        self._shape = (moment.rank, moment.n_axis, lanes_of(fitting_dtype))

    def forward(self, chunk: Chunk, room: MomentRoom) -> tuple[np.ndarray, Tape]:
        """Features of the centres in the fitting net's precision, and the tape."""
        found = self._rows(chunk, room)
        chunk.clock.lap(0)
        b_bkq, embedded, beyond = self._embed_all(len(chunk.members_b), found, room)
        c_bkr = b_bkq
        if self._packed.k_qr is not None:
            c_bkr = room.c_bkr.take((len(b_bkq), 4, self._moment.rank), self._dtype)
            np.matmul(_flat(b_bkq), self._packed.k_qr, out=_flat(c_bkr))
        chunk.clock.lap(1)
        if self._fitting_dtype != self._dtype:  # in a buffer with slack: vectors are read whole
            cast_bkr = room.cast_bkr.take(c_bkr.shape, self._fitting_dtype)
            cast_bkr[:] = c_bkr
            c_bkr = cast_bkr
        x_bi = room.features_bi.take((len(c_bkr), self._moment.n_features), self._fitting_dtype)
        features.forward(c_bkr, *self._shape, x_bi)
        return x_bi, Tape(found, embedded, b_bkq.shape, c_bkr, beyond)

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
            np.matmul(_flat(dc_bkr), packed.k_qr.T, out=_flat(db_bkq))
        if self._divisor != 1:
            db_bkq /= self._divisor
        drows_kp = room.rows.drows_kp.take((4, found.capacity), self._dtype)
        for block, arrays in tape.embedded:
            first_b = found.first_tb[block.neighbour]
            if isinstance(block, SplineBlock):
                tables.gradients(
                    found.rows_kp, *arrays, block.coefficients_veq, block.slope_v, first_b, db_bkq,
                    block.start, packed.lanes, drows_kp,
                )  # fmt: skip
            else:
                nets.gradients(found.rows_kp, *arrays, first_b, db_bkq, drows_kp)
        g_cp = room.rows.g_cp.take((3, found.capacity), _F64)
        virial_cc = np.empty((3, 3))
        dstd_k = self._moment.dstd_k
        rows.pair_gradients(found.r_cp, found.n, dstd_k, found.s_p, found.ds_p, drows_kp, g_cp)
        rows.virial_of_rows(found.r_cp, g_cp, found.n, virial_cc)
        chunk.clock.lap(3)
        return Pairs(
            neighbour_p=found.neighbour_p,
            first_tb=found.first_tb,
            r_cp=found.r_cp,
            g_cp=g_cp,
            virial_cc=virial_cc,
            dropped=found.dropped,
            beyond_table=tape.beyond_table,
        )

    def _rows(self, chunk: Chunk, room: MomentRoom) -> _Rows:
        """Choose neighbours, and their environment."""
        nb, n_b, longest, of = chunk.nb, len(chunk.members_b), chunk.longest, room.rows
        selection = self._moment.selection
        n_slots = int(selection.sel_t.sum())
        capacity = n_b * min(n_slots, longest)
        first_tb = of.first_tb.take((len(selection.sel_t), n_b + 1), _I64)
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
            selection.excluded_t,
            selection.rcut,
            of.candidate.take((longest,), _I32),
            of.candidate_r2.take((longest,), _F32),
            of.candidate_type.take((longest,), _I32),
            of.slot_bs.take((n_b, n_slots), _I32),
            first_tb,
            neighbour_p,
            r_cp,
        )
        s_p, ds_p = of.s_p.take((capacity,), _F64), of.ds_p.take((capacity,), _F64)
        rows_kp = of.rows_kp.take((4, capacity), self._dtype)
        switch = (selection.rcut, selection.rcut_smth, selection.width)
        statistics = (self._moment.davg_k, self._moment.dstd_k)
        rows.environment(r_cp, n_rows, *switch, *statistics, s_p, ds_p, rows_kp)
        return _Rows(n_rows, dropped, first_tb, neighbour_p, r_cp, s_p, ds_p, rows_kp)

    def _embed_all(
        self, n_b: int, found: _Rows, room: MomentRoom
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
            first_b = found.first_tb[block.neighbour]
            first, last = int(first_b[0]), int(first_b[-1])
            if isinstance(block, SplineBlock):
                beyond += tables.locate(rows_kp[0], first, last, *block.lookup, piece_p, x_p)
                tables.moment(
                    rows_kp, piece_p, x_p, block.coefficients_veq, first_b, block.start,
                    packed.lanes, b_bkq,
                )  # fmt: skip
                arrays = (piece_p, x_p)
            else:
                arrays = self._embed(block, rows_kp[0, first:last], room)
                nets.moment(rows_kp, arrays[0], first_b, b_bkq)
            sel = self._moment.selection.sel_t[block.neighbour]
            rows.add_padding(first_b, sel, block.padding_kq, block.start, b_bkq)
            embedded.append((block, arrays))
        if self._divisor != 1:
            # not a multiplication by 1/N: in float32 its rounding would shift all energies alike
            b_bkq /= self._divisor
        return b_bkq, embedded, beyond

    def _embed(
        self, block: NetworkBlock, s_p: np.ndarray, room: MomentRoom
    ) -> tuple[np.ndarray, np.ndarray]:
        """G_pm and dG_pm/ds of rows with inputs `s_p`."""
        net, packed = block.net, block.packed
        if packed is None:
            g_pm, dg_pm, _ = jet.evaluate(net, s_p)
            return g_pm.astype(net.dtype), dg_pm.astype(net.dtype)
        shape = (len(s_p), net.n_out)
        # kept per neighbour element until the backward pass
        g_pm = room.g_tpm.setdefault(block.neighbour, Buffer()).take(shape, net.dtype)
        dg_pm = room.dg_tpm.setdefault(block.neighbour, Buffer()).take(shape, net.dtype)
        work = room.work.take((packed.work,), net.dtype)
        lanes = self._packed.lanes
        embedding.embed(s_p, packed.parameters, packed.layers_lu, work, lanes, g_pm, dg_pm)
        return g_pm, dg_pm


def _flat(array_bkq: np.ndarray) -> np.ndarray:
    return array_bkq.reshape(-1, array_bkq.shape[2])
