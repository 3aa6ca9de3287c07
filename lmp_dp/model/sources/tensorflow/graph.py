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
from lmp_dp.model.sources.tensorflow import graphdef


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

    def _node(self, name: str) -> Any:
        if name not in self:
            raise ModelFileError(f"the graph has no operation '{name}'")
        return self._nodes[name]

    def op(self, name: str) -> str:
        """The operation of a node."""
        return str(self._node(name).op)

    def ops(self) -> set[str]:
        """The kinds of operations that the graph uses."""
        return {str(node.op) for node in self._nodes.values()}

    def named_by_op(self, op: str) -> list[str]:
        """Names of the nodes that are operation `op`."""
        return [name for name, node in self._nodes.items() if node.op == op]

    def inputs(self, name: str) -> list[str]:
        """Names of the nodes that feed a node (without output index and control marks)."""
        return [i.split(":")[0] for i in self._node(name).input if not i.startswith("^")]

    def input_of(self, name: str, place: int) -> str:
        """Name of the node that is input number `place` of a node."""
        inputs = self.inputs(name)
        if len(inputs) <= place:
            raise ModelFileError(
                f"operation {name} of the graph has {len(inputs)} inputs, expected {place + 1}"
            )
        return inputs[place]

    def ancestors(self, *names: str, stop: frozenset[str] = frozenset()) -> set[str]:
        """Nodes that `names` are computed from, and these; not beyond operations in `stop`."""
        found: set[str] = set()
        pending = list(names)
        while pending:
            name = pending.pop()
            if name in found or name not in self:
                continue
            found.add(name)
            if self.op(name) not in stop:
                pending.extend(self.inputs(name))
        return found

    def behind_identities(self, name: str) -> str:
        """The node whose values `name` has, in another shape or precision perhaps."""
        for _ in self._nodes:
            if name not in self or self.op(name) not in ("Identity", "Reshape", "Cast"):
                return name
            name = self.input_of(name, 0)
        raise ModelFileError(f"operation {name} of the graph is its own input")

    def attr(self, name: str, key: str) -> Any:
        """Attribute `key` of a node: a float, an int, a type, or a list of ints."""
        value = self._node(name).attr[key]
        kind = value.WhichOneof("value")
        if kind is None:
            raise ModelFileError(f"operation {name} of the graph has no attribute {key}")
        return [int(i) for i in value.list.i] if kind == "list" else getattr(value, kind)

    def is_const(self, name: str) -> bool:
        """True if `name` is a constant of the graph."""
        return name in self._nodes and self._nodes[name].op == "Const"

    def const(self, name: str, n_axes: int | None = None) -> np.ndarray:
        """The value of constant `name`.

        Raises
        ------
        ModelFileError
            There is no such constant, or it has another number of axes than `n_axes`.
        """
        if not self.is_const(name):
            raise ModelFileError(f"the graph has no constant '{name}'")
        try:
            values = graphdef.array_of(self._nodes[name].attr["value"].tensor)
        except ModelFileError as error:
            raise ModelFileError(f"constant '{name}' of the graph: {error}") from error
        if n_axes is not None and values.ndim != n_axes:
            raise ModelFileError(
                f"constant '{name}' of the graph has shape {values.shape}, expected {n_axes} axes"
            )
        return values

    def text(self, name: str) -> str:
        """The value of a scalar string constant, "" if there is none."""
        values = self.const(name, 0) if self.is_const(name) else np.array(b"")
        if not isinstance(values.item(), bytes):
            raise ModelFileError(f"constant '{name}' of the graph is {values.dtype}, expected text")
        return values.item().decode(errors="replace")
