"""Networks as the DP format has them, and what makes others of them without changing values."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from lmp_dp.errors import UnsupportedModelError
from lmp_dp.model.network import Layer, Network

Tree = dict[str, Any]


def layer(of: Layer) -> Tree:
    """One layer: ``resnet`` joins the input where widths allow it, and only there is it true."""
    if of.activation == "gelu_tf":
        raise UnsupportedModelError(
            "the activation function gelu_tf cannot be exported: TensorFlow's has another cubic "
            "coefficient than that of the DP format, which is 1e-9 eV/Å in forces"
        )
    return {
        "@class": "Layer",
        "@version": 2,
        "bias": True,
        "use_timestep": of.idt_o is not None,
        "activation_function": of.activation,
        "resnet": of.joins != "replace",
        "precision": of.weight_io.dtype.name,
        "trainable": True,
        "@variables": {"w": of.weight_io, "b": of.bias_o, "idt": of.idt_o},
    }


def network(of: Network, kind: str) -> Tree:
    """A network of class `kind`; its layers say what the other entries do not."""
    layers = [part for one in of.layers for part in _without_idle_steps(one)]
    tree = {
        "@class": kind,
        "@version": 2 if kind == "EmbeddingNetwork" else 1,
        "in_dim": of.n_in,
        "neuron": [part.weight_io.shape[1] for part in layers],
        "activation_function": layers[0].activation,
        "resnet_dt": any(part.idt_o is not None for part in layers),
        "precision": of.dtype.name,
        "layers": [layer(part) for part in layers],
    }
    if kind == "FittingNetwork":
        return {**tree, "neuron": tree["neuron"][:-1], "out_dim": of.n_out, "bias_out": True}
    return {**tree, "bias": True}


def collection(nets: list[Network], n_types: int, ndim: int, kind: str) -> Tree:
    """`nets` by elements: n_types^ndim of them."""
    return {
        "@class": "NetworkCollection",
        "@version": 1,
        "ndim": ndim,
        "ntypes": n_types,
        "network_type": "fitting_network" if kind == "FittingNetwork" else "embedding_network",
        "networks": [network(net, kind) for net in nets],
    }


def _without_idle_steps(of: Layer) -> list[Layer]:
    """DP has time steps only where a layer joins its input: others are a layer of their own."""
    if of.idt_o is None or of.joins != "replace":
        return [of]
    return [dataclasses.replace(of, idt_o=None), _linear(np.diag(of.idt_o))]


def _linear(weight_io: np.ndarray, bias_o: np.ndarray | None = None) -> Layer:
    if bias_o is None:
        bias_o = np.zeros(weight_io.shape[1], weight_io.dtype)
    return Layer(np.ascontiguousarray(weight_io), bias_o, None, "linear", "replace")


def zero(like: Network) -> Network:
    """A net of the same shape that gives 0."""
    weight_io = np.zeros((like.n_in, like.n_out), like.dtype)
    return Network((_linear(weight_io),))


def scaled(of: Network, factor_o: np.ndarray) -> Network:
    """A net whose outputs are multiplied."""
    if (factor_o == 1.0).all():
        return of
    return Network((*of.layers, _linear(np.diag(factor_o).astype(of.dtype))))


def told(of: Network, first: int, told_o: np.ndarray) -> Network:
    """The net without its inputs from `first` on, which are always `told_o`."""
    head, behind = of.layers[0], first + len(told_o)
    told_o = told_o.astype(of.dtype)
    if head.joins == "replace":
        kept_io = np.concatenate([head.weight_io[:first], head.weight_io[behind:]])
        bias_o = (head.bias_o + told_o @ head.weight_io[first:behind]).astype(of.dtype)
        return Network(
            (dataclasses.replace(head, weight_io=kept_io, bias_o=bias_o), *of.layers[1:])
        )
    kept_io = np.delete(np.eye(of.n_in, dtype=of.dtype), np.arange(first, behind), axis=0)
    bias_i = np.zeros(of.n_in, of.dtype)
    bias_i[first:behind] = told_o
    return Network((_linear(kept_io, bias_i), *of.layers))
