"""Descriptors of the v3 formats, with the rules of their backends (DP)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from lmp_dp.errors import ModelFileError, UnsupportedModelError
from lmp_dp.model import bounds
from lmp_dp.model.descriptors.environment import Environment
from lmp_dp.model.descriptors.hybrid import Hybrid
from lmp_dp.model.descriptors.registry import Descriptor, Part
from lmp_dp.model.descriptors.se_atten import Attention, AttentionLayer, SeAtten
from lmp_dp.model.descriptors.se_e2_a import SeE2A
from lmp_dp.model.descriptors.se_e2_r import SeE2R
from lmp_dp.model.descriptors.se_e3 import SeE3
from lmp_dp.model.network import Network
from lmp_dp.model.pair_nets import PairNets
from lmp_dp.model.sources import type_embedding
from lmp_dp.model.sources.v3 import nets
from lmp_dp.model.sources.v3.tree import Tree
from lmp_dp.model.typed_nets import TypedNets

_COMPRESSED = ("compress", "geo_compress", "tebd_compress")


class Typed(NamedTuple):
    """A part of the descriptor, and te behind its D in what the fitting nets take."""

    part: Part
    type_to: np.ndarray | None


def read(tree: Tree, n_types: int, unseen_tt: np.ndarray | None) -> list[Typed]:
    """The parts of a descriptor.

    Parameters
    ----------
    tree : Tree
    n_types : int
    unseen_tt : (n_types, n_types) bool array or None
        ``pair_exclude_types`` of the model.

    Raises
    ------
    UnsupportedModelError
        The descriptor, or one of its options, is not supported, by name.
    """
    kind = tree.text("type")
    if kind == "hybrid":
        members = tree.subs("list")
        if any(member.text("type") == "hybrid" for member in members):
            raise ModelFileError(f"{tree.place}: a hybrid is a member of a hybrid")
        return [typed for member in members for typed in read(member, n_types, unseen_tt)]
    if kind not in _READERS:
        raise UnsupportedModelError(
            f"the descriptor '{kind[:40]}' is not supported, only {', '.join(sorted(_READERS))} "
            "and hybrid"
        )
    if any(map(tree.has, _COMPRESSED)):
        raise UnsupportedModelError(
            "the model is compressed; convert the model that it was made of, and compress the "
            "result with lmp-dp compress"
        )
    tree.refuse("spin", "use_exp_switch")
    if tree.has("env_mat"):
        tree.sub("env_mat").refuse("use_exp_switch")
    return [_READERS[kind](tree, n_types, unseen_tt)]


def joined(parts: list[Typed]) -> Descriptor:
    """The descriptor of the model."""
    return parts[0].part if len(parts) == 1 else Hybrid(tuple(typed.part for typed in parts))


def pairs_of(tree: Tree, name: str, n_types: int) -> np.ndarray:
    """A symmetric (n_types, n_types) bool array of the pairs that a list names."""
    pairs_tt = np.zeros((n_types, n_types), dtype=bool)
    for one, two in tree.pairs(name):
        if not (0 <= one < n_types and 0 <= two < n_types):
            raise ModelFileError(f"{tree.place}/{name} names the elements {one} and {two}")
        pairs_tt[one, two] = pairs_tt[two, one] = True
    return pairs_tt


# --------------------------------------------------------------------------- environment
def _environment(
    tree: Tree, n_types: int, unseen_tt: np.ndarray | None, one_block: bool
) -> Environment:
    sel = tree.integers("sel")
    if min(sel, default=-1) < 0 or sum(sel) > bounds.MAX_SLOTS:
        raise ModelFileError(f"{tree.place}/sel is {str(sel[:5])[:60]}, expected numbers of slots")
    return Environment(
        rules="DP",
        rcut=tree.number("rcut"),
        rcut_smth=tree.number("rcut_smth"),
        sel_t=np.array([sum(sel)] if one_block else sel, dtype=np.int64),
        n_norm=sum(sel),
        davg_tk=_statistics(tree, "davg", n_types, sum(sel), 0.0),
        dstd_tk=_statistics(tree, "dstd", n_types, sum(sel), 1.0),
        excluded_tt=pairs_of(tree, "exclude_types", n_types),
        protection=tree.number("env_protection", 0.0),
        unseen_tt=unseen_tt,
    )


def _statistics(tree: Tree, name: str, n_types: int, n_slots: int, rest: float) -> np.ndarray:
    """(n_types, n_slots, 4 or 1), the same for all slots -> (n_types, 4), `rest` where 1."""
    slots_tsk = tree.needed(name).astype(np.float64)
    n_k = slots_tsk.shape[-1] if slots_tsk.ndim == 3 else 0
    if slots_tsk.shape != (n_types, n_slots, n_k) or n_k not in (1, 4):
        raise ModelFileError(
            f"{tree.place}: {name} has shape {slots_tsk.shape}, expected ({n_types}, {n_slots}, 4)"
        )
    if not (slots_tsk == slots_tsk[:, :1]).all():
        raise UnsupportedModelError(f"{tree.place}: {name} differs between slots of one centre")
    found_tk = np.full((n_types, 4), rest)
    found_tk[:, :n_k] = slots_tsk[:, 0]
    return found_tk


# --------------------------------------------------------------------------- nets of pairs
def _pair_nets(tree: Tree, n_types: int) -> PairNets:
    """Nets by neighbour, or by centre + n_types * neighbour."""
    embeddings = tree.sub("embeddings")
    ndim = embeddings.integer("ndim")
    if ndim not in (1, 2):
        raise ModelFileError(f"{embeddings.place}/ndim is {ndim}, expected 1 or 2")
    i, j = np.indices((n_types, n_types))
    net_tt = j if ndim == 1 else i + n_types * j
    n_nets = n_types**ndim
    return PairNets(net_tt, nets.read_collection(embeddings, n_nets, range(n_nets)))


def _se_e2_a(tree: Tree, n_types: int, unseen_tt: np.ndarray | None) -> Typed:
    part = SeE2A(
        environment=_environment(tree, n_types, unseen_tt, one_block=False),
        nets=_pair_nets(tree, n_types),
        axis_neuron=tree.integer("axis_neuron"),
    )
    return Typed(part, None)


def _se_e2_r(tree: Tree, n_types: int, unseen_tt: np.ndarray | None) -> Typed:
    environment = _environment(tree, n_types, unseen_tt, one_block=False)
    return Typed(SeE2R(environment, _pair_nets(tree, n_types)), None)


def _se_e3(tree: Tree, n_types: int, unseen_tt: np.ndarray | None) -> Typed:
    """Nets of neighbours a <= b at a + n_types * b; the others are not evaluated."""
    low, high = np.triu_indices(n_types)
    found = nets.read_collection(
        tree.sub("embeddings"), n_types**2, (low + n_types * high).tolist()
    )
    net_tt = np.zeros((n_types, n_types), dtype=np.int64)
    net_tt[low, high] = net_tt[high, low] = np.arange(len(low))
    environment = _environment(tree, n_types, unseen_tt, one_block=False)
    return Typed(SeE3(environment, PairNets(net_tt, found)), None)


# --------------------------------------------------------------------------- se_atten
def _se_atten(tree: Tree, n_types: int, unseen_tt: np.ndarray | None) -> Typed:
    tree.refuse("attn_mask")
    if (degree := tree.integer("lmax", 1)) != 1:
        raise UnsupportedModelError(f"se_atten with lmax {degree} is not supported, only 1")
    environment = _environment(tree, n_types, unseen_tt, one_block=True)
    te_to = _type_embedding(tree, n_types)
    smooth = tree.flag("smooth_type_embedding", True)
    part = SeAtten(
        environment=environment,
        nets=_typed_nets(tree, te_to, environment.davg_tk, smooth),
        attention=_attention(tree, smooth),
        axis_neuron=tree.integer("axis_neuron"),
    )
    return Typed(part, te_to if tree.flag("concat_output_tebd", True) else None)


def _type_embedding(tree: Tree, n_types: int) -> np.ndarray:
    told = tree.sub("type_embedding")
    told.refuse("use_econf_tebd")
    net = nets.read_network(told.sub("embedding"))
    if net.n_in != n_types:
        raise ModelFileError(f"{told.place} is of {net.n_in} elements, the model of {n_types}")
    return type_embedding.of_elements(net)


def _typed_nets(tree: Tree, te_to: np.ndarray, davg_tk: np.ndarray, smooth: bool) -> TypedNets:
    """Empty slots take te of the atom that comes first: it must not matter which one that is."""
    if davg_tk.any() and len(te_to) > 1:
        raise UnsupportedModelError(
            "se_atten with a mean of environment rows that is not zero (set_davg_zero: false) is "
            "not supported: DeePMD-kit gives empty slots the type embedding of the atom that comes "
            "first, so that energies depend on the order of atoms"
        )
    (embedding,) = nets.read_collection(tree.sub("embeddings"), 1, (0,))
    mode = "strip" if tree.text("type") == "se_atten_v2" else tree.text("tebd_input_mode", "concat")
    if mode not in ("concat", "strip"):
        raise UnsupportedModelError(f"tebd_input_mode '{mode[:40]}' is not supported")
    gate = None
    if mode == "strip":
        (gate,) = nets.read_collection(tree.sub("embeddings_strip"), 1, (0,))
    return TypedNets(
        embedding=embedding,
        gate=gate,
        type_to=np.concatenate([te_to, te_to[:1]]).astype(embedding.dtype),
        one_side=tree.flag("type_one_side", False),
        smooth=smooth and gate is not None,
    )


def _attention(tree: Tree, smooth: bool) -> Attention | None:
    layers = tree.sub("attention_layers").subs("attention_layers")
    if len(layers) != tree.integer("attn_layer", len(layers)):
        raise ModelFileError(f"{tree.place} has {len(layers)} attention layers, attn_layer differs")
    if not layers:
        return None
    options = {_attention_options(layer, smooth) for layer in layers}
    if len(options) != 1:
        raise UnsupportedModelError("attention layers with different options are not supported")
    dotr, normalize, scale, epsilon, faded = options.pop()
    return Attention(
        layers=tuple(map(_attention_layer, layers)),
        dotr=dotr,
        normalize=normalize,
        scale=scale,
        epsilon=epsilon,
        smooth=faded,
    )


def _attention_options(tree: Tree, smooth: bool) -> tuple[bool, bool, float, float, bool]:
    layer = tree.sub("attention_layer")
    if (heads := layer.integer("num_heads", 1)) != 1:
        raise UnsupportedModelError(f"attention with {heads} heads is not supported, only one")
    width = layer.sub("out_proj").needed("w").shape[0]
    scaling = layer.number("scaling_factor", 1.0)
    bounds.check_number(f"{layer.place}/scaling_factor", scaling, 1e-6, 1e6)
    return (
        layer.flag("dotr", True),
        layer.flag("normalize", True),
        layer.number("temperature", (width * scaling) ** -0.5),
        tree.sub("attn_layer_norm").number("eps", 1e-5),
        layer.flag("smooth", smooth),
    )


def _attention_layer(tree: Tree) -> AttentionLayer:
    layer, norm = tree.sub("attention_layer"), tree.sub("attn_layer_norm")
    joint, out = nets.read_layer(layer.sub("in_proj")), nets.read_layer(layer.sub("out_proj"))
    width = out.weight_io.shape[0]
    if joint.weight_io.shape[1] != 3 * width:
        raise ModelFileError(
            f"{layer.place}: in_proj gives {joint.weight_io.shape[1]} values, expected {3 * width}"
        )
    query, key, value = (nets.columns(joint, slice(n * width, (n + 1) * width)) for n in range(3))
    return AttentionLayer(
        query=Network((query,)),
        key=Network((key,)),
        value=Network((value,)),
        out=Network((out,)),
        gamma_m=norm.needed("w"),
        beta_m=norm.needed("b"),
    )


_READERS: dict[str, Callable[[Tree, int, np.ndarray | None], Typed]] = {
    **dict.fromkeys(("se_e2_a", "se_a"), _se_e2_a),
    **dict.fromkeys(("se_e2_r", "se_r"), _se_e2_r),
    **dict.fromkeys(("se_e3", "se_at", "se_a_3be", "se_t"), _se_e3),
    **dict.fromkeys(("dpa1", "se_atten", "se_atten_v2"), _se_atten),
}
