"""Descriptors as the DP format has them: rewritten where families differ, or refused by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lmp_dp.errors import UnsupportedModelError
from lmp_dp.model.descriptors.environment import Environment
from lmp_dp.model.descriptors.registry import Part
from lmp_dp.model.descriptors.se_atten import AttentionLayer, SeAtten
from lmp_dp.model.descriptors.se_e2_a import SeE2A
from lmp_dp.model.descriptors.se_e2_a_tebd import SeE2ATebd
from lmp_dp.model.descriptors.se_e2_r import SeE2R
from lmp_dp.model.descriptors.se_e3 import SeE3
from lmp_dp.model.exports import nets
from lmp_dp.model.exports.nets import Tree
from lmp_dp.model.network import Layer, Network

_EMBEDDING = "EmbeddingNetwork"


def write(parts: tuple[Part, ...], type_map: tuple[str, ...], te_behind: bool) -> Tree:
    """A descriptor, or a hybrid of several.

    Parameters
    ----------
    parts : tuple of Part
    type_map : tuple of str
    te_behind : bool
        Whether the fitting nets take the type embedding of the only part from it.

    Raises
    ------
    UnsupportedModelError
        DP cannot express what a part computes, by name.
    """
    for part in parts:
        if type(part) not in _WRITERS:
            raise UnsupportedModelError(f"a {part.kind} descriptor cannot be exported")
    trees = [_WRITERS[type(part)](part, te_behind) for part in parts]
    named = [{**tree, "type_map": list(type_map), "trainable": True} for tree in trees]
    if len(named) == 1:
        return named[0]
    return {"@class": "Descriptor", "type": "hybrid", "@version": 1, "list": named}


def _common(part: Part, kind: str, n_k: int) -> Tree:
    """What all kinds have. The cutoff is where the switching function of the family ends."""
    environment = part.environment
    rcut = environment.rcut_smth + environment.switch_width
    shape = (environment.n_types, environment.n_slots, n_k)
    statistics = {
        name: np.broadcast_to(values_tk[:, None, :n_k], shape).copy()
        for name, values_tk in (("davg", environment.davg_tk), ("dstd", environment.dstd_tk))
    }
    return {
        "@class": "Descriptor",
        "type": kind,
        "@version": 2,
        "rcut": rcut,
        "rcut_smth": environment.rcut_smth,
        "sel": environment.sel_t.tolist(),
        "exclude_types": np.argwhere(np.triu(environment.excluded_tt)).tolist(),
        "env_protection": environment.protection,
        "set_davg_zero": not environment.davg_tk.any(),
        "precision": part.dtype.name,
        "env_mat": {
            "rcut": rcut,
            "rcut_smth": environment.rcut_smth,
            "protection": environment.protection,
            "use_exp_switch": False,
        },
        "@variables": statistics,
    }


def _of_net(net: Network) -> Tree:
    """What describes a net, and is not evaluated: its layers are."""
    return {
        "neuron": list(net.widths),
        "activation_function": net.layers[0].activation,
        "resnet_dt": any(layer.idt_o is not None for layer in net.layers),
    }


# --------------------------------------------------------------------------- nets of pairs
def _by_pairs(environment: Environment, net_of: Callable[[int, int], Network]) -> list[Network]:
    """Nets by centre + n_types * neighbour; times n_slots/N, since DP divides by all slots."""
    n_types = environment.n_types
    share = environment.n_slots / environment.n_norm
    found = [net_of(i, j) for j in range(n_types) for i in range(n_types)]
    return [nets.scaled(net, np.full(net.n_out, share)) for net in found]


def _se_e2_a(part: SeE2A, te_behind: bool) -> Tree:
    """Pairs that do not see each other get a net that is 0: their empty slots then add nothing."""
    net_tt, embeddings = part.nets.net_tt, part.nets.embeddings
    nothing = nets.zero(embeddings[0])

    def net_of(i: int, j: int) -> Network:
        return nothing if net_tt[i, j] < 0 else embeddings[net_tt[i, j]]

    return _two_sided(part, net_of, embeddings[0])


def _two_sided(
    part: SeE2A | SeE2ATebd, net_of: Callable[[int, int], Network], typical: Network
) -> Tree:
    environment = part.environment
    n_types, found = environment.n_types, _by_pairs(environment, net_of)
    one_side = all(
        found[i + n_types * j] is found[n_types * j] for i in range(n_types) for j in range(n_types)
    )
    written = found[::n_types] if one_side else found
    return {
        **_common(part, "se_e2_a", 4),
        **_of_net(typical),
        "axis_neuron": part.axis_neuron,
        "type_one_side": one_side,
        "spin": None,
        "embeddings": nets.collection(written, n_types, 1 if one_side else 2, _EMBEDDING),
    }


def _se_e2_a_tebd(part: SeE2ATebd, te_behind: bool) -> Tree:
    """As se_e2_a: what the net is told is the same for all neighbours of an element."""
    typed = part.nets
    if typed.embedding is None or typed.gate is not None:
        raise UnsupportedModelError("se_e2_a with tebd_input_mode strip cannot be exported")
    if part.environment.excluded_tt.any():
        raise UnsupportedModelError("se_e2_a_tebd with exclude_types cannot be exported")
    embedding = typed.embedding

    def net_of(i: int, j: int) -> Network:
        te = [typed.type_to[j]] if typed.one_side else [typed.type_to[j], typed.type_to[i]]
        return nets.told(embedding, 1, np.concatenate(te))

    return _two_sided(part, net_of, embedding)


def _se_e2_r(part: SeE2R, te_behind: bool) -> Tree:
    environment, net_tt = part.environment, part.nets.net_tt
    n_types = environment.n_types
    if environment.rules == "TF" and environment.excluded_tt.any():
        raise UnsupportedModelError("se_e2_r of TensorFlow with exclude_types cannot be exported")
    if not (net_tt == net_tt[:1]).all() or (net_tt < 0).any():
        raise UnsupportedModelError(
            "se_e2_r with nets for each pair of elements (type_one_side: false) cannot be "
            "exported: the DP format has none"
        )
    found = _by_pairs(environment, lambda i, j: part.nets.embeddings[net_tt[i, j]])[::n_types]
    return {
        **_common(part, "se_r", 1),
        **_of_net(part.nets.embeddings[0]),
        "type_one_side": True,
        "spin": None,
        "embeddings": nets.collection(found, n_types, 1, _EMBEDDING),
    }


def _se_e3(part: SeE3, te_behind: bool) -> Tree:
    environment, net_tt = part.environment, part.nets.net_tt
    if environment.rules == "TF" and environment.excluded_tt.any():
        raise UnsupportedModelError("se_e3 of TensorFlow with exclude_types cannot be exported")
    if (environment.sel_t == 0).any():
        raise UnsupportedModelError("se_e3 without slots for an element cannot be exported")
    n_types = environment.n_types
    found = [part.nets.embeddings[net_tt[i, j]] for j in range(n_types) for i in range(n_types)]
    return {
        **_common(part, "se_e3", 4),
        **_of_net(part.nets.embeddings[0]),
        "embeddings": nets.collection(found, n_types, 2, _EMBEDDING),
    }


# --------------------------------------------------------------------------- se_atten
def _se_atten(part: SeAtten, te_behind: bool) -> Tree:
    environment, typed, attention = part.environment, part.nets, part.attention
    _refuse_what_differs(part)
    assert typed.embedding is not None
    smooth = typed.smooth or bool(attention and attention.smooth)
    n_types, te_to = environment.n_types, typed.type_to[:-1]
    width = attention.layers[0].out.n_in if attention else 1
    tree = {
        **_common(part, "dpa1", 4),
        **_of_net(typed.embedding),
        "ntypes": n_types,
        "axis_neuron": part.axis_neuron,
        "tebd_dim": te_to.shape[1],
        "tebd_input_mode": "strip" if typed.gate else "concat",
        "attn": width,
        "attn_layer": len(attention.layers) if attention else 0,
        "attn_dotr": attention.dotr if attention else True,
        "attn_mask": False,
        "scaling_factor": 1.0,
        "normalize": attention.normalize if attention else True,
        "temperature": attention.scale if attention else None,
        "trainable_ln": True,
        "ln_eps": attention.epsilon if attention else 1e-5,
        "smooth_type_embedding": smooth,
        "type_one_side": typed.one_side,
        "concat_output_tebd": te_behind,
        "use_econf_tebd": False,
        "use_tebd_bias": True,
        "spin": None,
        "embeddings": nets.collection([typed.embedding], n_types, 0, _EMBEDDING),
        "attention_layers": _attention(part, width),
        "type_embedding": _type_embedding(te_to),
    }
    if typed.gate:
        tree["embeddings_strip"] = nets.collection([typed.gate], n_types, 0, _EMBEDDING)
    return tree


def _refuse_what_differs(part: SeAtten) -> None:
    environment, typed, attention = part.environment, part.nets, part.attention
    fades = typed.smooth or bool(attention and attention.smooth)
    reason = ""
    if environment.rules == "TF" and fades:
        reason = "smooth_type_embedding of TensorFlow fades out with another function"
    elif environment.davg_tk.any() and (environment.rules == "TF" or environment.n_types > 1):
        reason = "empty slots, which count where davg is not zero, are told another element"
    elif environment.n_norm != environment.n_slots:
        reason = "it divides by another number than that of its slots"
    elif typed.embedding is None or (typed.gate is None and typed.gate_ttm is not None):
        reason = "it has tables in place of nets"
    elif typed.gate and attention and typed.smooth != attention.smooth:
        reason = "gate and attention differ in smooth_type_embedding"
    elif attention and attention.mask_diagonal:
        reason = "it has attn_mask"
    if reason:
        raise UnsupportedModelError(f"this se_atten cannot be exported: {reason}")


def _type_embedding(te_to: np.ndarray) -> Tree:
    """A linear layer on one-hot rows."""
    n_types, width = te_to.shape
    bias_o = np.zeros(width, te_to.dtype)
    net = Network((Layer(np.ascontiguousarray(te_to), bias_o, None, "linear", "replace"),))
    return {
        "@class": "TypeEmbedNet",
        "@version": 2,
        "ntypes": n_types,
        **_of_net(net),
        "precision": te_to.dtype.name,
        "trainable": True,
        "padding": True,
        "use_econf_tebd": False,
        "use_tebd_bias": True,
        "type_map": None,
        "embedding": nets.network(net, _EMBEDDING),
    }


def _attention(part: SeAtten, width: int) -> Tree:
    attention, environment = part.attention, part.environment
    common: Tree = {
        "nnei": environment.n_slots,
        "embed_dim": part.n_channels,
        "hidden_dim": width,
        "dotr": attention.dotr if attention else True,
        "do_mask": False,
        "scaling_factor": 1.0,
        "normalize": attention.normalize if attention else True,
        "temperature": attention.scale if attention else None,
        "precision": part.dtype.name,
    }
    norm = {"trainable_ln": True, "ln_eps": attention.epsilon if attention else 1e-5}
    layers = attention.layers if attention else ()
    smooth = bool(attention and attention.smooth)
    return {
        "@class": "NeighborGatedAttention",
        "@version": 1,
        **common,
        **norm,
        "layer_num": len(layers),
        "attention_layers": [
            {
                **common,
                **norm,
                "attention_layer": {**common, **_projections(one), "smooth": smooth},
                "attn_layer_norm": _layer_norm(one, norm["ln_eps"]),
            }
            for one in layers
        ],
    }


def _projections(of: AttentionLayer) -> Tree:
    parts = [net.layers[0] for net in (of.query, of.key, of.value)]
    joint = Layer(
        weight_io=np.concatenate([part.weight_io for part in parts], axis=1),
        bias_o=np.concatenate([part.bias_o for part in parts]),
        idt_o=None,
        activation="linear",
        joins="replace",
    )
    return {
        "num_heads": 1,
        "bias": True,
        "in_proj": nets.layer(joint),
        "out_proj": nets.layer(of.out.layers[0]),
    }


def _layer_norm(of: AttentionLayer, epsilon: Any) -> Tree:
    return {
        "@class": "LayerNorm",
        "@version": 1,
        "eps": epsilon,
        "trainable": True,
        "precision": of.gamma_m.dtype.name,
        "@variables": {"w": of.gamma_m, "b": of.beta_m},
    }


_WRITERS: dict[type, Callable[[Any, bool], Tree]] = {
    SeE2A: _se_e2_a,
    SeE2ATebd: _se_e2_a_tebd,
    SeE2R: _se_e2_r,
    SeE3: _se_e3,
    SeAtten: _se_atten,
}
