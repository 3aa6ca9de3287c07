"""se_atten (DPA-1): the equations are in `lmp_dp.model.descriptors.se_atten`.

G of each slot, through the layers of attention if there are any, then T and D as in se_e2_a.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lmp_dp.engine.namespace import namespace_of
from lmp_dp.engine.neighbourhood import Array
from lmp_dp.engine.reference.attention import attend, normalised
from lmp_dp.engine.reference.registry import Evaluated, Rows, evaluates
from lmp_dp.engine.reference.typed_nets import Slots, embed, squared
from lmp_dp.engine.switch import switch
from lmp_dp.model.descriptors.se_atten import SeAtten

#: r̂, q, k and v are divided by their norms, or by this where those are less.
SMALLEST_NORM = {"TF": 1e-6, "DP": 1e-12}


@evaluates(SeAtten)
def evaluate(descriptor: SeAtten, centre: int, rows: Rows) -> Evaluated:
    """D of centres of element `centre`, in the rows' precision."""
    xp, filled_ns = namespace_of(rows.normalised_nsk), rows.filled_ns
    of, nets, attention = descriptor.environment, descriptor.nets, descriptor.attention
    rows_nsk, seen_ns = rows.normalised_nsk, filled_ns & ~rows.hidden_ns
    # what empty slots are told in the DP family matters only where there is one element
    nothing = of.n_types if of.rules == "TF" else 0
    told_ns = xp.where(filled_ns, rows.types_ns, nothing)
    fade_ns, fade_backward = _fade(descriptor, centre, rows, seen_ns)
    closing_ns = fade_ns if nets.smooth else xp.ones_like(fade_ns)
    embedded = embed(nets, centre, Slots(rows_nsk[:, :, 0], told_ns, filled_ns, closing_ns))
    g_nsm, smallest = embedded.g_nsm, SMALLEST_NORM[of.rules]
    unit_nsc, unit_backward = normalised(rows_nsk[:, :, 1:], smallest)
    layers = []
    for layer in attention.layers if attention else ():
        assert attention is not None
        g_nsm, layer_backward = attend(
            attention, layer, g_nsm, unit_nsc, seen_ns, fade_ns, smallest
        )
        layers.append(layer_backward)
    d_nd, squared_backward = squared(rows_nsk, g_nsm, of.n_norm, descriptor.axis_neuron)

    def backward(dd_nd: Array) -> tuple[Array, Array]:
        drows_nsk, dg_nsm = squared_backward(dd_nd)
        dfade_ns, dunit_nsc = xp.zeros_like(fade_ns), xp.zeros_like(unit_nsc)
        for layer_backward in reversed(layers):
            dg_nsm, of_unit_nsc, of_fade_ns = layer_backward(dg_nsm)
            dunit_nsc, dfade_ns = dunit_nsc + of_unit_nsc, dfade_ns + of_fade_ns
        drows_nsk[:, :, 1:] += unit_backward(dunit_nsc)
        ds_ns, dclosing_ns = embedded.backward(dg_nsm)
        drows_nsk[:, :, 0] += ds_ns
        return fade_backward(drows_nsk, dfade_ns + dclosing_ns if nets.smooth else dfade_ns)

    return Evaluated(d_nd, backward, embedded.beyond_table)


def _fade(
    descriptor: SeAtten, centre: int, rows: Rows, seen_ns: Array
) -> tuple[Array, Callable[[Array, Array], tuple[Array, Array]]]:
    """f of all slots; and from dE/drows and dE/df to dE/drows with f's part and dE/dr."""
    xp, of = namespace_of(seen_ns), descriptor.environment
    dtype, r_nsc = rows.normalised_nsk.dtype, rows.r_nsc
    if not descriptor.smooth:
        nothing_nsc = xp.zeros_like(r_nsc)
        return seen_ns.astype(dtype), lambda drows_nsk, dfade_ns: (drows_nsk, nothing_nsc)
    if descriptor.fade_radius is None:
        r_ns = xp.where(seen_ns, xp.sqrt((r_nsc * r_nsc).sum(axis=2)), of.rcut)
        sw_ns, dsw_ns = switch(r_ns, of.rcut_smth, of.switch_width)
        slope_nsc = (xp.where(seen_ns, dsw_ns, 0.0) / r_ns)[:, :, None] * r_nsc
        return (
            xp.where(seen_ns, sw_ns, 0.0).astype(dtype),
            lambda drows_nsk, dfade_ns: (drows_nsk, dfade_ns[:, :, None] * slope_nsc),
        )
    davg, dstd = float(of.davg_tk[centre, 0]), float(of.dstd_tk[centre, 0])
    s_ns = rows.normalised_nsk[:, :, 0].astype(np.float64) * dstd + davg
    below_ns = 1.0 - descriptor.fade_radius * s_ns
    f_ns = 1.0 - below_ns**3
    inside_ns = seen_ns & (f_ns > 0.0) & (f_ns < 1.0)
    slope_ns = xp.where(inside_ns, 3.0 * descriptor.fade_radius * dstd * below_ns**2, 0.0)

    def backward(drows_nsk: Array, dfade_ns: Array) -> tuple[Array, Array]:
        drows_nsk[:, :, 0] += dfade_ns * slope_ns
        return drows_nsk, xp.zeros_like(r_nsc)

    return xp.where(seen_ns, xp.clip(f_ns, 0.0, 1.0), 0.0).astype(dtype), backward
