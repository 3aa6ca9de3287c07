"""Lowering of se_atten with layers of attention; without them it is a Moment."""

from __future__ import annotations

import numpy as np

from lmp_dp.engine.forms import Attention
from lmp_dp.engine.lowering.moment import selection_of
from lmp_dp.engine.lowering.reduction import unreduced
from lmp_dp.engine.lowering.registry import Lowered
from lmp_dp.engine.lowering.typed_nets import empty_of, net_blocks
from lmp_dp.engine.selection import Fate
from lmp_dp.model.descriptors.se_atten import Attention as AttentionLayers
from lmp_dp.model.descriptors.se_atten import SeAtten


def lower_attention(descriptor: SeAtten, t: int, weight_do: np.ndarray) -> Lowered:
    """Features of centres of element `t`."""
    environment, nets, layers = descriptor.environment, descriptor.nets, descriptor.attention
    assert layers is not None
    of_tf = environment.rules == "TF"
    davg_k, dstd_k = environment.davg_tk[t], environment.dstd_tk[t]
    row_k = ((0.0 - davg_k) / dstd_k).astype(nets.dtype).astype(np.float64)
    # what empty slots are told in the DP family matters only where there is one element
    empty_m = empty_of(nets, t, environment.n_types if of_tf else 0, row_k[0])
    selection = selection_of(environment, t)
    neighbours = np.flatnonzero(selection.fate_t == Fate.ROW).tolist()
    reduction = unreduced(nets.n_channels, descriptor.axis_neuron, weight_do)
    form = Attention(
        selection=selection,
        davg_k=davg_k,
        dstd_k=dstd_k,
        blocks=tuple(net_blocks(nets, t, neighbours)),
        layers=layers,
        fade_radius=descriptor.fade_radius,
        shortest=1e-6 if of_tf else 1e-12,
        padding_km=row_k[:, None] * _attended(layers, empty_m),
        divisor=environment.n_norm,
        n_axis=reduction.n_axis,
        dtype=nets.dtype,
    )
    return Lowered((form,), reduction.weight_io)


def _attended(layers: AttentionLayers, g_m: np.ndarray) -> np.ndarray:
    """G_m of an empty slot behind all layers: it looks at nothing, G <- LN(G + b_out)."""
    for layer in layers.layers:
        h_m = g_m + layer.out.layers[0].bias_o
        h_m = h_m - h_m.mean()
        h_m /= np.sqrt((h_m * h_m).mean() + layers.epsilon)
        g_m = h_m * layer.gamma_m + layer.beta_m
    return g_m
