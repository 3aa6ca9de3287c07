r"""The se_e3 descriptor of centres of one element (`lmp_dp.model.descriptors.se_e3`).

    D_m = sum_{a <= b} 1/(sel_a sel_b) sum_{j in a, k in b} e_jk G^ab_m(e_jk),   e_jk = R_j . R_k

over all slots, with the last three components of the normalised rows R, and the embedding net G^ab
or, in a compressed model, its table.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations_with_replacement
from typing import NamedTuple

import numpy as np

from lmp_dp.engine import network, table
from lmp_dp.engine.namespace import namespace_of
from lmp_dp.engine.neighbourhood import Array
from lmp_dp.engine.reference.registry import Evaluated, Rows, evaluates
from lmp_dp.model.descriptors.se_e3 import SeE3
from lmp_dp.model.pair_nets import PairNets


class _Block(NamedTuple):
    """What the backward pass needs of two neighbour elements."""

    slots: tuple[slice, slice]
    scale: float
    e_p: Array
    g_pm: Array
    input_gradient: Callable[[Array], Array]  # dE/dG of e -> dE/de


def _pairs_of_slots(descriptor: SeE3) -> int:
    sel_t = descriptor.environment.sel_t
    return int((sel_t.sum() ** 2 + (sel_t**2).sum()) // 2)


@evaluates(SeE3, n_embedded=_pairs_of_slots)
def evaluate(descriptor: SeE3, centre: int, rows: Rows) -> Evaluated:
    """D of centres of element `centre`, in the rows' precision."""
    r_nsc = rows.normalised_nsk[:, :, 1:]
    xp = namespace_of(r_nsc)
    environment, nets = descriptor.environment, descriptor.nets
    n, sel_t = len(r_nsc), environment.sel_t.tolist()
    ends = np.cumsum(sel_t).tolist()
    with_slots = [t for t in range(len(sel_t)) if sel_t[t] > 0]
    d_nm = xp.zeros((n, nets.n_channels), dtype=r_nsc.dtype)
    blocks: list[_Block] = []
    beyond = 0
    for a, b in combinations_with_replacement(with_slots, 2):
        if nets.net_tt[a, b] < 0:
            continue
        of_a, of_b = (slice(ends[t] - sel_t[t], ends[t]) for t in (a, b))
        e_nss = xp.matmul(r_nsc[:, of_a], r_nsc[:, of_b].transpose(0, 2, 1))
        g_pm, input_gradient = _embed(nets, a, b, e_nss.ravel())
        scale = 1.0 / sel_t[a] / sel_t[b]
        d_nm += scale * (e_nss.reshape(n, -1, 1) * g_pm.reshape(n, -1, nets.n_channels)).sum(axis=1)
        blocks.append(_Block((of_a, of_b), scale, e_nss.ravel(), g_pm, input_gradient))
        if nets.tables and a == b:
            e_ns = (r_nsc[:, of_a] ** 2).sum(axis=2)
            inner = nets.tables[nets.net_tt[a, a]].inner
            beyond += int(((e_ns > inner) & rows.filled_ns[:, of_a]).sum())

    def backward(dd_nm: Array) -> Array:
        drows_nsk = xp.zeros_like(rows.normalised_nsk)
        for (of_a, of_b), scale, e_p, g_pm, input_gradient in blocks:
            dd_pm = xp.repeat(scale * dd_nm, len(e_p) // n, axis=0)
            de_p = (dd_pm * g_pm).sum(axis=1) + input_gradient(dd_pm * e_p[:, None])
            de_nss = de_p.reshape(n, of_a.stop - of_a.start, -1)
            drows_nsk[:, of_a, 1:] += xp.matmul(de_nss, r_nsc[:, of_b])
            drows_nsk[:, of_b, 1:] += xp.matmul(de_nss.transpose(0, 2, 1), r_nsc[:, of_a])
        return drows_nsk

    return Evaluated(d_nm, backward, beyond)


def _embed(nets: PairNets, a: int, b: int, e_p: Array) -> tuple[Array, Callable[[Array], Array]]:
    """G by table or net, and the way back from dE/dG to dE/de."""
    if not nets.tables:
        net = nets.embeddings[nets.net_tt[a, b]]
        g_pm, slopes = network.forward(net, e_p[:, None])
        return g_pm, lambda dg_pm: network.backward(net, dg_pm, slopes)[:, 0]
    g_pm, slope_pm = table.forward(nets.tables[nets.net_tt[a, b]], e_p)
    return g_pm, lambda dg_pm: (dg_pm * slope_pm).sum(axis=1)
