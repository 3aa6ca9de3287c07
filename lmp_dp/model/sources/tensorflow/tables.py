"""Tables of a compressed graph.

``dp compress`` puts an operation TabulateFusion... in the place of each embedding net; its first
two inputs are the table and its ranges.
"""

from __future__ import annotations

import re

import numpy as np

from lmp_dp.errors import ModelFileError
from lmp_dp.model.sources.deepmd_tables import taken_over
from lmp_dp.model.sources.tensorflow.graph import Graph
from lmp_dp.model.sources.tensorflow.pieces import Piece
from lmp_dp.model.table import Table

#: Regular expressions of the operations' names, by descriptor; se_e2_a as of DeePMD-kit 2.0, too.
SE_E2_A = r"TabulateFusion(SeA)?(_\d+)?"
SE_E2_R = r"TabulateFusionSeR(_\d+)?"
SE_E3 = r"TabulateFusionSeT(_\d+)?"
WITH_GATE = r"TabulateFusionSeAtten(_\d+)?"


def tables_of(piece: Piece, scope: str) -> dict[int, Table]:
    """The tables of one scope by the element of the neighbours, whose rows they are given."""
    graph, found = piece.graph, dict[int, Table]()
    sel_t = piece.environment().sel_t
    blocks = list(zip((np.cumsum(sel_t) - sel_t).tolist(), sel_t.tolist(), strict=True))
    for name in operations(graph, scope, f"({SE_E2_A}|{SE_E2_R})"):
        rows = graph.behind_identities(_inputs(graph, name)[-1])
        if rows not in graph or graph.op(rows) != "Slice":
            raise ModelFileError(f"operation {name} is given {rows}, expected a Slice of the rows")
        first, count = (int(graph.const(i)[1]) // piece.width for i in graph.inputs(rows)[1:])
        free = [t for t, block in enumerate(blocks) if block == (first, count) and t not in found]
        if not free:
            raise ModelFileError(
                f"operation {name} is given {count} slots from {first} on, where no element's are"
            )
        found[free[0]] = table_of(graph, name)
    return found


def operations(graph: Graph, scope: str, pattern: str) -> list[str]:
    """The operations of a scope in the order in which they were made."""
    whole = re.compile(rf"{re.escape(scope)}/{pattern}")
    names = [name for name in graph.names() if whole.fullmatch(name)]
    return sorted(names, key=lambda name: int((re.findall(r"_(\d+)$", name) or [0])[0]))


def table_of(graph: Graph, name: str, *, both_sides: bool = False) -> Table:
    """The table of one operation."""
    values, info = (graph.const(graph.behind_identities(i)) for i in _inputs(graph, name)[:2])
    return taken_over(values, info, both_sides=both_sides)


def _inputs(graph: Graph, name: str) -> list[str]:
    """Table, ranges, and what the embedding net would be given, or rows behind that."""
    inputs = graph.inputs(name)
    if len(inputs) < 3:
        raise ModelFileError(f"operation {name} has {len(inputs)} inputs, expected 3 or more")
    return inputs
