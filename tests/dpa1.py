"""se_atten of the DP family: DeePMD-kit's own in NumPy, with random numbers, and as ours."""

from __future__ import annotations

from typing import Any

import numpy as np

from lmp_dp.model import Environment, Layer, Network
from lmp_dp.model.descriptors.se_atten import Attention, AttentionLayer, SeAtten
from lmp_dp.model.network import canonical_activation, embedding_join
from lmp_dp.model.typed_nets import TypedNets


def random_dpa1(seed: int, ntypes: int, davg: float = 0.0, **options: Any) -> Any:
    """DeePMD-kit's DescrptDPA1; no number of it is one that training starts from."""
    from deepmd.dpmodel.descriptor.dpa1 import DescrptDPA1

    rng = np.random.default_rng(seed)
    options = {"rcut": 4.0, "rcut_smth": 0.5, "sel": 30, "neuron": [4, 8, 16], **options}
    made = DescrptDPA1(ntypes=ntypes, axis_neuron=3, seed=seed, **options)
    block = made.se_atten
    shape = (ntypes, 1, 4)
    block.stddev = np.tile(rng.uniform(0.1, 0.3, shape), (1, block.nnei, 1))
    block.mean = np.tile(
        davg * rng.normal(size=shape) * np.array([1.0, 0.0, 0.0, 0.0]), (1, block.nnei, 1)
    )
    for layer in block.dpa1_attention.attention_layers:
        norm = layer.attn_layer_norm
        norm.w, norm.b = rng.normal(1.0, 0.3, norm.w.shape), rng.normal(0.0, 0.3, norm.b.shape)
    precision = made.precision
    dtype = {"float64": np.float64, "float32": np.float32}[precision]
    block.mean, block.stddev = block.mean.astype(dtype), block.stddev.astype(dtype)
    return made


def converted(made: Any) -> SeAtten:
    """The same as a dataclass."""
    block = made.se_atten
    excluded_tt = np.zeros((made.se_atten.ntypes,) * 2, bool)
    for one, two in block.exclude_types:
        excluded_tt[one, two] = excluded_tt[two, one] = True
    strip = block.tebd_input_mode == "strip"
    attention = None
    if block.attn_layer:
        of = block.dpa1_attention
        inner = of.attention_layers[0].attention_layer
        attention = Attention(
            layers=tuple(_attention_layer(layer) for layer in of.attention_layers),
            dotr=of.dotr,
            normalize=of.normalize,
            scale=float(inner.scaling),
            epsilon=of.ln_eps,
            smooth=of.smooth,
        )
    return SeAtten(
        environment=Environment(
            rules="DP",
            rcut=block.rcut,
            rcut_smth=block.rcut_smth,
            sel_t=np.array([block.nnei]),
            n_norm=block.nnei,
            davg_tk=block.mean[:, 0].astype(np.float64),
            dstd_tk=block.stddev[:, 0].astype(np.float64),
            excluded_tt=excluded_tt,
            protection=block.env_protection,
        ),
        nets=TypedNets(
            embedding=_network(block.embeddings[0]),
            gate=_network(block.embeddings_strip[0]) if strip else None,
            type_to=np.asarray(made.type_embedding.call()),
            one_side=block.type_one_side,
            smooth=strip and block.smooth,
        ),
        attention=attention,
        axis_neuron=block.axis_neuron,
    )


def _network(net: Any) -> Network:
    layers = []
    for layer in net.layers:
        n_in, n_out = layer.w.shape
        layers.append(
            Layer(
                layer.w,
                layer.b,
                layer.idt,
                canonical_activation(net.activation_function),
                embedding_join(n_in, n_out),
            )
        )
    return Network(tuple(layers))


def _attention_layer(layer: Any) -> AttentionLayer:
    inner = layer.attention_layer
    weights = np.split(inner.in_proj.w, 3, axis=1)
    biases = np.split(inner.in_proj.b, 3)
    pairs = [*zip(weights, biases, strict=True), (inner.out_proj.w, inner.out_proj.b)]
    nets = [Network((Layer(w, b, None, "linear", "replace"),)) for w, b in pairs]
    return AttentionLayer(*nets, gamma_m=layer.attn_layer_norm.w, beta_m=layer.attn_layer_norm.b)
