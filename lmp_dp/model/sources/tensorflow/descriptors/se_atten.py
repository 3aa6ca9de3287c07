"""se_atten (DPA-1) and se_atten_v2."""

from __future__ import annotations

import re

import numpy as np

from lmp_dp.errors import ModelFileError
from lmp_dp.model.descriptors.se_atten import Attention, AttentionLayer, SeAtten
from lmp_dp.model.network import Layer, Network
from lmp_dp.model.sources.tensorflow.graph import Graph
from lmp_dp.model.sources.tensorflow.nets import native
from lmp_dp.model.sources.tensorflow.pieces import Piece
from lmp_dp.model.sources.tensorflow.registry import reads
from lmp_dp.model.sources.tensorflow.tables import WITH_GATE
from lmp_dp.model.sources.tensorflow.typed_nets import typed_nets


@reads("se_atten", lambda piece: piece.mixes and piece.has(f"matrix_1|{WITH_GATE}"))
def _(piece: Piece) -> SeAtten:
    fade_radius = _fade_radius(piece)
    attention = _attention(piece, smooth=fade_radius is not None)
    nets = typed_nets(piece, smooth=fade_radius is not None)
    # empty slots have a column of the table of excluded pairs too
    environment = piece.environment(piece.excluded_by_mask(piece.n_types + 1))
    return SeAtten(
        environment=environment,
        nets=nets,
        attention=attention,
        axis_neuron=piece.axis_neuron(),
        fade_radius=fade_radius if nets.smooth or attention else None,
    )


def _fade_radius(piece: Piece) -> float | None:
    """rcut_smth where the graph computes 1 - rcut_smth s, s = R_0 dstd + davg; else None.

    Only what fades out recovers s from the rows, with a slice of davg.
    """
    graph = piece.graph
    for name in graph.named_by_op("Mul"):
        if name.startswith("gradients"):
            continue
        constant, other = graph.input_of(name, 0), graph.input_of(name, 1)
        if not graph.is_const(constant) or graph.op(other) not in ("Add", "AddV2"):
            continue
        if graph.const(constant).size == 1 and _recovers_s(piece, other):
            return float(graph.const(constant).item())
    return None


def _recovers_s(piece: Piece, name: str) -> bool:
    """Whether a node is a sum of two: one of the rows of this piece, one of a slice of its davg."""
    graph = piece.graph
    slices = (
        graph.input_of(above, 0)
        for above in graph.ancestors(name, stop=piece.environment_ops)
        if graph.op(above) == "Slice"
    )
    return any(graph.behind_identities(source) == piece.davg for source in slices)


def _attention(piece: Piece, smooth: bool) -> Attention | None:
    graph = piece.graph
    layers: list[AttentionLayer] = []
    while graph.is_const(f"attention_layer_{len(layers)}{piece.suffix}/c_query/matrix"):
        layers.append(_layer(graph, f"attention_layer_{len(layers)}{piece.suffix}"))
    if not layers:
        return None
    scope = f"attention_layer_0{piece.suffix}"
    inside = [name for name in graph.names() if name.startswith(f"{scope}/")]
    epsilons = {_epsilon(graph, f"attention_layer_{k}{piece.suffix}") for k in range(len(layers))}
    if len(epsilons) > 1:
        raise ModelFileError(f"the layers of attention differ in epsilon: {sorted(epsilons)}")
    products = [name for name in inside if graph.op(name).startswith("BatchMatMul")]
    return Attention(
        layers=tuple(layers),
        dotr=any(len(set(graph.inputs(name))) == 1 for name in products),
        normalize=True,
        scale=1.0,
        epsilon=epsilons.pop(),
        smooth=smooth,
        mask_diagonal=any(name.startswith(f"{scope}/eye") for name in inside),
    )


def _layer(graph: Graph, scope: str) -> AttentionLayer:
    def linear(name: str) -> Network:
        weight = native(graph.const(f"{scope}/{name}/matrix", 2))
        bias = native(graph.const(f"{scope}/{name}/bias").ravel())
        return Network((Layer(weight, bias, None, "linear", "replace"),))

    norm = _norm(graph, scope)
    return AttentionLayer(
        query=linear("c_query"),
        key=linear("c_key"),
        value=linear("c_value"),
        out=linear("c_out"),
        gamma_m=native(graph.const(f"{norm}/gamma").ravel()),
        beta_m=native(graph.const(f"{norm}/beta").ravel()),
    )


def _norm(graph: Graph, scope: str) -> str:
    """Scope of a layer's normalisation; TensorFlow counts them in old graphs."""
    pattern = re.compile(rf"({re.escape(scope)}/layer_normalization(_\d+)?)/gamma")
    found = [match[1] for name in graph.names() if (match := pattern.fullmatch(name))]
    if len(found) != 1:
        raise ModelFileError(f"{scope} has {len(found)} layer normalisations, expected 1")
    return found[0]


def _epsilon(graph: Graph, scope: str) -> float:
    """Of the variance: an attribute in old graphs, else what is added to it before the root."""
    norm = f"{_norm(graph, scope)}/"
    inside = [name for name in graph.names() if name.startswith(norm)]
    for name in inside:
        if graph.op(name) == "FusedBatchNormV3":
            return float(graph.attr(name, "epsilon"))
    for name in inside:
        if graph.op(name) in ("Sqrt", "Rsqrt"):
            terms = graph.inputs(graph.input_of(name, 0))
            constants = [np.ravel(graph.const(term)) for term in terms if graph.is_const(term)]
            if len(constants) == 1 and len(constants[0]) == 1:
                return float(constants[0][0])
    raise ModelFileError(f"the epsilon of {norm.rstrip('/')} is not to be found in the graph")
