"""G of slots by one net that is told the elements, and D of se_e2_a from it; with the way back."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import NamedTuple

from lmp_dp.engine import network, table
from lmp_dp.engine.namespace import namespace_of
from lmp_dp.engine.neighbourhood import Array
from lmp_dp.model.typed_nets import TypedNets


class Slots(NamedTuple):
    """Slots of centres of one element.

    Attributes
    ----------
    s_ns : (n, n_slots) array
        First component of the normalised rows.
    told_ns : (n, n_slots) int array
        Row of `TypedNets.type_to` that the net is told of a slot.
    filled_ns : (n, n_slots) bool array
    fade_ns : (n, n_slots) array
        What closes a smooth gate.
    """

    s_ns: Array
    told_ns: Array
    filled_ns: Array
    fade_ns: Array


class Embedded(NamedTuple):
    """G.

    Attributes
    ----------
    g_nsm : (n, n_slots, M) array
    backward : callable
        dE/dG -> dE/ds and dE/dfade, (n, n_slots) both.
    beyond_table : int
        As in `Evaluated`.
    """

    g_nsm: Array
    backward: Callable[[Array], tuple[Array, Array]]
    beyond_table: int


def embed(nets: TypedNets, centre: int, slots: Slots) -> Embedded:
    """G of slots around centres of element `centre`."""
    return (_gated if nets.gated else _concatenated)(nets, centre, slots)


def _told(nets: TypedNets, centre: int, told_p: Array) -> list[Array]:
    """te_j of rows, and te_i."""
    xp = namespace_of(told_p)
    of_centre = [] if nets.one_side else [xp.tile(nets.type_to[centre], (len(told_p), 1))]
    return [nets.type_to[told_p], *of_centre]


def _concatenated(nets: TypedNets, centre: int, slots: Slots) -> Embedded:
    """G = net(s, te_j, te_i)."""
    s_ns, xp = slots.s_ns, namespace_of(slots.s_ns)
    told = _told(nets, centre, slots.told_ns.ravel())
    x_pi = xp.concatenate([s_ns.reshape(-1, 1), *told], axis=1)
    net = nets.embedding
    assert net is not None
    g_pm, slopes = network.forward(net, x_pi)

    def backward(dg_nsm: Array) -> tuple[Array, Array]:
        ds_p = network.backward(net, dg_nsm.reshape(g_pm.shape), slopes)[:, 0]
        return ds_p.reshape(s_ns.shape), xp.zeros_like(s_ns)

    return Embedded(g_pm.reshape(*s_ns.shape, nets.n_channels), backward, 0)


def _gated(nets: TypedNets, centre: int, slots: Slots) -> Embedded:
    """G = net(s) (1 + gate(te_j, te_i) fade)."""
    s_ns, fade_ns = slots.s_ns, slots.fade_ns
    gate_nsm = _gate(nets, centre, namespace_of(s_ns))[slots.told_ns]
    open_nsm = 1 + gate_nsm * fade_ns[:, :, None]
    net_pm, net_backward = _of_s(nets, centre, s_ns.ravel(), slots.filled_ns.ravel())
    net_nsm = net_pm.reshape(open_nsm.shape)
    beyond = 0
    if nets.tables:
        beyond = int(((s_ns > nets.tables[0].inner) & slots.filled_ns).sum())

    def backward(dg_nsm: Array) -> tuple[Array, Array]:
        ds_p = net_backward((dg_nsm * open_nsm).reshape(net_pm.shape))
        return ds_p.reshape(s_ns.shape), (dg_nsm * net_nsm * gate_nsm).sum(axis=2)

    return Embedded(net_nsm * open_nsm, backward, beyond)


def _gate(nets: TypedNets, centre: int, xp: ModuleType) -> Array:
    """The gate's values for all that a slot may hold: (n_types + 1, M)."""
    if nets.gate is None:
        assert nets.gate_ttm is not None
        return nets.gate_ttm[centre]
    told = _told(nets, centre, xp.arange(len(nets.type_to)))
    return network.forward(nets.gate, xp.concatenate(told, axis=1))[0]


def _of_s(
    nets: TypedNets, centre: int, s_p: Array, filled_p: Array
) -> tuple[Array, Callable[[Array], Array]]:
    """net(s), or its table where a slot is filled, and from dE/dnet to dE/ds."""
    if not nets.tables:
        net = nets.embedding
        assert net is not None
        net_pm, slopes = network.forward(net, s_p[:, None])
        return net_pm, lambda dnet_pm: network.backward(net, dnet_pm, slopes)[:, 0]
    xp = namespace_of(s_p)
    table_pm, slope_pm = table.forward(nets.tables[0], s_p)
    assert nets.padding_tm is not None
    padding_m = xp.asarray(nets.padding_tm[centre]).astype(s_p.dtype)
    net_pm = xp.where(filled_p[:, None], table_pm, padding_m)
    return net_pm, lambda dnet_pm: (dnet_pm * slope_pm).sum(axis=1)


def squared(
    rows_nsk: Array, g_nsm: Array, n_norm: int, axis: int
) -> tuple[Array, Callable[[Array], tuple[Array, Array]]]:
    """D_mx = sum_k T_km T_kx, T = Rᵀ G / N, x < axis; and from dE/dD to dE/dR and dE/dG."""
    xp, n = namespace_of(rows_nsk), len(rows_nsk)
    moment_nkm = xp.matmul(rows_nsk.transpose(0, 2, 1), g_nsm) / n_norm
    d_nmx = xp.matmul(moment_nkm.transpose(0, 2, 1), moment_nkm[:, :, :axis])

    def backward(dd_nd: Array) -> tuple[Array, Array]:
        dd_nmx = dd_nd.reshape(n, -1, axis)
        dmoment_nkm = xp.matmul(moment_nkm[:, :, :axis], dd_nmx.transpose(0, 2, 1))
        dmoment_nkm[:, :, :axis] += xp.matmul(moment_nkm, dd_nmx)
        dmoment_nkm /= n_norm
        return (
            xp.matmul(g_nsm, dmoment_nkm.transpose(0, 2, 1)),
            xp.matmul(rows_nsk, dmoment_nkm),
        )

    return d_nmx.reshape(n, -1), backward
