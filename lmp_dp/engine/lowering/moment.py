"""Lowering to a Moment what is made of embedding nets per pair of elements, or of their tables."""

from __future__ import annotations

import weakref
from dataclasses import replace

import numpy as np

from lmp_dp.engine import network
from lmp_dp.engine.forms import Block, Moment, Splines
from lmp_dp.engine.lowering.reduction import Reduction, reduce, unreduced
from lmp_dp.engine.lowering.registry import Lowered
from lmp_dp.engine.selection import Fate, Selection
from lmp_dp.model.descriptors.environment import Environment
from lmp_dp.model.network import Network
from lmp_dp.model.pair_nets import PairNets
from lmp_dp.model.precision import cast_network
from lmp_dp.model.table import Table


def lower_moment(
    environment: Environment, nets: PairNets, t: int, axis: int, weight_do: np.ndarray
) -> Lowered:
    """D_mx = sum_k T_km T_kx, T_km = (1/N) sum_j R_jk G_m(s_j), around centres of element `t`.

    Parameters
    ----------
    environment : Environment
    nets : PairNets
        G of each pair of elements; tables in place of nets where there are any.
    axis : int
        x < axis.
    weight_do : (M * axis, n_out) array
        Weights on D, flattened as m * axis + x.
    """
    selection = selection_of(environment, t)
    davg_k, dstd_k = environment.davg_tk[t], environment.dstd_tk[t]
    neighbours = np.flatnonzero((environment.sel_t > 0) & (nets.net_tt[t] >= 0)).tolist()
    k_qr: np.ndarray | None = None
    blocks: list[Block]
    row_k = (0.0 - davg_k) / dstd_k
    if nets.tables and neighbours:
        tables = [nets.tables[nets.net_tt[t, j]] for j in neighbours]
        basis_qm = np.concatenate([table.basis_qm for table in tables])
        reduction = reduce(basis_qm, environment.n_norm, axis, weight_do)
        blocks = _spline_blocks(neighbours, tables, reduction, nets.padding_of(t), row_k)
        if len(neighbours) > 1:  # else it is in the coefficients
            k_qr = reduction.k_qr
        divisor = 1
    else:
        reduction = unreduced(nets.n_channels, axis, weight_do)
        functions = [nets.embeddings[nets.net_tt[t, j]] for j in neighbours]
        blocks = [
            Block(j, net, _padding_of_net(net, row_k))
            for j, net in zip(neighbours, functions, strict=True)
        ]
        divisor = environment.n_norm
    moment = Moment(
        selection=selection,
        davg_k=davg_k,
        dstd_k=dstd_k,
        blocks=tuple(blocks),
        k_qr=k_qr,
        divisor=divisor,
        rank=reduction.rank,
        n_axis=reduction.n_axis,
        dtype=nets.dtype,
    )
    return Lowered((moment,), reduction.weight_io)


def selection_of(environment: Environment, t: int) -> Selection:
    """Which neighbours centres of element `t` take."""
    fate_t = np.full(environment.n_types, int(Fate.ROW))
    excluded = Fate.HIDDEN if environment.excluded_take_slots else Fate.ABSENT
    fate_t[environment.excluded_tt[t]] = excluded
    if environment.unseen_tt is not None:
        fate_t[environment.unseen_tt[t]] = Fate.EMPTY
    return Selection(
        rcut=environment.reach or environment.rcut,
        rcut_smth=environment.rcut_smth,
        width=environment.switch_width,
        sel_t=environment.sel_t.astype(np.int64),
        fate_t=fate_t,
        in_float32=environment.rules == "TF",
        n_nearest=environment.n_candidates,
        protection=environment.protection,
    )


def _spline_blocks(
    neighbours: list[int],
    tables: list[Table],
    reduction: Reduction,
    padding_tm: np.ndarray,
    row_k: np.ndarray,
) -> list[Block]:
    """The tables' functions; with one neighbour element their combinations C, K being folded in."""
    blocks = []
    for j, table in zip(neighbours, tables, strict=True):
        splines = shared_splines(table)
        padding_q = padding_tm[j] @ table.basis_qm.T
        if len(neighbours) == 1:
            k_qr = reduction.k_qr
            splines = replace(splines, coefficients_veq=splines.coefficients_veq @ k_qr)
            padding_q = padding_q @ k_qr
        blocks.append(Block(j, splines, row_k[:, None] * padding_q))
    return blocks


_SPLINES: dict[int, Splines] = {}


def shared_splines(table: Table) -> Splines:
    """The functions of a table: one object for all blocks that have them, as long as it lives."""
    key = id(table)
    if key not in _SPLINES:
        coefficients_veq = np.concatenate([table.coefficients_veq, table.lines()])
        _SPLINES[key] = splines_of(table, coefficients_veq)
        weakref.finalize(table, _SPLINES.pop, key)
    return _SPLINES[key]


def splines_of(table: Table, coefficients_veq: np.ndarray) -> Splines:
    """Functions that lie as a table's do."""
    return Splines(
        lower=table.lower,
        inner=table.inner,
        cell_width=table.cell_width,
        pieces_h=table.pieces_h.astype(np.int64),
        coefficients_veq=coefficients_veq,
    )


def _padding_of_net(net: Network, row_k: np.ndarray) -> np.ndarray:
    """R_k G_m of an empty slot, R = -davg/dstd as the net's precision has it.

    Evaluated in float64 also for float32 nets: the same constant enters every atom many times, so
    that its rounding would not average out.
    """
    row_k = row_k.astype(net.dtype).astype(np.float64)
    return row_k[:, None] * network.forward(cast_network(net, "float64"), row_k[None, :1])[0]
