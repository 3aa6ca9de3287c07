"""Reading a frozen TensorFlow graph: nodes, constants, attributes. Knows nothing of DeePMD-kit.

The graph is never run, and TensorFlow not needed (`graphdef`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lmp_dp.errors import ModelFileError
from lmp_dp.model.sources import graphdef


class Graph:
    """Nodes of a GraphDef by name, with constants as NumPy arrays."""

    def __init__(self, graph_def: Any) -> None:
        self._nodes = {node.name: node for node in graph_def.node}

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Graph:
        """Parse a ``.pb`` (binary) or ``.pbtxt`` (text) GraphDef.

        Raises
        ------
        ModelFileError
            The file is missing or no GraphDef.
        """
        path = Path(path)
        if not path.is_file():
            raise ModelFileError(f"model file {path} does not exist")
        try:
            return cls(graphdef.parse(path.read_bytes(), text=path.suffix == ".pbtxt"))
        except ModelFileError as error:
            raise ModelFileError(f"{path} is {error}") from error

    def __contains__(self, name: str) -> bool:
        return name in self._nodes

    def names(self) -> Iterator[str]:
        """All node names, in the order of the file."""
        return iter(self._nodes)

    def op(self, name: str) -> str:
        """The operation of a node."""
        return str(self._nodes[name].op)

    def ops(self) -> set[str]:
        """The kinds of operations that the graph uses."""
        return {str(node.op) for node in self._nodes.values()}

    def named_by_op(self, op: str) -> list[str]:
        """Names of the nodes that are operation `op`."""
        return [name for name, node in self._nodes.items() if node.op == op]

    def inputs(self, name: str) -> list[str]:
        """Names of the nodes that feed a node (without output index and control marks)."""
        return [i.split(":")[0] for i in self._nodes[name].input if not i.startswith("^")]

    def attr(self, name: str, key: str) -> Any:
        """Attribute `key` of a node: a float, an int, a type, or a list of ints."""
        value = self._nodes[name].attr[key]
        kind = value.WhichOneof("value")
        return [int(i) for i in value.list.i] if kind == "list" else getattr(value, kind)

    def is_const(self, name: str) -> bool:
        """True if `name` is a constant of the graph."""
        return name in self._nodes and self._nodes[name].op == "Const"

    def const(self, name: str) -> np.ndarray:
        """The value of constant `name`.

        Raises
        ------
        ModelFileError
            There is no such constant.
        """
        if not self.is_const(name):
            raise ModelFileError(f"the graph has no constant '{name}'")
        try:
            return graphdef.array_of(self._nodes[name].attr["value"].tensor)
        except ModelFileError as error:
            raise ModelFileError(f"constant '{name}' of the graph: {error}") from error

    def text(self, name: str) -> str:
        """The value of a scalar string constant, "" if there is none."""
        return self.const(name).item().decode() if self.is_const(name) else ""
