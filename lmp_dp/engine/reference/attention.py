"""One layer of attention among the slots of a centre, and the way back.

    w = softmax(scale q kᵀ) [r̂ r̂ᵀ],   G <- LN(G + out(w v)),   q, k, v of G, each over its norm

Details are in `lmp_dp.model.descriptors.se_atten`; rows are queries, columns keys.
"""

from __future__ import annotations

from collections.abc import Callable

from lmp_dp.engine import network
from lmp_dp.engine.namespace import namespace_of
from lmp_dp.engine.neighbourhood import Array
from lmp_dp.model.descriptors.se_atten import Attention, AttentionLayer
from lmp_dp.model.network import Network

#: What a smooth q kᵀ is shifted by, so that slots that hold nothing have hardly any weight.
SHIFT = 20.0

_Backward = Callable[[Array], Array]


def attend(
    of: Attention,
    layer: AttentionLayer,
    g_nsm: Array,
    unit_nsc: Array,
    seen_ns: Array,
    fade_ns: Array,
    smallest: float,
) -> tuple[Array, Callable[[Array], tuple[Array, Array, Array]]]:
    """G of the next layer, and from its gradient to those of G, r̂ and f.

    Parameters
    ----------
    g_nsm : (n, n_slots, M) array
    unit_nsc : (n, n_slots, 3) array
        r̂.
    seen_ns : (n, n_slots) bool array
        Slots that hold a neighbour which the centre sees.
    fade_ns : (n, n_slots) array
        f; used if attention is smooth.
    smallest : float
        See `normalised`.
    """
    xp = namespace_of(g_nsm)
    projections = [
        _project(net, g_nsm, smallest if of.normalize else None)
        for net in (layer.query, layer.key, layer.value)
    ]
    (q_nso, q_backward), (k_nso, k_backward), (v_nso, v_backward) = projections
    logits_nss = of.scale * xp.matmul(q_nso, _turned(k_nso))
    weight_nss, weight_backward = (_smooth if of.smooth else _masked)(logits_nss, seen_ns, fade_ns)
    factor_nss = xp.ones_like(weight_nss)
    if of.dotr:
        factor_nss = xp.matmul(unit_nsc, _turned(unit_nsc))
    allowed_ss = 1 - of.mask_diagonal * xp.eye(g_nsm.shape[1], dtype=g_nsm.dtype)
    final_nss = weight_nss * factor_nss * allowed_ss
    out_nsm, out_backward = _linear(layer.out, xp.matmul(final_nss, v_nso))
    next_nsm, norm_backward = _layer_norm(g_nsm + out_nsm, layer, of.epsilon)

    def backward(dnext_nsm: Array) -> tuple[Array, Array, Array]:
        dsum_nsm = norm_backward(dnext_nsm)
        dmixed_nso = out_backward(dsum_nsm)
        dfinal_nss = xp.matmul(dmixed_nso, _turned(v_nso)) * allowed_ss
        dlogits_nss, dfade_ns = weight_backward(dfinal_nss * factor_nss)
        dg_nsm = dsum_nsm + v_backward(xp.matmul(_turned(final_nss), dmixed_nso))
        dg_nsm = dg_nsm + q_backward(of.scale * xp.matmul(dlogits_nss, k_nso))
        dg_nsm = dg_nsm + k_backward(of.scale * xp.matmul(_turned(dlogits_nss), q_nso))
        dunit_nsc = xp.zeros_like(unit_nsc)
        if of.dotr:
            dcosine_nss = dfinal_nss * weight_nss
            dunit_nsc = xp.matmul(dcosine_nss + _turned(dcosine_nss), unit_nsc)
        return dg_nsm, dunit_nsc, dfade_ns

    return next_nsm, backward


def normalised(x_nsc: Array, smallest: float) -> tuple[Array, _Backward]:
    """Vectors (last axis) over their norms, or over `smallest` where those are less."""
    xp = namespace_of(x_nsc)
    norm_ns1 = xp.sqrt((x_nsc * x_nsc).sum(axis=2, keepdims=True))
    divisor_ns1 = xp.maximum(norm_ns1, x_nsc.dtype.type(smallest))
    unit_nsc = x_nsc / divisor_ns1

    def backward(dunit_nsc: Array) -> Array:
        along_ns1 = (unit_nsc * dunit_nsc).sum(axis=2, keepdims=True) * (norm_ns1 > smallest)
        return (dunit_nsc - unit_nsc * along_ns1) / divisor_ns1

    return unit_nsc, backward


def _turned(x_nso: Array) -> Array:
    return x_nso.transpose(0, 2, 1)


def _linear(net: Network, x_nsi: Array) -> tuple[Array, _Backward]:
    n, n_slots, _ = x_nsi.shape
    y_po, slopes = network.forward(net, x_nsi.reshape(n * n_slots, net.n_in))

    def backward(dy_nso: Array) -> Array:
        return network.backward(net, dy_nso.reshape(y_po.shape), slopes).reshape(x_nsi.shape)

    return y_po.reshape(n, n_slots, net.n_out), backward


def _project(net: Network, g_nsm: Array, smallest: float | None) -> tuple[Array, _Backward]:
    """q, k or v; over their norms if there is a smallest one."""
    x_nso, linear_backward = _linear(net, g_nsm)
    if smallest is None:
        return x_nso, linear_backward
    unit_nso, unit_backward = normalised(x_nso, smallest)
    return unit_nso, lambda dunit_nso: linear_backward(unit_backward(dunit_nso))


def _masked(
    logits_nss: Array, seen_ns: Array, fade_ns: Array
) -> tuple[Array, Callable[[Array], tuple[Array, Array]]]:
    """Softmax over keys that are seen, 0 for queries that are not."""
    xp = namespace_of(logits_nss)
    both_nss = seen_ns[:, :, None] & seen_ns[:, None, :]
    weight_nss = _softmax(logits_nss, both_nss) * both_nss
    return weight_nss, lambda dweight_nss: (
        _softmax_backward(weight_nss, dweight_nss),
        xp.zeros_like(fade_ns),
    )


def _smooth(
    logits_nss: Array, seen_ns: Array, fade_ns: Array
) -> tuple[Array, Callable[[Array], tuple[Array, Array]]]:
    """f_q f_k softmax((L + 20) f_q f_k - 20), over all keys."""
    both_nss = fade_ns[:, :, None] * fade_ns[:, None, :]
    raised_nss = logits_nss + SHIFT
    chance_nss = _softmax(raised_nss * both_nss - SHIFT, both_nss == both_nss)

    def backward(dweight_nss: Array) -> tuple[Array, Array]:
        dfaded_nss = _softmax_backward(chance_nss, dweight_nss * both_nss)
        dboth_nss = dfaded_nss * raised_nss + dweight_nss * chance_nss
        dfade_ns = ((dboth_nss + _turned(dboth_nss)) * fade_ns[:, None, :]).sum(axis=2)
        return dfaded_nss * both_nss, dfade_ns

    return chance_nss * both_nss, backward


def _softmax(logits_nss: Array, over_nss: Array) -> Array:
    """Softmax over those keys that `over_nss` says; 0 throughout where there are none."""
    xp = namespace_of(logits_nss)
    highest_ns1 = xp.where(over_nss, logits_nss, -xp.inf).max(axis=2, keepdims=True)
    highest_ns1 = xp.where(xp.isfinite(highest_ns1), highest_ns1, 0)
    powers_nss = xp.exp(xp.where(over_nss, logits_nss - highest_ns1, -xp.inf))
    return powers_nss / xp.maximum(powers_nss.sum(axis=2, keepdims=True), 1e-30)


def _softmax_backward(chance_nss: Array, dchance_nss: Array) -> Array:
    return chance_nss * (dchance_nss - (chance_nss * dchance_nss).sum(axis=2, keepdims=True))


def _layer_norm(x_nsm: Array, layer: AttentionLayer, epsilon: float) -> tuple[Array, _Backward]:
    xp = namespace_of(x_nsm)
    off_nsm = x_nsm - x_nsm.mean(axis=2, keepdims=True)
    deviation_ns1 = xp.sqrt((off_nsm * off_nsm).mean(axis=2, keepdims=True) + epsilon)
    unit_nsm = off_nsm / deviation_ns1

    def backward(dy_nsm: Array) -> Array:
        dunit_nsm = dy_nsm * layer.gamma_m
        along_ns1 = (dunit_nsm * unit_nsm).mean(axis=2, keepdims=True)
        return (
            dunit_nsm - dunit_nsm.mean(axis=2, keepdims=True) - unit_nsm * along_ns1
        ) / deviation_ns1

    return unit_nsm * layer.gamma_m + layer.beta_m, backward
