"""From a DeePMD-kit TensorFlow graph (v1, v2, v3) to a `DeepPotential`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from lmp_dp.errors import ModelFileError, UnsupportedModelError
from lmp_dp.model.deep_potential import DeepPotential
from lmp_dp.model.descriptors.hybrid import Hybrid
from lmp_dp.model.descriptors.registry import Part
from lmp_dp.model.mapped import find_all
from lmp_dp.model.provenance import MIXED_PRECISION, SOURCE_TABLES, Provenance
from lmp_dp.model.sources.tensorflow.descriptors import READERS
from lmp_dp.model.sources.tensorflow.fitting import read_fitting
from lmp_dp.model.sources.tensorflow.graph import Graph
from lmp_dp.model.sources.tensorflow.graphdef import HALF_TYPES
from lmp_dp.model.sources.tensorflow.pair_table import read_pair_table
from lmp_dp.model.sources.tensorflow.pieces import Piece, pieces
from lmp_dp.model.sources.tensorflow.refused import refuse_unsupported
from lmp_dp.model.sources.training_input import model_section
from lmp_dp.model.table import Table


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
    refuse_unsupported(graph, section)
    parts = [_reader(piece)(piece) for piece in pieces(graph, section)]
    descriptor = parts[0] if len(parts) == 1 else Hybrid(tuple(parts))
    n_types = parts[0].environment.n_types
    fitting = read_fitting(graph, n_types, descriptor.n_out, section)
    notes = []
    if _computes_in_half_precision(graph):
        notes.append(
            f"{MIXED_PRECISION}: the source computes the nets in half precision, "
            f"lmp_dp in {descriptor.dtype.name}"
        )
    if find_all(descriptor, Table):
        notes.append(
            f"{SOURCE_TABLES}: its tables are taken over as they are, and there are no nets"
        )
    notes += [
        f"the training input has {key}, which DeePMD-kit's TensorFlow backend does not heed"
        for key in ("pair_exclude_types", "atom_exclude_types")
        if section.get(key)
    ]
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
        pair_table=read_pair_table(graph, parts),
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


def _reader(piece: Piece) -> Callable[[Piece], Part]:
    """Who reads a piece: the one that knows it."""
    found = [reader for reader in READERS if reader.knows(piece)]
    if len(found) != 1:
        names = " and ".join(reader.name for reader in found) or "none that lmp_dp knows"
        raise UnsupportedModelError(
            f"the descriptor of operation {piece.node} is not one kind, but {names}"
        )
    return found[0].read
