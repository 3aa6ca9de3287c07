"""se_e2_a of one embedding net that is told the elements; see `lmp_dp.model.typed_nets`.

T_km = (1/N) sum_s R_sk G_sm,  D_mx = sum_k T_km T_kx, x < axis_neuron; all slots. Slots are each of
an element, empty ones as well: net(s, te_j, te_i) is told that. For a gate an empty slot is of no
element. Slots of excluded elements are rows of 0.
"""

from __future__ import annotations

import numpy as np

from lmp_dp.engine.namespace import namespace_of
from lmp_dp.engine.neighbourhood import Array
from lmp_dp.engine.reference.registry import Evaluated, Rows, evaluates
from lmp_dp.engine.reference.typed_nets import Slots, embed, squared
from lmp_dp.model.descriptors.se_e2_a_tebd import SeE2ATebd


@evaluates(SeE2ATebd)
def evaluate(descriptor: SeE2ATebd, centre: int, rows: Rows) -> Evaluated:
    """D of centres of element `centre`, in the rows' precision."""
    xp = namespace_of(rows.normalised_nsk)
    of, nets = descriptor.environment, descriptor.nets
    element_s = xp.asarray(np.repeat(np.arange(of.n_types), of.sel_t))
    seen_s = ~xp.asarray(of.excluded_tt[centre])[element_s]
    rows_nsk = rows.normalised_nsk * seen_s[:, None]
    told_ns = xp.broadcast_to(element_s, rows.filled_ns.shape)
    if nets.gated:
        told_ns = xp.where(rows.filled_ns, told_ns, of.n_types)
    s_ns = rows_nsk[:, :, 0]
    embedded = embed(nets, centre, Slots(s_ns, told_ns, rows.filled_ns, xp.ones_like(s_ns)))
    d_nd, squared_backward = squared(rows_nsk, embedded.g_nsm, of.n_norm, descriptor.axis_neuron)

    def backward(dd_nd: Array) -> Array:
        drows_nsk, dg_nsm = squared_backward(dd_nd)
        drows_nsk[:, :, 0] += embedded.backward(dg_nsm)[0]
        return drows_nsk * seen_s[:, None]

    return Evaluated(d_nd, backward, embedded.beyond_table)
