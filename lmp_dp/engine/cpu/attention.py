"""The `Attention` form of a chunk: rows, G, layers of attention, B, features, and back.

Neighbours are embedded in the order of rows (`kernels`), element after element; from there on rows
are in the order of their centres (`kernels.arranged`), so that those of one centre lie together.
Empty slots are not rows: what they are in the end is a constant of the form.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lmp_dp.engine.cpu.attention_room import AttentionRoom
from lmp_dp.engine.cpu.chunk import Chunk, Pairs
from lmp_dp.engine.cpu.embedding import embed
from lmp_dp.engine.cpu.environment import EnvironmentStage, Rows
from lmp_dp.engine.cpu.kernels import arranged, attention, features, gates, nets
from lmp_dp.engine.cpu.packed_attention import PackedAttention
from lmp_dp.engine.cpu.packing import lanes_of
from lmp_dp.engine.cpu.room import Buffer
from lmp_dp.engine.forms import ALL, Attention

_I64 = np.dtype("int64")
#: Of what a chunk keeps for the way back: in the L3 cache, with GEMMs of the fitting net that are
#: still long enough.
CHUNK_BYTES = 16 * 2**20


@dataclass(frozen=True)
class _Layout:
    """Rows of a chunk in the order of centres, and where a centre's pairs are (`size` of all)."""

    place_p: np.ndarray
    first_b: np.ndarray
    at_b: np.ndarray
    size: int


@dataclass(frozen=True)
class _Directions:
    """Rows and fades in the order of centres, the rows' unit vectors and inverse lengths."""

    arranged_kp: np.ndarray
    fade_p: np.ndarray
    unit_cp: np.ndarray
    inverse_p: np.ndarray


#: How far rows, in their own order, have faded, and the slope of that by their first component.
_Fades = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Tape:
    """What the way back needs of the way forward.

    Attributes
    ----------
    slopes : list of (int, array)
        Per block its first row, and dG/ds before attention.
    """

    rows: Rows
    layout: _Layout
    fades: _Fades
    directions: _Directions
    slopes: list[tuple[int, np.ndarray]]
    kept: list[attention.Kept]
    g_pm: np.ndarray
    c_bkr: np.ndarray


class AttentionStage:
    """Evaluates an `Attention` for a fitting net of precision `fitting_dtype`."""

    def __init__(self, form: Attention, fitting_dtype: np.dtype) -> None:
        self._form, self._packed = form, PackedAttention(form)
        self._environment = EnvironmentStage(form.selection, form.davg_k, form.dstd_k, form.dtype)
        self._dtype, self._fitting_dtype = form.dtype, fitting_dtype
        self._shape = (form.rank, form.n_axis, lanes_of(fitting_dtype))

    @property
    def centres(self) -> int:
        """Centres of a chunk."""
        n, packed = self._form.selection.n_slots, self._packed
        matrices = 2 if packed.options.smooth else 1
        of_neighbour = 3 * packed.width + packed.n_columns + matrices * n
        per_centre = n * (len(packed.layers) * of_neighbour + 4 * packed.n_columns)
        return int(min(max(CHUNK_BYTES // (per_centre * self._dtype.itemsize), 1), 48))

    def new_room(self) -> AttentionRoom:
        """What a worker takes chunks through this stage in."""
        return AttentionRoom()

    def forward(self, chunk: Chunk, room: AttentionRoom) -> tuple[np.ndarray, Tape]:
        """Features of the centres in the fitting net's precision, and the tape."""
        found = self._environment.forward(chunk, room.rows)
        layout = self._arrange(found, room)
        fades = self._fades(found, room)
        directions = self._directions(found, layout, fades[0], room)
        chunk.clock.lap(0)
        g_pm, slopes = self._embed(found, layout, fades, room)
        packed, n_b, rank = self._packed, len(chunk.members_b), self._packed.n_columns
        kept = self._kept(found.n, layout.size, room)
        work = self._work(int(np.diff(layout.first_b).max(initial=0)), room)
        for layer, of_layer in zip(packed.layers, kept, strict=True):
            attention.forward(
                layout.first_b, layout.at_b, layer, packed.options, directions.unit_cp,
                directions.fade_p, of_layer, work, packed.lanes, g_pm.reshape(-1),
            )  # fmt: skip
        c_bkr = room.c_bkr.take((n_b, 4, rank), self._dtype)
        c_bkr[:] = 0.0
        nets.moment(directions.arranged_kp, g_pm, layout.first_b, c_bkr)
        empty_b = found.empty_b(ALL)
        c_bkr += empty_b.astype(self._dtype)[:, None, None] * packed.padding_km
        # not a multiplication by 1/N: in float32 its rounding would shift all energies alike
        c_bkr /= self._dtype.type(self._form.divisor)
        chunk.clock.lap(1)
        if self._fitting_dtype != self._dtype:  # in a buffer with slack: vectors are read whole
            cast_bkr = room.cast_bkr.take(c_bkr.shape, self._fitting_dtype)
            cast_bkr[:] = c_bkr
            c_bkr = cast_bkr
        n_features = self._form.n_features
        x_bi = room.features_bi.take((n_b, n_features), self._fitting_dtype)
        features.forward(c_bkr, *self._shape, x_bi)
        return x_bi, Tape(found, layout, fades, directions, slopes, kept, g_pm, c_bkr)

    def backward(self, chunk: Chunk, room: AttentionRoom, dx_bi: np.ndarray, tape: Tape) -> Pairs:
        """Pair gradients from dE/dx of the features."""
        dc_bkr = room.dc_bkr.take(tape.c_bkr.shape, self._fitting_dtype)
        features.backward(tape.c_bkr, dx_bi, *self._shape, dc_bkr)
        dc_bkr = dc_bkr.astype(self._dtype, copy=False)
        dc_bkr /= self._dtype.type(self._form.divisor)
        chunk.clock.lap(2)
        found, layout, of, packed = tape.rows, tape.layout, tape.directions, self._packed
        darranged_kp = room.darranged_kp.take(of.arranged_kp.shape, self._dtype)
        dg_pm = room.dg_pm.take(tape.g_pm.shape, self._dtype)
        arranged.moment_back(of.arranged_kp, tape.g_pm, layout.first_b, dc_bkr, darranged_kp, dg_pm)
        dunit_cp = room.dunit_cp.take(of.unit_cp.shape, self._dtype)
        dfade_p = room.dfade_p.take(of.fade_p.shape, self._dtype)
        dunit_cp[:], dfade_p[:] = 0.0, 0.0
        work = self._work(int(np.diff(layout.first_b).max(initial=0)), room)
        for layer, kept in zip(reversed(packed.layers), reversed(tape.kept), strict=True):
            attention.backward(
                layout.first_b, layout.at_b, layer, packed.options, of.unit_cp, of.fade_p, kept,
                work, packed.lanes, dg_pm.reshape(-1), dunit_cp, dfade_p,
            )  # fmt: skip
        shortest = packed.options.shortest
        arranged.directions_back(of.unit_cp, of.inverse_p, dunit_cp, shortest, darranged_kp)
        drows_kp = room.rows.drows_kp.take((4, found.capacity), self._dtype)
        for first, slope_pm in tape.slopes:
            arranged.collect(
                slope_pm, tape.fades[1], layout.place_p, first, dg_pm, darranged_kp, dfade_p,
                drows_kp,
            )  # fmt: skip
        pairs = self._environment.backward(found, room.rows, drows_kp, 0)
        chunk.clock.lap(3)
        return pairs

    def _arrange(self, found: Rows, room: AttentionRoom) -> _Layout:
        n_rows = found.n
        place_p = room.place_p.take((n_rows,), _I64)
        first_b = room.first_b.take((found.first_tb.shape[1],), _I64)
        arranged.arrange(found.first_tb, place_p, first_b)
        lanes, n_b = len(self._packed.lanes), np.diff(first_b)
        at_b = np.concatenate([[0], np.cumsum(n_b * (-(-n_b // lanes) * lanes))])
        return _Layout(place_p, first_b, at_b, int(at_b[-1]))

    def _fades(self, found: Rows, room: AttentionRoom) -> _Fades:
        form, n_rows = self._form, found.n
        fade_p = room.fade_p.take((n_rows,), self._dtype)
        fade_slope_p = room.fade_slope_p.take((n_rows,), self._dtype)
        if form.layers.smooth or any(block.fades for block in form.blocks):
            radius = form.fade_radius
            gates.fades(
                found.s_p, found.ds_p, found.r_cp, n_rows, radius is not None, radius or 0.0,
                form.selection.protection, form.dstd_k[0], fade_p, fade_slope_p,
            )  # fmt: skip
        else:
            fade_p[:], fade_slope_p[:] = 1.0, 0.0
        return fade_p, fade_slope_p

    def _directions(
        self, found: Rows, layout: _Layout, fade_p: np.ndarray, room: AttentionRoom
    ) -> _Directions:
        dtype, n_rows = self._dtype, found.n
        capacity = n_rows + len(self._packed.lanes)  # vectors are read whole
        of = _Directions(
            arranged_kp=room.arranged_kp.take((4, n_rows), dtype),
            fade_p=room.arranged_p.take((capacity,), dtype),
            unit_cp=room.unit_cp.take((3, capacity), dtype),
            inverse_p=room.inverse_p.take((n_rows,), dtype),
        )
        arranged.directions(
            found.rows_kp, fade_p, layout.place_p, self._packed.options.shortest, of.arranged_kp,
            of.fade_p, of.unit_cp, of.inverse_p,
        )  # fmt: skip
        return of

    def _embed(
        self, found: Rows, layout: _Layout, fades: _Fades, room: AttentionRoom
    ) -> tuple[np.ndarray, list[tuple[int, np.ndarray]]]:
        """G before attention, and per block its first row and dG/ds."""
        n_rows, n_channels = found.n, self._packed.n_columns
        arranged_pm = room.g_pm.take((n_rows, n_channels), self._dtype)
        slopes = []
        for block, of_form in zip(self._packed.blocks, self._form.blocks, strict=True):
            first_b = found.first_tb[block.neighbour]
            first, last = int(first_b[0]), int(first_b[-1])
            s_p = found.rows_kp[0, first:last]
            g = room.g_tpm.setdefault(block.neighbour, Buffer())
            dg = room.dg_tpm.setdefault(block.neighbour, Buffer())
            g_pm, slope_pm = embed(block.net, block.packed, s_p, g, dg, room.work)
            if block.gate_m is not None:
                of_block = [array_p[first:last] for array_p in fades]
                if not of_form.fades:
                    of_block = [np.ones_like(of_block[0]), np.zeros_like(of_block[1])]
                gates.gate(block.gate_m, *of_block, g_pm, slope_pm)
            arranged.spread(g_pm, layout.place_p, first, arranged_pm)
            slopes.append((first, slope_pm))
        return arranged_pm, slopes

    def _kept(self, n: int, size: int, room: AttentionRoom) -> list[attention.Kept]:
        packed, dtype = self._packed, self._dtype
        kept = []
        for k in range(len(packed.layers)):
            of = room.layer(k)
            logits = of.logits.take((size,), dtype)
            kept.append(
                attention.Kept(
                    qkv=of.qkv.take((n * 3 * packed.width,), dtype),
                    inverse=of.inverse.take((3 * n,), dtype),
                    logits=logits,
                    soft=of.soft.take((size,), dtype) if packed.options.smooth else logits,
                    normal=of.normal.take((n * packed.n_columns,), dtype),
                    deviation=of.deviation.take((n,), dtype),
                )
            )
        return kept

    def _work(self, n: int, room: AttentionRoom) -> attention.Work:
        packed, dtype = self._packed, self._dtype
        line = packed.whole(n)
        return attention.Work(
            turned=room.turned.take((packed.width * line,), dtype),
            weight=room.weight.take((n * line,), dtype),
            dweight=room.dweight.take((n * line,), dtype),
            o=room.o.take((n * packed.width,), dtype),
            dqkv=room.dqkv.take((n * 3 * packed.width,), dtype),
            y=room.y.take((n * packed.n_columns,), dtype),
        )
