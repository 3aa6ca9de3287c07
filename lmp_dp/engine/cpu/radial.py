"""The `Radial` form of a chunk: rows, sums by tables or embedding nets, and back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lmp_dp.engine.cpu.chunk import Chunk, Pairs
from lmp_dp.engine.cpu.embedding import embed
from lmp_dp.engine.cpu.environment import EnvironmentStage, Rows
from lmp_dp.engine.cpu.kernels import radial as kernels
from lmp_dp.engine.cpu.kernels import tables
from lmp_dp.engine.cpu.packing import PackedNet, PackedSplines, lanes_of, packed_net
from lmp_dp.engine.cpu.room import Buffer, RadialRoom
from lmp_dp.engine.forms import Radial, RadialBlock
from lmp_dp.engine.selection import Fate
from lmp_dp.model.network import Network

_I32 = np.dtype("int32")


@dataclass(frozen=True)
class Tape:
    """What the way back needs of the way forward; `dg` are dG/ds of the rows of each net."""

    rows: Rows
    dg: dict[int, np.ndarray]
    piece_p: np.ndarray
    x_p: np.ndarray
    beyond_table: int


@dataclass(frozen=True)
class _PackedBlock:
    """A block of a `Radial`; `functions` are splines, or a net with or without a kernel."""

    block: RadialBlock
    functions: PackedSplines | PackedNet | None
    columns: slice  # its own, of B


class RadialStage:
    """Evaluates a `Radial` for a fitting net of precision `fitting_dtype`."""

    def __init__(self, radial: Radial, fitting_dtype: np.dtype) -> None:
        self._radial, self._dtype, self._fitting_dtype = radial, radial.dtype, fitting_dtype
        self._lanes = lanes_of(radial.dtype)
        self._environment = EnvironmentStage(
            radial.selection, radial.davg_k, radial.dstd_k, radial.dtype
        )
        self._blocks: list[_PackedBlock] = []
        start, columns = 0, []
        for block in radial.blocks:
            if isinstance(block.functions, Network):
                all_columns = slice(0, radial.n_features)
                self._blocks.append(_PackedBlock(block, packed_net(block.functions), all_columns))
                continue
            packed = PackedSplines(block.functions, radial.dtype)
            of_block = slice(start, start + block.functions.n_functions)
            self._blocks.append(_PackedBlock(block, packed, of_block))
            columns.append(np.arange(of_block.start, of_block.stop))
            start += packed.n_columns
        #: Columns of B that are features.
        self._columns = np.concatenate(columns) if columns else np.arange(radial.n_features)
        self._n_columns = start or radial.n_features

    def new_room(self) -> RadialRoom:
        """What a worker takes chunks through this stage in."""
        return RadialRoom()

    def forward(self, chunk: Chunk, room: RadialRoom) -> tuple[np.ndarray, Tape]:
        """Features of the centres in the fitting net's precision, and the tape."""
        found = self._environment.forward(chunk, room.rows)
        chunk.clock.lap(0)
        b_bq = room.b_bq.take((len(chunk.members_b), self._n_columns), self._dtype)
        b_bq[:] = 0.0
        # of all blocks: each fills the part of its rows
        piece_p = room.piece_p.take((found.capacity,), _I32)
        x_p = room.x_p.take((found.capacity,), self._dtype)
        dg: dict[int, np.ndarray] = {}
        beyond = 0
        for of in self._blocks:
            block, functions, neighbour = of.block, of.functions, of.block.neighbour
            first_b = found.first_tb[neighbour]
            first, last = int(first_b[0]), int(first_b[-1])
            if isinstance(functions, PackedSplines):
                lookup = functions.lookup
                beyond += tables.locate(found.rows_kp[0], first, last, *lookup, piece_p, x_p)
                kernels.sums(
                    piece_p, x_p, functions.coefficients_veq, first_b, of.columns.start,
                    self._lanes, b_bq,
                )  # fmt: skip
            else:
                assert isinstance(block.functions, Network)
                g_pm, dg[neighbour] = embed(
                    block.functions, functions, found.rows_kp[0, first:last], room.g_pm,
                    room.dg_tpm.setdefault(neighbour, Buffer()), room.work,
                )  # fmt: skip
                kernels.add_nets(g_pm, first_b, b_bq)
            self._add_slots_without_rows(of, found, b_bq)
        chunk.clock.lap(1)
        x_bi = b_bq.take(self._columns, axis=1).astype(self._fitting_dtype, copy=False)
        return x_bi, Tape(found, dg, piece_p, x_p, beyond)

    def backward(self, chunk: Chunk, room: RadialRoom, dx_bi: np.ndarray, tape: Tape) -> Pairs:
        """Pair gradients from dE/dx of the features."""
        chunk.clock.lap(2)
        db_bq = room.db_bq.take((len(dx_bi), self._n_columns), self._dtype)
        db_bq[:] = 0.0
        db_bq[:, self._columns] = dx_bi
        found = tape.rows
        drows_kp = room.rows.drows_kp.take((4, found.capacity), self._dtype)
        drows_kp[1:] = 0.0
        for of in self._blocks:
            first_b, functions = found.first_tb[of.block.neighbour], of.functions
            if isinstance(functions, PackedSplines):
                kernels.slopes(
                    tape.piece_p, tape.x_p, functions.coefficients_veq, functions.slope_v, first_b,
                    of.columns.start, self._lanes, db_bq, drows_kp,
                )  # fmt: skip
            else:
                kernels.slopes_of_nets(tape.dg[of.block.neighbour], first_b, db_bq, drows_kp)
        pairs = self._environment.backward(found, room.rows, drows_kp, tape.beyond_table)
        chunk.clock.lap(3)
        return pairs

    def _add_slots_without_rows(self, of: _PackedBlock, found: Rows, b_bq: np.ndarray) -> None:
        block, selection = of.block, self._radial.selection
        own_bq, empty_b = b_bq[:, of.columns], found.empty_b(block.neighbour)
        own_bq += np.outer(empty_b, block.padding_q).astype(self._dtype)
        if selection.fate_t[block.neighbour] == Fate.HIDDEN:  # there are no rows
            hidden_b = selection.sel_t[block.neighbour] - empty_b
            own_bq += np.outer(hidden_b, block.hidden_q).astype(self._dtype)
