r"""The se_e2_r descriptor of centres of one element (`lmp_dp.model.descriptors.se_e2_r`).

    D_m = (1/5) (1/N) sum_s G_sm,   G_s = embedding_ij(R_s0)   (R normalised, all slots)

Where i does not see j, G of the TF family is 0 if each pair of elements has a net of its own. If
centres share nets it is G(0), of all slots of that element; in the DP family of those that hold a
neighbour.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from lmp_dp.engine.namespace import namespace_of
from lmp_dp.engine.neighbourhood import Array
from lmp_dp.engine.reference.registry import Evaluated, Rows, evaluates
from lmp_dp.engine.reference.se_e2_a import embed
from lmp_dp.model.descriptors.se_e2_r import SCALE, SeE2R


class _Block(NamedTuple):
    """What the backward pass needs of one neighbour element."""

    slots: slice
    input_gradient: Callable[[Array], Array]  # dE/dG of rows -> dE/ds


@evaluates(SeE2R)
def evaluate(descriptor: SeE2R, centre: int, rows: Rows) -> Evaluated:
    """D of centres of element `centre`, in the rows' precision."""
    rows_nsk = rows.normalised_nsk
    xp, n = namespace_of(rows_nsk), len(rows_nsk)
    of, nets = descriptor.environment, descriptor.nets
    d_nm = xp.zeros((n, nets.n_channels), dtype=rows_nsk.dtype)
    blocks: list[_Block] = []
    beyond = start = 0
    for neighbour, count in enumerate(of.sel_t.tolist()):
        slots = slice(start, start + count)
        start += count
        net = nets.net_tt[centre, neighbour]
        if net < 0 or count == 0:
            continue
        s_p, filled_p = rows_nsk[:, slots, 0].ravel(), rows.filled_ns[:, slots].ravel()
        if of.rules == "TF" and of.excluded_tt[centre, neighbour]:
            s_p, filled_p = xp.zeros_like(s_p), xp.ones_like(filled_p)
        g_pm, input_gradient = embed(nets, centre, neighbour, s_p, filled_p)
        d_nm += g_pm.reshape(n, count, -1).sum(axis=1)
        blocks.append(_Block(slots, input_gradient))
        if nets.tables:
            beyond += int(((s_p > nets.tables[net].inner) & filled_p).sum())
    d_nm *= SCALE
    d_nm /= of.n_norm

    def backward(dd_nm: Array) -> Array:
        drows_nsk = xp.zeros_like(rows_nsk)
        for slots, input_gradient in blocks:
            dg_pm = xp.repeat(dd_nm * SCALE / of.n_norm, slots.stop - slots.start, axis=0)
            drows_nsk[:, slots, 0] = input_gradient(dg_pm).reshape(n, -1)
        return drows_nsk

    return Evaluated(d_nm, backward, beyond)
