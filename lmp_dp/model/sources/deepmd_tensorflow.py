"""From a DeePMD-kit TensorFlow graph (v1, v2, v3) to a `DeepPotential`.

What the graph computes decides; the training script inside it (or an input.json beside it) is
used only where the graph's operations leave something open (the activation functions' names).
Sources: names of DeePMD-kit's nodes, operator attributes, and the structure of the graph.
"""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np

from lmp_dp.errors import ModelFileError, UnsupportedModelError
from lmp_dp.model.deep_potential import DeepPotential
from lmp_dp.model.descriptors.environment import Environment
from lmp_dp.model.descriptors.se_e2_a import SeE2A
from lmp_dp.model.fitting import Fitting
from lmp_dp.model.network import (
    Layer,
    Network,
    canonical_activation,
    embedding_join,
    fitting_join,
)
from lmp_dp.model.pair_nets import PairNets
from lmp_dp.model.provenance import MIXED_PRECISION, Provenance
from lmp_dp.model.sources.graphdef import HALF_TYPES
from lmp_dp.model.sources.supported_graphs import ENVIRONMENT_OPS, supported_environment
from lmp_dp.model.sources.tensorflow_graph import Graph
from lmp_dp.model.sources.training_input import model_section


def read_graph(graph: Graph, script: dict[str, Any] | None = None) -> DeepPotential:
    """Turn a parsed graph into a model (its provenance holds what the graph itself says).

    Parameters
    ----------
    graph : Graph
    script : dict, optional
        Training input; if not given, the one inside the graph is used, where there is one.

    Raises
    ------
    UnsupportedModelError
        Something that lmp_dp cannot evaluate, by name.
    ModelFileError
        The graph is no DeePMD-kit model or lacks a part.
    """
    embedded = graph.text("train_attr/training_script")
    if script is None and embedded:
        script = _parsed(embedded)
    section = model_section(script or {})
    environment = supported_environment(graph, section)

    sel = np.array(graph.attr(environment, "sel_a"), dtype=np.int64)
    n_types = len(sel)
    descriptor = _read_descriptor(graph, environment, sel, section)
    fitting = _read_fitting(graph, n_types, descriptor.n_out, section)
    notes = []
    if _computes_in_half_precision(graph):
        notes.append(
            f"{MIXED_PRECISION}: the source computes the nets in half precision, "
            f"lmp_dp in {descriptor.dtype.name}"
        )
    minimum = "train_attr/min_nbor_dist"
    return DeepPotential(
        type_map=_read_type_map(graph, n_types, section),
        descriptor=descriptor,
        fitting=fitting,
        provenance=Provenance(
            source_format="TensorFlow GraphDef (DeePMD-kit)",
            model_version=graph.text("model_attr/model_version"),
            min_nbor_dist=float(graph.const(minimum)) if graph.is_const(minimum) else None,
            training_script=embedded or (json.dumps(script) if script else ""),
            notes=tuple(notes),
        ),
    )


def _parsed(script: str) -> dict[str, Any]:
    try:
        return dict(json.loads(script))
    except (ValueError, TypeError, RecursionError) as error:
        raise ModelFileError(f"the graph's training script is no JSON object: {error}") from error


def _read_type_map(graph: Graph, n_types: int, section: dict[str, Any]) -> tuple[str, ...]:
    names = graph.text("model_attr/tmap").split() or list(section.get("type_map") or [])
    if not names:
        names = [f"TYPE_{t}" for t in range(n_types)]
    if len(names) != n_types:
        raise ModelFileError(f"the type map {names} does not fit a model of {n_types} elements")
    return tuple(names)


def _computes_in_half_precision(graph: Graph) -> bool:
    return any(graph.attr(name, "DstT") in HALF_TYPES for name in graph.named_by_op("Cast"))


# --------------------------------------------------------------------------- descriptor
def _read_descriptor(
    graph: Graph, environment: str, sel: np.ndarray, section: dict[str, Any]
) -> SeE2A:
    n_types = len(sel)
    one_side = any(name.startswith("filter_type_all/") for name in graph.names())
    activation = _activation(graph, "filter_type_", section.get("descriptor", {}))
    if one_side:
        excluded_tt = _excluded_by_mask(graph, n_types)
        neighbours = np.nonzero(~excluded_tt.all(axis=0))[0]
        sources = [("filter_type_all", j) for j in neighbours.tolist()]
        net_tt = np.where(excluded_tt, -1, np.searchsorted(neighbours, np.arange(n_types)))
    else:
        excluded_tt = np.array(
            [[not graph.is_const(f"filter_type_{i}/matrix_1_{j}") for j in range(n_types)]
             for i in range(n_types)]
        )  # fmt: skip
        sources = [(f"filter_type_{i}", j) for i, j in np.argwhere(~excluded_tt).tolist()]
        net_tt = np.full((n_types, n_types), -1)
        net_tt[~excluded_tt] = np.arange(len(sources))
    davg_tk, dstd_tk = (
        _tiled_statistics(graph.const(f"descrpt_attr/{name}"), name, n_types, int(sel.sum()))
        for name in ("t_avg", "t_std")
    )
    original = "descrpt_attr/original_sel"
    nets = tuple(_embedding_net(graph, scope, j, activation) for scope, j in sources)
    return SeE2A(
        environment=Environment(
            rules="TF",
            rcut=float(graph.attr(environment, "rcut_r")),
            rcut_smth=float(graph.attr(environment, "rcut_r_smth")),
            sel_t=sel,
            n_norm=int((graph.const(original) if graph.is_const(original) else sel).sum()),
            davg_tk=davg_tk,
            dstd_tk=dstd_tk,
            excluded_tt=excluded_tt,
        ),
        nets=PairNets(net_tt, nets),
        axis_neuron=_axis_neuron(graph, section),
    )


def _tiled_statistics(values: np.ndarray, name: str, n_types: int, n_slots: int) -> np.ndarray:
    """(n_types, 4 n_slots) as the graph has it -> (n_types, 4); training tiles one row."""
    if values.size != n_types * n_slots * 4:
        raise ModelFileError(f"{name} has {values.size} values, expected {n_types} x {n_slots} x 4")
    slots_tsk = values.reshape(n_types, n_slots, 4).astype(np.float64)
    if not (slots_tsk == slots_tsk[:, :1]).all():
        raise UnsupportedModelError(f"{name} differs between slots of one centre")
    return np.ascontiguousarray(slots_tsk[:, 0])


def _axis_neuron(graph: Graph, section: dict[str, Any]) -> int:
    """The graph slices T to (4, axis_neuron): the only Slice of size [-1, -1, n > 0]."""
    for name in graph.named_by_op("Slice"):
        if re.match(r"filter_type_[^/]+/Slice", name):
            size = graph.inputs(name)[2]
            if graph.is_const(size):
                values = graph.const(size).tolist()
                if len(values) == 3 and values[:2] == [-1, -1] and values[2] > 0:
                    return int(values[2])
    from_script = section.get("descriptor", {}).get("axis_neuron", section.get("axis_neuron"))
    if from_script is None:
        raise ModelFileError("axis_neuron is not to be found in the graph; give --input input.json")
    return int(from_script)


def _excluded_by_mask(graph: Graph, n_types: int) -> np.ndarray:
    """Excluded pairs of a one-sided model: a constant 0/1 table that the graph gathers from.

    DeePMD-kit multiplies the environment matrix by ``table[centre * n_types + neighbour]``.
    """
    excluded_tt = np.zeros((n_types, n_types), dtype=bool)
    pending, seen = ["filter_type_all/Slice"], set()
    while pending:
        name = pending.pop()
        if name in seen or name not in graph or graph.op(name) in (*ENVIRONMENT_OPS, "Const"):
            continue
        seen.add(name)
        if graph.op(name) in ("GatherV2", "Gather"):
            table = _behind_identities(graph, graph.inputs(name)[0])
            if table is not None and table.size == n_types**2 and table.dtype.kind == "f":
                # rows of the table: DeePMD-kit fills [neighbour][centre], exclusion is symmetric
                excluded_tt |= table.reshape(n_types, n_types) == 0.0
            continue
        pending.extend(graph.inputs(name))
    return excluded_tt


def _behind_identities(graph: Graph, name: str) -> np.ndarray | None:
    while name in graph and graph.op(name) in ("Identity", "Reshape"):
        name = graph.inputs(name)[0]
    return graph.const(name) if graph.is_const(name) else None


def _embedding_net(graph: Graph, scope: str, neighbour: int, activation: str) -> Network:
    layers: list[Layer] = []
    while graph.is_const(f"{scope}/matrix_{len(layers) + 1}_{neighbour}"):
        k = len(layers) + 1
        weight = graph.const(f"{scope}/matrix_{k}_{neighbour}")
        idt = f"{scope}/idt_{k}_{neighbour}"
        joins = embedding_join(*weight.shape)
        layers.append(
            Layer(
                weight_io=_native(weight),
                bias_o=_native(graph.const(f"{scope}/bias_{k}_{neighbour}").ravel()),
                # DeePMD-kit makes a time step for every layer, but uses it only where joined
                idt_o=_native(graph.const(idt).ravel())
                if graph.is_const(idt) and joins != "replace"
                else None,
                activation=activation,
                joins=joins,
            )
        )
    if not layers:
        raise ModelFileError(f"the graph has no embedding net {scope}/matrix_1_{neighbour}")
    return Network(tuple(layers))


def _native(array: np.ndarray) -> np.ndarray:
    """float32 or float64, C order; half-precision parameters are widened to float32."""
    if array.dtype in (np.float32, np.float64):
        return np.ascontiguousarray(array)
    return np.ascontiguousarray(array, dtype=np.float32)


# --------------------------------------------------------------------------- fitting nets
def _read_fitting(
    graph: Graph, n_types: int, n_descriptor: int, section: dict[str, Any]
) -> Fitting:
    if graph.is_const("final_layer/matrix"):
        raise UnsupportedModelError("a fitting net shared by all elements is not supported")
    activation = _activation(graph, "layer_", section.get("fitting_net", {}))
    bias = np.zeros(n_types)
    if graph.is_const("fitting_attr/t_bias_atom_e"):
        bias = graph.const("fitting_attr/t_bias_atom_e").astype(np.float64).ravel()
    std = np.ones(n_types)
    for scope in ("model_attr/model_attr", "model_attr"):
        if graph.is_const(f"{scope}/t_out_bias"):
            std = graph.const(f"{scope}/t_out_std").astype(np.float64).ravel()
            bias = bias * std + graph.const(f"{scope}/t_out_bias").astype(np.float64).ravel()
            break
    nets = [_fitting_net(graph, t, activation, std[t]) for t in range(n_types)]
    parameters = _parameter_statistics(graph)
    n_expected = n_descriptor + sum(len(values) for values in parameters.values()) // 2
    for t, net in enumerate(nets):
        if net.n_in != n_expected:
            raise ModelFileError(
                f"fitting net {t} takes {net.n_in} values, descriptor and parameters give "
                f"{n_expected}"
            )
    # with atom_ener the graph evaluates the net a second time, at D = 0
    vacuum = [
        any(re.match(rf"layer_0_type_{t}_\d+/(MatMul|BiasAdd)$", name) for name in graph.names())
        for t in range(n_types)
    ]
    return Fitting(tuple(nets), bias, np.array(vacuum), **parameters)


def _parameter_statistics(graph: Graph) -> dict[str, np.ndarray]:
    """Fields of `Fitting` for models with fparam or aparam."""
    found = {}
    for name in ("fparam", "aparam"):
        count = f"fitting_attr/d{name}"
        if graph.is_const(count) and int(graph.const(count)) > 0:
            for part in ("avg", "istd"):
                values = graph.const(f"fitting_attr/t_{name}_{part}")
                found[f"{name}_{part}_f"] = values.astype(np.float64).ravel()
    return found


def _fitting_net(graph: Graph, t: int, activation: str, scale: float) -> Network:
    layers: list[Layer] = []
    while graph.is_const(f"layer_{len(layers)}_type_{t}/matrix"):
        scope = f"layer_{len(layers)}_type_{t}"
        weight = graph.const(f"{scope}/matrix")
        joins = fitting_join(len(layers), *weight.shape)
        has_idt = graph.is_const(f"{scope}/idt")
        layers.append(
            Layer(
                weight_io=_native(weight),
                bias_o=_native(graph.const(f"{scope}/bias").ravel()),
                idt_o=_native(graph.const(f"{scope}/idt").ravel()) if has_idt else None,
                activation=activation,
                joins=joins,
            )
        )
    scope = f"final_layer_type_{t}"
    if not layers and not graph.is_const(f"{scope}/matrix"):
        shared = any(name.startswith("share_") for name in graph.names())
        raise UnsupportedModelError(
            "shared fitting layers (layer_name) are not supported"
            if shared
            else f"the graph has no fitting net for element {t}"
        )
    layers.append(
        Layer(
            weight_io=_native(graph.const(f"{scope}/matrix"))
            * layers[0].weight_io.dtype.type(scale),
            bias_o=_native(graph.const(f"{scope}/bias").ravel())
            * layers[0].weight_io.dtype.type(scale),
            idt_o=None,
            activation="linear",
            joins="replace",
        )
    )
    return Network(tuple(layers))


# --------------------------------------------------------------------------- activations
_ACTIVATION_OPS = {
    "Tanh": "tanh",
    "Relu": "relu",
    "Relu6": "relu6",
    "Softplus": "softplus",
    "Sigmoid": "sigmoid",
    "GeluCustom": "gelu",
    "Gelu": "gelu",
}


def _activation(graph: Graph, scope: str, section: dict[str, Any]) -> str:
    """Activation of a family of nets: the script's word, checked against the graph's operations.

    The operations name the plain functions; those made of several (gelu, silu, silut) contain a
    Tanh or Sigmoid beside others, and only the script tells them apart.
    """
    ops = {
        graph.op(name)
        for name in graph.names()
        if name.startswith(scope) and graph.op(name) in _ACTIVATION_OPS
    }
    if "activation_function" in section:
        return canonical_activation(section["activation_function"])
    if section or ops == {"Tanh"}:
        return "tanh"  # DeePMD-kit's default
    if len(ops) == 1:
        return _ACTIVATION_OPS[ops.pop()]
    raise ModelFileError(
        "this graph carries no training script, and its activation function is not plain from "
        f"its operations ({', '.join(sorted(ops)) or 'none'}); give --input input.json"
    )
