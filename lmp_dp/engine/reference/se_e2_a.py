r"""The se_e2_a descriptor of centres of one element (Zhang et al., NeurIPS 2018).

    T_km = (1/N) sum_s R_sk G_sm,   G_s = embedding_ij(R_s0)   (R normalised, all slots)

with the embedding net or, in a compressed model, its table; empty slots then take the net's own
value.
    D_mx = sum_k T_km T_kx,         x < axis_neuron, flattened as m * axis_neuron + x
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from lmp_dp.engine import network, table
from lmp_dp.engine.namespace import namespace_of
from lmp_dp.engine.neighbourhood import Array
from lmp_dp.engine.reference.registry import Evaluated, Rows, evaluates
from lmp_dp.model.descriptors.se_e2_a import SeE2A
from lmp_dp.model.pair_nets import PairNets


class _Block(NamedTuple):
    """What the backward pass needs of one neighbour element."""

    slots: slice
    g_nsm: Array
    input_gradient: Callable[[Array], Array]  # dE/dG of rows -> dE/ds


@evaluates(SeE2A)
def evaluate(descriptor: SeE2A, centre: int, rows: Rows) -> Evaluated:
    """D of centres of element `centre`, in the rows' precision."""
    rows_nsk, filled_ns = rows.normalised_nsk, rows.filled_ns
    xp = namespace_of(rows_nsk)
    environment, nets, axis = descriptor.environment, descriptor.nets, descriptor.axis_neuron
    n = len(rows_nsk)
    moment_nkm = xp.zeros((n, 4, nets.n_channels), dtype=rows_nsk.dtype)
    blocks: list[_Block] = []
    beyond = start = 0
    for neighbour, count in enumerate(environment.sel_t.tolist()):
        slots = slice(start, start + count)
        start += count
        net = nets.net_tt[centre, neighbour]
        if net < 0 or count == 0:
            continue
        s_p, filled_p = rows_nsk[:, slots, 0].ravel(), filled_ns[:, slots].ravel()
        g_pm, input_gradient = embed(nets, centre, neighbour, s_p, filled_p)
        g_nsm = g_pm.reshape(n, count, -1)
        moment_nkm += xp.matmul(rows_nsk[:, slots].transpose(0, 2, 1), g_nsm)
        blocks.append(_Block(slots, g_nsm, input_gradient))
        if nets.tables:
            beyond += int(((s_p > nets.tables[net].inner) & filled_p).sum())
    moment_nkm /= environment.n_norm
    d_nmx = xp.matmul(moment_nkm.transpose(0, 2, 1), moment_nkm[:, :, :axis])

    def backward(dd_nd: Array) -> Array:
        dd_nmx = dd_nd.reshape(n, -1, axis)
        dmoment_nkm = xp.matmul(moment_nkm[:, :, :axis], dd_nmx.transpose(0, 2, 1))
        dmoment_nkm[:, :, :axis] += xp.matmul(moment_nkm, dd_nmx)
        dmoment_nkm /= environment.n_norm
        drows_nsk = xp.zeros_like(rows_nsk)
        for slots, g_nsm, input_gradient in blocks:
            drows_nsk[:, slots] = xp.matmul(g_nsm, dmoment_nkm.transpose(0, 2, 1))
            dg_nsm = xp.matmul(rows_nsk[:, slots], dmoment_nkm)
            ds_p = input_gradient(dg_nsm.reshape(-1, dg_nsm.shape[2]))
            drows_nsk[:, slots, 0] += ds_p.reshape(n, -1)
        return drows_nsk

    return Evaluated(d_nmx.reshape(n, -1), backward, beyond)


def embed(
    nets: PairNets, centre: int, neighbour: int, s_p: Array, filled_p: Array
) -> tuple[Array, Callable[[Array], Array]]:
    """G of each slot by table or net, and the way back from dE/dG to dE/ds."""
    if not nets.tables:
        net = nets.embeddings[nets.net_tt[centre, neighbour]]
        g_pm, slopes = network.forward(net, s_p[:, None])
        return g_pm, lambda dg_pm: network.backward(net, dg_pm, slopes)[:, 0]
    xp = namespace_of(s_p)
    g_pm, slope_pm = table.forward(nets.tables[nets.net_tt[centre, neighbour]], s_p)
    padding_m = xp.asarray(nets.padding_of(centre)[neighbour]).astype(s_p.dtype)
    g_pm = xp.where(filled_p[:, None], g_pm, padding_m)
    return g_pm, lambda dg_pm: (dg_pm * slope_pm).sum(axis=1)
