"""Type embeddings, and the nets that are told elements by them."""

from __future__ import annotations

from typing import Any

import numpy as np

from lmp_dp.errors import ModelFileError, UnsupportedModelError
from lmp_dp.model.mapped import replace_parameters
from lmp_dp.model.sources import type_embedding
from lmp_dp.model.sources.deepmd_tables import value_at
from lmp_dp.model.sources.tensorflow.activations import ACTIVATION_OPS, activation_of
from lmp_dp.model.sources.tensorflow.graph import Graph
from lmp_dp.model.sources.tensorflow.nets import activation_of_nets, embedding_net, native
from lmp_dp.model.sources.tensorflow.pieces import Piece
from lmp_dp.model.sources.tensorflow.tables import WITH_GATE, operations, table_of
from lmp_dp.model.typed_nets import TypedNets

_SCOPE = "type_embed_net"
#: Ends of the names of a gate's layers (``tebd_input_mode`` strip).
_GATES = ("_two_side_ebd", "_one_side_ebd")


def type_embedding_of(graph: Graph, n_types: int, section: dict[str, Any]) -> np.ndarray | None:
    """te of each element, (n_types, Y) in the precision of its net; None without any.

    Parameters
    ----------
    graph : Graph
    n_types : int
    section : dict
        The section "model" of the training input.
    """
    if not graph.is_const(f"{_SCOPE}/matrix_1"):
        return None
    # without a section of its own in the training input there is none
    ops = {graph.op(name) for name in graph.names() if name.startswith(f"{_SCOPE}/")}
    activation = "linear"
    if ops & set(ACTIVATION_OPS):
        activation = activation_of(graph, f"{_SCOPE}/", section.get("type_embedding") or {})
    net = embedding_net(graph, _SCOPE, "", activation)
    if graph.op(graph.behind_identities(graph.input_of(f"{_SCOPE}/MatMul", 0))) != "OneHot":
        raise UnsupportedModelError(
            "a type embedding by electronic configurations (use_econf_tebd) is not supported"
        )
    if net.n_in != n_types:
        raise ModelFileError(f"the type embedding is of {net.n_in} elements, expected {n_types}")
    precise = replace_parameters(net, lambda parameters: parameters.astype(np.float64))
    return type_embedding.of_elements(precise).astype(net.dtype)


def typed_nets(piece: Piece, smooth: bool) -> TypedNets:
    """G of a descriptor whose nets are told elements.

    Parameters
    ----------
    piece : Piece
    smooth : bool
        Whether what a gate gives fades out.
    """
    graph = piece.graph
    type_to = type_embedding_of(graph, piece.n_types, piece.model_section)
    if type_to is None:
        raise ModelFileError(f"the graph has no type embedding {_SCOPE}/matrix_1")
    # an empty slot is told zeros
    padded_to = np.concatenate([type_to, np.zeros_like(type_to[:1])])
    if names := operations(graph, piece.all_scope, WITH_GATE):
        return _compressed(piece, names, padded_to, smooth)
    activation = activation_of_nets(piece)
    embedding = embedding_net(graph, piece.all_scope, "", activation)
    ending = next((e for e in _GATES if graph.is_const(f"{piece.all_scope}/matrix_1{e}")), None)
    gate = embedding_net(graph, piece.all_scope, ending, activation) if ending else None
    n_told = gate.n_in if gate else embedding.n_in - 1
    return TypedNets(
        embedding=embedding,
        gate=gate,
        type_to=padded_to.astype(embedding.dtype),
        one_side=n_told == type_to.shape[1],
        smooth=smooth and gate is not None,
    )


def _compressed(piece: Piece, names: list[str], padded_to: np.ndarray, smooth: bool) -> TypedNets:
    """A table of the net, and the gate's values as `dp compress` leaves them."""
    graph, n_types = piece.graph, piece.n_types
    if len(names) != 1:
        raise ModelFileError(f"found {len(names)} tables of a net with a gate, expected 1")
    table = table_of(graph, names[0])
    gates = _gathered(piece, graph.inputs(names[0])[-1], table.n_channels)
    # an empty slot is of no element, the last of them, or of its place's
    lengths = {n**power: (n, power) for n in (n_types, n_types + 1) for power in (2, 1)}
    if len(gates) not in lengths:
        raise ModelFileError(
            f"a gate has {len(gates)} values, of {n_types} elements or their pairs"
        )
    n_rows, power = lengths[len(gates)]
    one_side = power == 1
    of_pairs_ttm = gates[None] if one_side else gates.reshape(n_rows, n_rows, -1)[:n_types]
    gate_ttm = np.zeros((n_types, n_types + 1, table.n_channels), dtype=table.dtype)
    gate_ttm[:, :n_rows] = of_pairs_ttm
    environment = piece.environment()
    padding_t = -environment.davg_tk[:, 0] / environment.dstd_tk[:, 0]
    return TypedNets(
        embedding=None,
        gate=None,
        type_to=padded_to.astype(table.dtype),
        one_side=one_side,
        smooth=smooth,
        tables=(table,),
        padding_tm=np.stack([value_at(table, s) for s in padding_t]),
        gate_ttm=gate_ttm,
    )


def _gathered(piece: Piece, name: str, n_channels: int) -> np.ndarray:
    """The constant table of rows of `n_channels` that a node gathers from."""
    graph = piece.graph
    found = {
        graph.behind_identities(graph.input_of(above, 0))
        for above in graph.ancestors(name, stop=piece.environment_ops)
        if graph.op(above) in ("GatherV2", "Gather")
    }
    tables = [native(graph.const(source)) for source in found if graph.is_const(source)]
    fitting = [values for values in tables if values.ndim == 2 and values.shape[1] == n_channels]
    if len(fitting) != 1:
        raise ModelFileError(f"found {len(fitting)} tables of the gate of {name}, expected 1")
    return fitting[0]
