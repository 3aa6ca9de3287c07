r"""The se_e2_a descriptor of centres of one element, forward and backward.

    T_km = (1/N) sum_s R_sk G_sm,   G_s = embedding_ij(R_s0)   (R normalised, all slots)

with the embedding net or, in a compressed model, its table; padded slots then take the net's own
value.
    D_mx = sum_k T_km T_kx,         x < axis_neuron, flattened as m * axis_neuron + x
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lmp_dp.engine import network, table
from lmp_dp.engine.namespace import namespace_of
from lmp_dp.engine.neighbourhood import Array
from lmp_dp.model.deep_potential import Descriptor


@dataclass
class _Block:
    """What the backward pass needs of one neighbour element."""

    slots: slice
    g_nsm: Array
    input_gradient: Callable[[Array], Array]  # dE/dG of rows -> dE/ds


@dataclass
class Tape:
    """Intermediate values of a forward pass."""

    rows_nsk: Array
    moment_nkm: Array
    blocks: list[_Block]


def forward(
    descriptor: Descriptor, centre: int, rows_nsk: Array, filled_ns: Array
) -> tuple[Array, Tape]:
    """Descriptor of centres of element `centre` from normalised rows, in the rows' precision.

    Returns
    -------
    d_nd : (n, M * axis_neuron) array
    tape : Tape
    """
    xp = namespace_of(rows_nsk)
    n = len(rows_nsk)
    moment_nkm = xp.zeros((n, 4, descriptor.n_channels), dtype=rows_nsk.dtype)
    blocks = []
    start = 0
    for neighbour, count in enumerate(descriptor.sel_t.tolist()):
        slots = slice(start, start + count)
        start += count
        if descriptor.excluded_tt[centre, neighbour] or count == 0:
            continue
        s_p = rows_nsk[:, slots, 0].ravel()
        g_pm, input_gradient = _embed(
            descriptor, centre, neighbour, s_p, filled_ns[:, slots].ravel()
        )
        g_nsm = g_pm.reshape(n, count, -1)
        moment_nkm += xp.matmul(rows_nsk[:, slots].transpose(0, 2, 1), g_nsm)
        blocks.append(_Block(slots, g_nsm, input_gradient))
    moment_nkm /= descriptor.n_norm
    d_nmx = xp.matmul(moment_nkm.transpose(0, 2, 1), moment_nkm[:, :, : descriptor.axis_neuron])
    return d_nmx.reshape(n, -1), Tape(rows_nsk, moment_nkm, blocks)


def beyond_tables(descriptor: Descriptor, centre: int, rows_nsk: Array, filled_ns: Array) -> int:
    """How many neighbours are closer than the tables' fine part was made for."""
    beyond, start = 0, 0
    for neighbour, count in enumerate(descriptor.sel_t.tolist()):
        slots = slice(start, start + count)
        start += count
        tabulated = descriptor.table(centre, neighbour)
        if tabulated is not None:
            outside_ns = (rows_nsk[:, slots, 0] > tabulated.inner) & filled_ns[:, slots]
            beyond += int(outside_ns.sum())
    return beyond


def backward(descriptor: Descriptor, dd_nd: Array, tape: Tape) -> Array:
    """dE/d(normalised rows) from dE/dD: (n, n_slots, 4)."""
    xp = namespace_of(dd_nd)
    n, axis = len(dd_nd), descriptor.axis_neuron
    dd_nmx = dd_nd.reshape(n, -1, axis)
    dmoment_nkm = xp.matmul(tape.moment_nkm[:, :, :axis], dd_nmx.transpose(0, 2, 1))
    dmoment_nkm[:, :, :axis] += xp.matmul(tape.moment_nkm, dd_nmx)
    dmoment_nkm /= descriptor.n_norm
    drows_nsk = xp.zeros_like(tape.rows_nsk)
    for block in tape.blocks:
        drows_nsk[:, block.slots] = xp.matmul(block.g_nsm, dmoment_nkm.transpose(0, 2, 1))
        dg_nsm = xp.matmul(tape.rows_nsk[:, block.slots], dmoment_nkm)
        ds_p = block.input_gradient(dg_nsm.reshape(-1, dg_nsm.shape[2]))
        drows_nsk[:, block.slots, 0] += ds_p.reshape(n, -1)
    return drows_nsk


def _embed(
    descriptor: Descriptor, centre: int, neighbour: int, s_p: Array, filled_p: Array
) -> tuple[Array, Callable[[Array], Array]]:
    """G of each slot by table or net, and the way back from dE/dG to dE/ds."""
    if not descriptor.tables:
        net = descriptor.embedding(centre, neighbour)
        assert net is not None
        g_pm, slopes = network.forward(net, s_p[:, None])
        return g_pm, lambda dg_pm: network.backward(net, dg_pm, slopes)[:, 0]
    tabulated, padding_tjm = descriptor.table(centre, neighbour), descriptor.padding_tjm
    assert tabulated is not None
    assert padding_tjm is not None
    xp = namespace_of(s_p)
    g_pm, slope_pm = table.forward(tabulated, s_p)
    padding_m = xp.asarray(padding_tjm[centre, neighbour]).astype(s_p.dtype)
    g_pm = xp.where(filled_p[:, None], g_pm, padding_m)
    return g_pm, lambda dg_pm: (dg_pm * slope_pm).sum(axis=1)
