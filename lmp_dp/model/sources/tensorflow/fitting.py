"""Fitting nets of a graph, the elements' energies, and the statistics of parameters."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from lmp_dp.errors import ModelFileError
from lmp_dp.model.fitting import Fitting
from lmp_dp.model.network import Layer, Network, fitting_join
from lmp_dp.model.sources.tensorflow.activations import activation_of
from lmp_dp.model.sources.tensorflow.graph import Graph
from lmp_dp.model.sources.tensorflow.nets import native
from lmp_dp.model.sources.tensorflow.typed_nets import type_embedding_of


def read_fitting(graph: Graph, n_types: int, n_descriptor: int, section: dict[str, Any]) -> Fitting:
    """The nets from D to energies: one for each element, or one for all with a type embedding.

    Parameters
    ----------
    graph : Graph
    n_types : int
    n_descriptor : int
        Length of D.
    section : dict
        The section "model" of the training input.
    """
    of_script = section.get("fitting_net", {})
    activation = activation_of(graph, "(layer|share)_", of_script)
    type_to = type_embedding_of(graph, n_types, section)
    endings = [f"_type_{t}" for t in range(n_types)] if type_to is None else [""]
    bias_t, std_t = _energies_of_elements(graph, n_types)
    scopes = [_layers(graph, ending, of_script) for ending in endings]
    nets = [_net(graph, of_net, activation) for of_net in scopes]
    if len(nets) < n_types and (std_t != std_t[0]).any():
        nets = nets * n_types  # the scale of each element is in its last layer
    parameters = _parameter_statistics(graph)
    n_told = 0 if type_to is None else type_to.shape[1]
    n_expected = n_descriptor + n_told + sum(map(len, parameters.values())) // 2
    for t, net in enumerate(nets):
        if net.n_in != n_expected:
            raise ModelFileError(
                f"fitting net {t} takes {net.n_in} values, descriptor, type embedding and "
                f"parameters give {n_expected}"
            )
    # with atom_ener the graph evaluates the net a second time, at D = 0
    twice = [len(_products(graph, f"{of_net[-1]}/matrix")) > 1 for of_net in scopes]
    return Fitting(
        nets=tuple(_scaled(net, std) for net, std in zip(nets, std_t, strict=False)),
        bias_atom_e_t=bias_t,
        subtract_vacuum_t=np.array(twice * (n_types // len(twice))),
        type_to=None if type_to is None else type_to.astype(nets[0].dtype),
        vacuum_is_typed=True,
        **parameters,
    )


def _energies_of_elements(graph: Graph, n_types: int) -> tuple[np.ndarray, np.ndarray]:
    """What is added behind the nets, and what they are multiplied by before."""
    bias_t, std_t = np.zeros(n_types), np.ones(n_types)
    if graph.is_const("fitting_attr/t_bias_atom_e"):
        bias_t = graph.const("fitting_attr/t_bias_atom_e").astype(np.float64).ravel()
    for scope in ("model_attr/model_attr", "model_attr"):
        if graph.is_const(f"{scope}/t_out_bias"):
            std_t = graph.const(f"{scope}/t_out_std").astype(np.float64).ravel()
            bias_t = bias_t * std_t + graph.const(f"{scope}/t_out_bias").astype(float).ravel()
            break
    return bias_t, std_t


def _parameter_statistics(graph: Graph) -> dict[str, Any]:
    """Fields of `Fitting` for models with fparam or aparam."""
    found = {}
    for name in ("fparam", "aparam"):
        count = f"fitting_attr/d{name}"
        if graph.is_const(count) and int(graph.const(count, 0)) > 0:
            for part in ("avg", "istd"):
                values = graph.const(f"fitting_attr/t_{name}_{part}")
                found[f"{name}_{part}_f"] = values.astype(np.float64).ravel()
    return found


def _layers(graph: Graph, ending: str, of_script: dict[str, Any]) -> list[str]:
    """Scopes of the layers of a net; those that nets share (``layer_name``) have another name."""
    shared = of_script.get("layer_name") or []
    hidden = len(shared) - 1 if shared else 0
    while not shared and graph.is_const(f"layer_{hidden}{ending}/matrix"):
        hidden += 1
    scopes = [f"layer_{k}{ending}" for k in range(hidden)] + [f"final_layer{ending}"]
    for k, name in enumerate(shared):
        if name is not None:
            scopes[k] = f"share_{name}{ending}"
    if not graph.is_const(f"{scopes[-1]}/matrix"):
        if any(name.startswith("share_") for name in graph.names()) and not shared:
            raise ModelFileError(
                "this graph has shared fitting layers (layer_name), and no training script that "
                "tells which; give --input input.json"
            )
        raise ModelFileError(f"the graph has no fitting net {scopes[-1]}/matrix")
    return scopes


def _net(graph: Graph, scopes: list[str], activation: str) -> Network:
    layers: list[Layer] = []
    for k, scope in enumerate(scopes):
        weight = native(graph.const(f"{scope}/matrix", 2))
        last = k == len(scopes) - 1
        joins = "replace" if last else fitting_join(k, *weight.shape)
        # a layer that joins nothing takes no time step, even where another one shares its own
        has_idt = joins == "add" and graph.is_const(f"{scope}/idt")
        layers.append(
            Layer(
                weight_io=weight,
                bias_o=native(graph.const(f"{scope}/bias").ravel()),
                idt_o=native(graph.const(f"{scope}/idt").ravel()) if has_idt else None,
                activation="linear" if last else activation,
                joins=joins,
            )
        )
    return Network(tuple(layers))


def _scaled(net: Network, std: float) -> Network:
    """The net with its energies times `std`."""
    if std == 1.0:
        return net
    last, scale = net.layers[-1], net.dtype.type(std)
    scaled = replace(last, weight_io=last.weight_io * scale, bias_o=last.bias_o * scale)
    return Network((*net.layers[:-1], scaled))


def _products(graph: Graph, matrix: str) -> list[str]:
    """Where something is multiplied by a matrix, but for gradients."""
    return [
        name
        for name in graph.named_by_op("MatMul")
        if not name.startswith("gradients")
        and graph.behind_identities(graph.input_of(name, 1)) == matrix
    ]
