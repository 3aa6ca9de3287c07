"""Networks of the v3 formats: each layer says its activation and whether it joins its input."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

import numpy as np

from lmp_dp.errors import ModelFileError
from lmp_dp.model.network import Layer, Network, canonical_activation, embedding_join
from lmp_dp.model.sources.v3.tree import Tree


def read_collection(tree: Tree, n_nets: int, wanted: Collection[int]) -> tuple[Network, ...]:
    """Networks `wanted` of a NetworkCollection of `n_nets`; others may be null."""
    nets = tree.subs("networks")
    if len(nets) != n_nets:
        raise ModelFileError(f"{tree.place} has {len(nets)} networks, expected {n_nets}")
    return tuple(read_network(nets[n]) for n in wanted)


def read_network(tree: Tree) -> Network:
    """A stack of layers."""
    return Network(tuple(map(read_layer, tree.subs("layers"))))


def read_layer(tree: Tree) -> Layer:
    """One layer; a bias that it lacks is zero."""
    weight_io = tree.needed("w")
    if weight_io.ndim != 2:
        raise ModelFileError(f"{tree.place}: weights have {weight_io.ndim} axes, expected 2")
    bias_o, idt_o = tree.array("b"), tree.array("idt")
    return Layer(
        weight_io=weight_io,
        bias_o=np.zeros(weight_io.shape[1], weight_io.dtype) if bias_o is None else bias_o.ravel(),
        idt_o=None if idt_o is None else idt_o.ravel(),
        activation=_activation(tree.text("activation_function", "none")),
        joins=embedding_join(*weight_io.shape) if tree.flag("resnet") else "replace",
    )


def columns(layer: Layer, of: slice) -> Layer:
    """The layer with some of its outputs; none that joins its input."""
    idt_o = None if layer.idt_o is None else layer.idt_o[of]
    weight_io = np.ascontiguousarray(layer.weight_io[:, of])
    return dataclasses.replace(layer, weight_io=weight_io, bias_o=layer.bias_o[of], idt_o=idt_o)


def _activation(name: str) -> str:
    """This family has one gelu under two names, and an older name of silut."""
    lowered = name.strip().lower()
    if lowered == "gelu_tf":
        return "gelu"
    return canonical_activation(lowered.replace("custom_silu", "silut", 1))
