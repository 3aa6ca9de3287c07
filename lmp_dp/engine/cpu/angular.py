"""The `Angular` form of a chunk: rows, lists of their pairs, sums by tables or nets, and back.

Pairs are many: they are listed for a few centres at a time, on the way back once more. Nets are
evaluated for a part of a list, so that neither lists nor G grow with the number of centres.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lmp_dp.engine.cpu.chunk import Chunk, Pairs
from lmp_dp.engine.cpu.embedding import embed
from lmp_dp.engine.cpu.environment import EnvironmentStage, Rows
from lmp_dp.engine.cpu.kernels import angular as kernels
from lmp_dp.engine.cpu.kernels import tables
from lmp_dp.engine.cpu.packing import PackedNet, PackedSplines, lanes_of, packed_net
from lmp_dp.engine.cpu.room import AngularRoom
from lmp_dp.engine.forms import Angular, AngularBlock, Splines
from lmp_dp.model.network import Network

_I64, _I32 = np.dtype("int64"), np.dtype("int32")
#: Pairs of a list, which fit the L2 cache with all that is known of them; those of one centre may
#: be more. Of them nets take so many at a time.
LISTED, EMBEDDED = 4096, 1024


@dataclass(frozen=True)
class Tape:
    """What the way back needs of the way forward."""

    rows: Rows
    v_cp: np.ndarray
    count_p: np.ndarray
    start_tb: np.ndarray
    beyond_table: int


@dataclass(frozen=True)
class _PackedBlock:
    """A block of an `Angular`; `functions` are splines, or a net with or without a kernel."""

    block: AngularBlock
    functions: PackedSplines | PackedNet | None
    start: int  # first column of B


@dataclass(frozen=True)
class _List:
    """Pairs of the centres `of_b` (`kernels.angular`)."""

    of_b: slice
    e_p: np.ndarray
    weight_p: np.ndarray
    one_p: np.ndarray
    two_p: np.ndarray
    first_b: np.ndarray


class AngularStage:
    """Evaluates an `Angular` for a fitting net of precision `fitting_dtype`."""

    def __init__(self, angular: Angular, fitting_dtype: np.dtype) -> None:
        self._angular, self._dtype, self._fitting_dtype = angular, angular.dtype, fitting_dtype
        self._lanes = lanes_of(angular.dtype)
        self._environment = EnvironmentStage(
            angular.selection, angular.davg_k, angular.dstd_k, angular.dtype
        )
        self._empty_c = ((0.0 - angular.davg_k) / angular.dstd_k)[1:].astype(angular.dtype)
        self._blocks: list[_PackedBlock] = []
        start, columns = 0, []
        for block in angular.blocks:
            if isinstance(block.functions, Network):
                self._blocks.append(_PackedBlock(block, packed_net(block.functions), 0))
                continue
            packed = PackedSplines(block.functions, angular.dtype)
            self._blocks.append(_PackedBlock(block, packed, start))
            columns.append(start + np.arange(block.functions.n_functions))
            start += packed.n_columns
        #: Columns of B that are features.
        self._columns = np.concatenate(columns) if columns else np.arange(angular.n_features)
        self._n_columns = start or angular.n_features

    def new_room(self) -> AngularRoom:
        """What a worker takes chunks through this stage in."""
        return AngularRoom()

    def forward(self, chunk: Chunk, room: AngularRoom) -> tuple[np.ndarray, Tape]:
        """Features of the centres in the fitting net's precision, and the tape."""
        found = self._environment.forward(chunk, room.rows)
        tape = self._vectors(found, room)
        chunk.clock.lap(0)
        b_bq = room.b_bq.take((len(chunk.members_b), self._n_columns), self._dtype)
        b_bq[:] = 0.0
        for block in self._blocks:
            for pairs in self._lists(block.block, tape, room):
                b_of_list = b_bq[pairs.of_b]
                if isinstance(block.functions, PackedSplines):
                    piece_p, x_p = self._locate(block.functions, pairs, room)
                    kernels.sums(
                        pairs.e_p, pairs.weight_p, piece_p, x_p, block.functions.coefficients_veq,
                        pairs.first_b, block.start, self._lanes, b_of_list,
                    )  # fmt: skip
                    continue
                for first, g_pm, _ in self._embedded(block, pairs, room):
                    kernels.add_nets(
                        pairs.e_p, pairs.weight_p, g_pm, first, pairs.first_b, b_of_list
                    )
        chunk.clock.lap(1)
        return b_bq.take(self._columns, axis=1).astype(self._fitting_dtype, copy=False), tape

    def backward(self, chunk: Chunk, room: AngularRoom, dx_bi: np.ndarray, tape: Tape) -> Pairs:
        """Pair gradients from dE/dx of the features."""
        chunk.clock.lap(2)
        db_bq = room.db_bq.take((len(dx_bi), self._n_columns), self._dtype)
        db_bq[:] = 0.0
        db_bq[:, self._columns] = dx_bi
        dv_cp = room.dv_cp.take(tape.v_cp.shape, self._dtype)
        dv_cp[:] = 0.0
        for block in self._blocks:
            for pairs in self._lists(block.block, tape, room):
                db_of_list, n_pairs = db_bq[pairs.of_b], len(pairs.e_p)
                de_p = room.de_p.take((n_pairs,), self._dtype)
                if isinstance(block.functions, PackedSplines):
                    piece_p, x_p = self._locate(block.functions, pairs, room)
                    kernels.slopes(
                        pairs.e_p, pairs.weight_p, piece_p, x_p, block.functions.coefficients_veq,
                        block.functions.slope_v, pairs.first_b, block.start, self._lanes,
                        db_of_list, de_p,
                    )  # fmt: skip
                else:
                    for first, g_pm, dg_pm in self._embedded(block, pairs, room):
                        kernels.slopes_of_nets(
                            pairs.e_p, pairs.weight_p, g_pm, dg_pm, first, pairs.first_b,
                            db_of_list, de_p,
                        )  # fmt: skip
                kernels.add_gradients(tape.v_cp, pairs.one_p, pairs.two_p, de_p, n_pairs, dv_cp)
        found = tape.rows
        drows_kp = room.rows.drows_kp.take((4, found.capacity), self._dtype)
        kernels.to_rows(dv_cp, found.first_tb, tape.start_tb, drows_kp)
        pairs_of_atoms = self._environment.backward(found, room.rows, drows_kp, tape.beyond_table)
        chunk.clock.lap(3)
        return pairs_of_atoms

    def _vectors(self, found: Rows, room: AngularRoom) -> Tape:
        n_types, n_offsets = found.first_tb.shape
        capacity = found.capacity + n_types * (n_offsets - 1)
        v_cp = room.v_cp.take((3, capacity), self._dtype)
        count_p = room.count_p.take((capacity,), self._dtype)
        start_tb = room.start_tb.take(found.first_tb.shape, _I64)
        kernels.vectors(
            found.rows_kp, found.first_tb, found.empty_tb, self._empty_c, v_cp, count_p, start_tb,
        )  # fmt: skip
        return Tape(found, v_cp, count_p, start_tb, self._beyond(found))

    def _beyond(self, found: Rows) -> int:
        """Rows of neighbours closer than the tables were made for: e = R . R of each."""
        beyond = 0
        for block in self._angular.blocks:
            one, two = block.neighbours
            if one == two and isinstance(block.functions, Splines):
                first, last = found.first_tb[one, [0, -1]]
                e_p = np.square(found.rows_kp[1:, first:last]).sum(axis=0)
                beyond += int((e_p > block.functions.inner).sum())
        return beyond

    def _lists(self, block: AngularBlock, tape: Tape, room: AngularRoom) -> Iterator[_List]:
        """All pairs of the block, those of some centres at a time."""
        one, two = block.neighbours
        one_b, two_b, same = tape.start_tb[one], tape.start_tb[two], one == two
        n_b = len(one_b) - 1
        n_p = np.empty(n_b, np.int64)
        kernels.count(one_b, two_b, same, n_p)
        ends_b = np.cumsum(n_p)
        first = before = 0
        while first < n_b:
            last = max(first + 1, int(np.searchsorted(ends_b, before + LISTED, side="right")))
            n, n_pairs = last - first, int(ends_b[last - 1]) - before
            pairs = _List(
                slice(first, last),
                room.e_p.take((n_pairs,), self._dtype),
                room.weight_p.take((n_pairs,), self._dtype),
                room.one_p.take((n_pairs,), _I32),
                room.two_p.take((n_pairs,), _I32),
                room.first_b.take((n + 1,), _I64),
            )
            kernels.pairs(
                tape.v_cp, tape.count_p, one_b[first : last + 1], two_b[first : last + 1], same,
                block.weight, pairs.e_p, pairs.weight_p, pairs.one_p, pairs.two_p, pairs.first_b,
            )  # fmt: skip
            yield pairs
            first, before = last, before + n_pairs

    def _locate(
        self, splines: PackedSplines, pairs: _List, room: AngularRoom
    ) -> tuple[np.ndarray, np.ndarray]:
        n_pairs = len(pairs.e_p)
        piece_p = room.piece_p.take((n_pairs,), _I32)
        x_p = room.x_p.take((n_pairs,), self._dtype)
        tables.locate(pairs.e_p, 0, n_pairs, *splines.lookup, piece_p, x_p)
        return piece_p, x_p

    def _embedded(
        self, block: _PackedBlock, pairs: _List, room: AngularRoom
    ) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """G and dG/de of a list's pairs, some at a time, from the first of them on."""
        net, packed = block.block.functions, block.functions
        assert isinstance(net, Network)
        assert not isinstance(packed, PackedSplines)
        for first in range(0, len(pairs.e_p), EMBEDDED):
            e_p = pairs.e_p[first : first + EMBEDDED]
            yield first, *embed(net, packed, e_p, room.g_pm, room.dg_pm, room.work)
