"""The `Moment` form of a chunk on a device: rows, B by tables or nets, C, features, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from lmp_dp.engine.forms import Moment
from lmp_dp.engine.gpu import kernels
from lmp_dp.engine.gpu.chunk import ChunkArrays
from lmp_dp.engine.gpu.device import Device
from lmp_dp.engine.gpu.room import Buffer, MomentRoom
from lmp_dp.engine.gpu.upload import DeviceMoment, DeviceNet
from lmp_dp.engine.neighbourhood import Array


class _Rows(NamedTuple):
    """Neighbours that have a slot, as rows, and where they lie on the splines (`kernels`)."""

    n_rows_tb: Array
    empty_tb: Array
    slot_p: Array
    rows_pk: Array
    fade_up: Array
    piece_p: Array
    x_p: Array


class _Embedded(NamedTuple):
    """An embedding net's values for the slots of its element, which begin at `start`."""

    net: DeviceNet
    start: int
    g_pm: Array
    dg_pm: Array


@dataclass(frozen=True)
class Tape:
    """What the way back needs of the way forward."""

    rows: _Rows
    embedded: list[_Embedded]
    b_shape: tuple[int, ...]
    c_bkr: Array


class MomentStage:
    """Evaluates a `Moment` for a fitting net of precision `fitting_dtype`.

    `compiled` are the kernels by precision. If it `adds`, another form's pair gradients are in the
    chunk's array already.
    """

    def __init__(
        self, device: Device, moment: Moment, fitting_dtype: np.dtype, compiled: Any, *, adds: bool
    ) -> None:
        self.device, self._adds = device, np.int32(adds)
        self.form = DeviceMoment(device, moment)
        self._fitting_dtype = fitting_dtype
        self._kernels, self._feature_kernels = compiled[moment.dtype], compiled[fitting_dtype]

    def forward(self, chunk: ChunkArrays, room: MomentRoom) -> tuple[Array, Tape]:
        """Features of the centres in the fitting net's precision, and the tape."""
        form, xp, n = self.form, self.device.xp, chunk.n
        rows = self._rows(chunk, room)
        b_bkq, embedded = self._embed_all(chunk, room, rows)
        c_bkr = b_bkq
        if form.k_qr is not None:
            c_bkr = room.c_bkr.take(xp, (n, 4, form.rank), form.dtype)
            self.device.multiply(b_bkq.reshape(4 * n, -1), form.k_qr, c_bkr.reshape(4 * n, -1))
        c_bkr = self._cast(c_bkr, self._fitting_dtype, room.cast_c_bkr)
        x_bi = room.features_bi.take(xp, (n, form.n_features), self._fitting_dtype)
        warps = kernels.warps(n)
        self.device.launch(
            self._feature_kernels, "features", warps, c_bkr, *self._feature_shape(c_bkr), x_bi
        )
        return x_bi, Tape(rows, embedded, b_bkq.shape, c_bkr)

    def backward(self, chunk: ChunkArrays, room: MomentRoom, dx_bi: Array, tape: Tape) -> None:
        """Pair gradients and forces on the centres from dE/dx of the features."""
        form, device, xp, n = self.form, self.device, self.device.xp, chunk.n
        warps = kernels.warps(n)
        dc_bkr = room.dc_bkr.take(xp, tape.c_bkr.shape, self._fitting_dtype)
        device.launch(
            self._feature_kernels, "features_backward", warps, tape.c_bkr, dx_bi,
            *self._feature_shape(tape.c_bkr), self._fitting_dtype.type(form.divisor), dc_bkr,
        )  # fmt: skip
        dc_bkr = self._cast(dc_bkr, form.dtype, room.cast_dc_bkr)
        db_bkq = dc_bkr
        if form.k_rq is not None:
            db_bkq = room.db_bkq.take(xp, tape.b_shape, form.dtype)
            self.device.multiply(dc_bkr.reshape(4 * n, -1), form.k_rq, db_bkq.reshape(4 * n, -1))
        where = (chunk.positions_ac, chunk.neighbours_p, chunk.members_b)
        of = tape.rows
        rows = (chunk.offsets_g, of.n_rows_tb)
        results = (
            *form.switch, form.scale_k, self._adds, chunk.gradients_pc, chunk.forces_ac
        )  # fmt: skip
        if form.tabulated:
            fading = "fading_" if form.fading else ""
            device.launch(
                self._kernels, f"gradients_by_{fading}tables", warps, *where, *chunk.sizes, *rows,
                of.slot_p, of.rows_pk, of.fade_up, of.piece_p, of.x_p, form.blocks_tu,
                form.starts_tu, form.coefficients, form.slopes, np.int32(form.n_columns), db_bkq,
                *results,
            )  # fmt: skip
        for net, start, g_pm, dg_pm in tape.embedded:
            device.launch(
                self._kernels, "gradients_by_net", warps, *where, np.int32(n),
                np.int32(net.neighbour), np.int32(chunk.n_slots), np.int32(start), *rows,
                of.slot_p, of.rows_pk, g_pm, dg_pm, np.int32(form.n_columns), db_bkq, *results,
            )  # fmt: skip

    def _cast(self, array: Array, dtype: np.dtype, buffer: Buffer) -> Array:
        """In a buffer, as what allocates is not recorded."""
        if array.dtype == dtype:
            return array
        cast = buffer.take(self.device.xp, array.shape, dtype)
        cast[...] = array
        return cast

    def _feature_shape(self, c_bkr: Array) -> tuple[Any, ...]:
        form = self.form
        return (
            np.int32(len(c_bkr)), np.int32(c_bkr.shape[2]), np.int32(form.rank),
            np.int32(form.n_axis), np.int64(form.n_features),
        )  # fmt: skip

    def _rows(self, chunk: ChunkArrays, room: MomentRoom) -> _Rows:
        """Choose neighbours, and their environment."""
        form, xp = self.form, self.device.xp
        n_rows_tb = room.n_rows_tb.take(xp, (chunk.n_types, chunk.n), np.int32)
        empty_tb = room.empty_tb.take(xp, (form.n_sel, chunk.n), np.int32)
        slot_p = room.slot_p.take(xp, (chunk.n_slots,), np.int32)
        rows_pk = room.rows_pk.take(xp, (chunk.n_slots, 4), form.dtype)
        n_fading = chunk.n_slots if form.fading else 0
        fade_up = room.fade_up.take(xp, (2, n_fading), form.dtype)
        piece_p = room.piece_p.take(xp, (chunk.n_slots,), np.int32)
        x_p = room.x_p.take(xp, (chunk.n_slots,), form.dtype)
        self.device.launch(
            self._kernels, "environment", kernels.warps(chunk.n), chunk.positions_ac,
            chunk.neighbours_p, chunk.members_b, *chunk.sizes, chunk.offsets_g, *form.selects,
            *form.switch, form.shift_k, form.scale_k, np.int32(form.tabulated), form.lookup_tu,
            form.cells_tu, form.pieces_h, form.first_h, n_rows_tb, empty_tb, slot_p, rows_pk,
            form.fading, form.fade_radius, fade_up, piece_p, x_p, self._adds, chunk.gradients_pc,
            chunk.totals,
        )  # fmt: skip
        return _Rows(n_rows_tb, empty_tb, slot_p, rows_pk, fade_up, piece_p, x_p)

    def _embed_all(
        self, chunk: ChunkArrays, room: MomentRoom, of: _Rows
    ) -> tuple[Array, list[_Embedded]]:
        """B, and what the gradients need of nets."""
        form, device, n = self.form, self.device, chunk.n
        warps, rows = kernels.warps(n), (chunk.offsets_g, of.n_rows_tb)
        b_bkq = room.b_bkq.take(device.xp, (n, 4, form.n_columns), form.dtype)
        embedded: list[_Embedded] = []
        if form.tabulated:
            fading = "fading_" if form.fading else ""
            device.launch(
                self._kernels, f"moment_by_{fading}tables", warps, np.int32(n),
                np.int32(chunk.n_types), *rows, of.empty_tb, np.int32(form.n_sel), of.rows_pk,
                of.fade_up, of.piece_p, of.x_p, form.blocks_tu, form.starts_tu, form.coefficients,
                form.padding, form.empty_blocks, np.int32(len(form.empty_blocks)),
                np.int32(form.n_columns), b_bkq,
            )  # fmt: skip
        elif not form.nets:
            b_bkq[...] = 0
        added = False
        for net in form.nets:
            alone = not net.layers  # empty slots, without neighbours
            start, end = (0 if alone else chunk.first_slot_of(net.neighbour + k) for k in (0, 1))
            g_pm, dg_pm = self._embed(net, of.rows_pk[start:end, 0], room)
            if net.fading_gate_m is not None:
                self._fade(net.fading_gate_m, of.fade_up[:, start:end], g_pm, dg_pm, room)
            device.launch(
                self._kernels, "moment_by_net", warps, np.int32(n),
                np.int32(-1 if alone else net.neighbour), np.int32(start), *rows,
                of.empty_tb[net.neighbour if form.n_sel > 1 else 0], of.rows_pk, g_pm,
                np.int32(form.n_columns), net.padding_km, form.dtype.type(form.divisor),
                np.int32(added), b_bkq,
            )  # fmt: skip
            added = True
            if not alone:
                embedded.append(_Embedded(net, start, g_pm, dg_pm))
        return b_bkq, embedded

    def _embed(self, net: DeviceNet, s_p: Array, room: MomentRoom) -> tuple[Array, Array]:
        """G and dG/ds of the slots of one neighbour element (an empty slot's s is 0)."""
        n, xp, dtype = len(s_p), self.device.xp, self.form.dtype
        x_pi = room.net_x_pi.take(xp, (2 * n, 1), dtype)
        x_pi[:n, 0] = s_p
        x_pi[n:] = 1
        for k, layer in enumerate(net.layers):
            width = layer.weight_io.shape[1]
            z_po = room.net_z_po.take(xp, (2 * n, width), dtype)
            self.device.multiply(x_pi, layer.weight_io, z_po)
            last = k == len(net.layers) - 1
            kept = room.g_tpm.setdefault(net.neighbour, Buffer())
            y_po = (kept if last else room.net_y_po[k % 2]).take(xp, (2 * n, width), dtype)
            self.device.launch(
                self._kernels, "embedding_layer", kernels.warps(n), z_po, x_pi, layer.joins,
                np.int32(x_pi.shape[1]), np.int32(n), np.int32(width), layer.bias_o, layer.idt_o,
                *layer.activation, y_po,
            )  # fmt: skip
            x_pi = y_po
        if net.factor_m is not None:
            x_pi *= net.factor_m
        return x_pi[:n], x_pi[n:]

    def _fade(
        self, gate_m: Array, fade_up: Array, g_pm: Array, dg_pm: Array, room: MomentRoom
    ) -> None:
        """G (1 + gate fade) and its derivative in place; without allocating, as steps may not."""
        xp, (n, width) = self.device.xp, g_pm.shape
        # free by now: the last layer's
        work_po = room.net_z_po.take(xp, (2 * n, width), self.form.dtype)
        opened_pm, of_slope_pm = work_po[:n], work_po[n:]
        xp.multiply(fade_up[0, :, None], gate_m, out=opened_pm)
        opened_pm += 1
        xp.multiply(fade_up[1, :, None], gate_m, out=of_slope_pm)
        of_slope_pm *= g_pm
        dg_pm *= opened_pm
        dg_pm += of_slope_pm
        g_pm *= opened_pm
