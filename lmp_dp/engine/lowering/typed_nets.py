"""Lowering to a Moment what has one embedding net that is told the elements: `TypedNets`."""

from __future__ import annotations

import numpy as np

from lmp_dp.engine import network
from lmp_dp.engine.forms import Block, Moment
from lmp_dp.engine.lowering.moment import selection_of, shared_splines
from lmp_dp.engine.lowering.reduction import reduce, unreduced
from lmp_dp.engine.lowering.registry import Lowered
from lmp_dp.engine.selection import Fate
from lmp_dp.model.descriptors.environment import Environment
from lmp_dp.model.network import Layer, Network
from lmp_dp.model.pair_nets import PairNets
from lmp_dp.model.precision import cast_network
from lmp_dp.model.typed_nets import TypedNets


def told_net(nets: TypedNets, t: int, j: int) -> Network:
    """The embedding net as a function of s alone, of neighbours that it is told row `j` of."""
    net = nets.embedding
    assert net is not None
    if nets.gated:
        return net
    first = net.layers[0]
    told_i = np.concatenate([np.zeros(1), _told(nets, t, j)])
    if first.joins == "replace":
        told = Layer(
            weight_io=first.weight_io[:1],
            bias_o=(first.bias_o + told_i @ first.weight_io).astype(nets.dtype),
            idt_o=first.idt_o,
            activation=first.activation,
            joins="replace",
        )
        return Network((told, *net.layers[1:]))
    # a layer that joins its input has all of it
    weight_io = np.eye(1, len(told_i), dtype=nets.dtype)
    inputs = Layer(weight_io, told_i.astype(nets.dtype), None, "linear", "replace")
    return Network((inputs, *net.layers))


def gate_of(nets: TypedNets, t: int, j: int) -> np.ndarray:
    """The gate's values (M,) for neighbours that it is told row `j` of; 0 without a gate."""
    if nets.gate_ttm is not None:
        return nets.gate_ttm[t, j].astype(np.float64)
    if nets.gate is None:
        return np.zeros(nets.n_channels)
    return network.forward(cast_network(nets.gate, "float64"), _told(nets, t, j)[None])[0][0]


def empty_of(nets: TypedNets, t: int, j: int, s: float) -> np.ndarray:
    """G (M,) of an empty slot, where the net is told row `j`.

    In float64, also of float32 nets: the same constant enters every atom many times.
    """
    if nets.padding_tm is not None and nets.tables:
        net_m = nets.padding_tm[t]
    else:
        net = cast_network(told_net(nets, t, j), "float64")
        net_m = network.forward(net, np.array([[s]]))[0][0]
    return net_m if nets.smooth else net_m * (1.0 + gate_of(nets, t, j))


def _told(nets: TypedNets, t: int, j: int) -> np.ndarray:
    """te_j and te_i (float64)."""
    of_neighbour_o = nets.type_to[j].astype(np.float64)
    return of_neighbour_o if nets.one_side else np.concatenate([of_neighbour_o, nets.type_to[t]])


def told_pairs(nets: TypedNets, t: int, neighbours: list[int]) -> PairNets:
    """Nets without a gate of centres of element `t`, one per element of the neighbours."""
    n_types = len(nets.type_to) - 1
    net_tt = np.full((n_types, n_types), -1)
    net_tt[t, neighbours] = np.arange(len(neighbours))
    return PairNets(net_tt, tuple(told_net(nets, t, j) for j in neighbours))


def lower_typed(
    environment: Environment,
    nets: TypedNets,
    t: int,
    axis: int,
    weight_do: np.ndarray,
    empty: list[tuple[int, int]],
    fade_radius: float | None = None,
) -> Lowered:
    """D_mx = sum_k T_km T_kx, T_km = (1/N) sum_j R_jk G_m, around centres of element `t`.

    Parameters
    ----------
    empty : list of (int, int)
        Elements whose empty slots enter (or `ALL`), and the row of `TypedNets.type_to` of those.
    fade_radius : float or None
        As in `Moment`.
    """
    selection = selection_of(environment, t)
    davg_k, dstd_k = environment.davg_tk[t], environment.dstd_tk[t]
    row_k = ((0.0 - davg_k) / dstd_k).astype(nets.dtype).astype(np.float64)
    held = [(j, empty_of(nets, t, told, row_k[0])) for j, told in empty if row_k.any()]
    has_slots_t = np.broadcast_to(environment.sel_t > 0, environment.n_types)
    neighbours = np.flatnonzero(has_slots_t & (selection.fate_t == Fate.ROW)).tolist()
    k_qr: np.ndarray | None
    if nets.tables and neighbours:
        basis_qm, blocks = _of_table(nets, t, neighbours, held, row_k)
        reduction = reduce(basis_qm, environment.n_norm, axis, weight_do)
        k_qr, divisor = reduction.k_qr, 1
    else:
        blocks = net_blocks(nets, t, neighbours)
        blocks += [Block(j, None, row_k[:, None] * empty_m) for j, empty_m in held]
        reduction = unreduced(nets.n_channels, axis, weight_do)
        k_qr, divisor = None, environment.n_norm
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
        fade_radius=fade_radius,
    )
    return Lowered((moment,), reduction.weight_io)


def _of_table(
    nets: TypedNets,
    t: int,
    neighbours: list[int],
    held: list[tuple[int, np.ndarray]],
    row_k: np.ndarray,
) -> tuple[np.ndarray, list[Block]]:
    """Rows of basis functions, and blocks: G = phi U (1 + gate), or phi U + fade phi U gate.

    The functions are the same for all pairs of elements. What empty slots embed to is a row by
    itself, as it need not be a combination of the others.
    """
    table = nets.tables[0]
    splines = shared_splines(table)
    rows, blocks = [], []
    for j in neighbours:
        gated_qm = table.basis_qm * gate_of(nets, t, j)
        rows += [table.basis_qm, gated_qm] if nets.smooth else [table.basis_qm + gated_qm]
        nothing_kq = np.zeros((4, splines.n_functions))
        blocks.append(Block(j, splines, nothing_kq, fades=nets.smooth))
    for j, empty_m in held:
        rows.append(empty_m[None])
        blocks.append(Block(j, None, row_k[:, None]))
    return np.concatenate(rows), blocks


def net_blocks(nets: TypedNets, t: int, neighbours: list[int]) -> list[Block]:
    """The net and the gate for neighbours of each element; their empty slots add nothing."""
    nothing_km = np.zeros((4, nets.n_channels))
    return [
        Block(
            j,
            told_net(nets, t, j),
            nothing_km,
            fades=nets.smooth,
            gate_m=gate_of(nets, t, j) if nets.gated else None,
        )
        for j in neighbours
    ]
