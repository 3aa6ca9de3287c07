"""The descriptors of a graph, one by one: what they see, and where the rest of them lies.

Each has an environment operation. In a hybrid the name scopes of member k end in ``_k``
(``descrpt_attr_0``, ``filter_type_all_0``, ``filter_type_0_1``: centre 0, member 1).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from lmp_dp.errors import ModelFileError, UnsupportedModelError
from lmp_dp.model.descriptors.environment import Environment
from lmp_dp.model.sources.tensorflow.graph import Graph

#: Attributes of environment operations: rcut, rcut_smth and sel.
_LONG_NAMES = ("rcut_r", "rcut_r_smth", "sel_a")
#: Environment operations -> names of their attributes, components of a row. Of several names the
#: first is that of DeePMD-kit >= 2, then come those of 1.x and 0.12.
ENVIRONMENT_OPS: dict[str, tuple[tuple[str, str, str], int]] = {
    "ProdEnvMatA": (_LONG_NAMES, 4),
    "DescrptSeA": (_LONG_NAMES, 4),
    "DescrptNorot": (_LONG_NAMES, 4),
    "ProdEnvMatAMix": (_LONG_NAMES, 4),
    "ProdEnvMatR": (("rcut", "rcut_smth", "sel"), 1),
    "DescrptSeR": (("rcut", "rcut_smth", "sel"), 1),
    "Descrpt": (_LONG_NAMES, 0),  # loc_frame, which has no rows
}
#: Where the operations have davg and dstd among their inputs.
_DAVG, _DSTD = 5, 6


@dataclass(frozen=True)
class Piece:
    """One descriptor of a graph.

    Attributes
    ----------
    graph : Graph
    node : str
        Its environment operation.
    section : dict
        What the training script says of it; empty without a script.
    model_section : dict
        What the training script says of the model.
    """

    graph: Graph
    node: str
    section: dict[str, Any]
    model_section: dict[str, Any]

    @property
    def op(self) -> str:
        """The kind of its environment operation."""
        return self.graph.op(self.node)

    #: Where one descriptor of a graph ends.
    environment_ops: ClassVar[frozenset[str]] = frozenset(ENVIRONMENT_OPS)

    @property
    def width(self) -> int:
        """Components of its environment rows: 4, 1, or 0 if it has none."""
        return ENVIRONMENT_OPS[self.op][1]

    @property
    def mixes(self) -> bool:
        """Whether neighbours of all elements share its slots."""
        return self.op == "ProdEnvMatAMix"

    @property
    def davg(self) -> str:
        """The constant davg."""
        return self.graph.behind_identities(self.graph.input_of(self.node, _DAVG))

    @property
    def suffix(self) -> str:
        """What the names of its scopes end in; "" unless it is a member of a hybrid."""
        return suffix_of(self.graph, self.node)

    @cached_property
    def _scope(self) -> str:
        """What the names of the nets' scopes begin with: another word in DeePMD-kit 0.12."""
        old = any(name.startswith("DS_layer_type_") for name in self.graph.names())
        return "DS_layer_type" if old else "filter_type"

    @property
    def all_scope(self) -> str:
        """Scope of the nets that are not of one element's centres."""
        return f"{self._scope}_all{self.suffix}"

    def centre_scope(self, t: int) -> str:
        """Scope of the nets for centres of element `t`."""
        return f"{self._scope}_{t}{self.suffix}"

    @property
    def scopes(self) -> str:
        """Regular expression: how names in any of these scopes begin."""
        return rf"{self._scope}_(all|\d+){self.suffix}/"

    def has(self, pattern: str) -> bool:
        """Whether there is a node of this name in one of its scopes (a regular expression)."""
        whole = re.compile(f"{self.scopes}({pattern})")
        return any(whole.fullmatch(name) for name in self.graph.names())

    @property
    def is_one_sided(self) -> bool:
        """Whether centres share the nets."""
        return any(name.startswith(f"{self.all_scope}/") for name in self.graph.names())

    @cached_property
    def n_types(self) -> int:
        """Number of elements."""
        return len(self._statistics(_DAVG))

    def environment(self, excluded_tt: np.ndarray | None = None) -> Environment:
        """What it sees, but for the pairs of elements that do not see each other."""
        (rcut, rcut_smth, _), _ = ENVIRONMENT_OPS[self.op]
        original = f"descrpt_attr{self.suffix}/original_sel"
        sel_t = self._sel_t
        of_training_t = self.graph.const(original) if self.graph.is_const(original) else sel_t
        if excluded_tt is None:
            excluded_tt = np.zeros((self.n_types, self.n_types), dtype=bool)
        return Environment(
            rules="TF",
            rcut=float(self.graph.attr(self.node, rcut)),
            rcut_smth=float(self.graph.attr(self.node, rcut_smth)),
            sel_t=sel_t,
            n_norm=int(of_training_t.sum()),
            davg_tk=self._row_tk(_DAVG, 0.0),
            dstd_tk=self._row_tk(_DSTD, 1.0),
            excluded_tt=excluded_tt,
        )

    @property
    def _sel_t(self) -> np.ndarray:
        _, _, sel = ENVIRONMENT_OPS[self.op][0]
        return np.array(self.graph.attr(self.node, sel), dtype=np.int64)

    def statistics(self) -> tuple[np.ndarray, np.ndarray]:
        """davg and dstd as the graph has them, (n_types, any) float64."""
        davg, dstd = (self._statistics(place).astype(np.float64) for place in (_DAVG, _DSTD))
        return davg, dstd

    def _statistics(self, place: int) -> np.ndarray:
        return self.graph.const(self.graph.behind_identities(self.graph.input_of(self.node, place)))

    def _row_tk(self, place: int, otherwise: float) -> np.ndarray:
        """(n_types, width n_slots) as the graph has it -> (n_types, 4); training tiles one row."""
        name = {_DAVG: "t_avg", _DSTD: "t_std"}[place]
        values, n_slots = self._statistics(place), int(self._sel_t.sum())
        if values.size != self.n_types * n_slots * self.width:
            raise ModelFileError(
                f"{name} has {values.size} values, expected {self.n_types} x {n_slots} x "
                f"{self.width}"
            )
        slots_tsk = values.reshape(self.n_types, n_slots, self.width).astype(np.float64)
        if not (slots_tsk == slots_tsk[:, :1]).all():
            raise UnsupportedModelError(f"{name} differs between slots of one centre")
        row_tk = np.full((self.n_types, 4), otherwise)
        row_tk[:, : self.width] = slots_tsk[:, 0]
        return row_tk

    def excluded_by_mask(self, n_neighbours: int) -> np.ndarray:
        """Excluded pairs of nets that centres share: a constant 0/1 table that is gathered from.

        DeePMD-kit multiplies the rows by ``table[centre * n_neighbours + neighbour]``, where empty
        slots may be a kind of neighbours too.
        """
        graph, shape = self.graph, (self.n_types, n_neighbours)
        excluded_tt = np.zeros((self.n_types, self.n_types), dtype=bool)
        inside = [name for name in graph.names() if name.startswith(f"{self.all_scope}/")]
        for name in graph.ancestors(*inside, stop=self.environment_ops):
            if graph.op(name) not in ("GatherV2", "Gather"):
                continue
            source = graph.behind_identities(graph.input_of(name, 0))
            table = graph.const(source) if graph.is_const(source) else np.empty(0)
            if table.size == np.prod(shape) and table.dtype.kind == "f":
                excluded_tt |= table.reshape(shape)[:, : self.n_types] == 0.0
        return excluded_tt

    def axis_neuron(self) -> int:
        """The graph slices T to (4, axis_neuron): a Slice to [-1, -1, n > 0]."""
        graph = self.graph
        for name in graph.named_by_op("Slice"):
            begin, size = graph.input_of(name, 1), graph.input_of(name, 2)
            if not (graph.is_const(begin) and graph.is_const(size)):
                continue
            at, values = graph.const(begin).ravel().tolist(), graph.const(size).ravel().tolist()
            if at != [0, 0, 0] or len(values) != 3 or values[:2] != [-1, -1] or values[2] <= 0:
                continue
            if self.node in graph.ancestors(name, stop=self.environment_ops):
                return int(values[2])
        found = self.section.get("axis_neuron", self.model_section.get("axis_neuron"))
        if found is None:
            raise ModelFileError(
                "axis_neuron is not to be found in the graph; give --input input.json"
            )
        return int(found)


def suffix_of(graph: Graph, environment: str) -> str:
    """What the names of a descriptor's scopes end in, by its environment operation."""
    davg = graph.behind_identities(graph.input_of(environment, _DAVG))
    found = re.match(r"descrpt_attr((_\d+)*)/", davg)
    return found[1] if found else ""


def pieces(graph: Graph, section: dict[str, Any]) -> list[Piece]:
    """The descriptors of a graph, in their order."""
    nodes = [name for op in ENVIRONMENT_OPS for name in graph.named_by_op(op)]
    found = {suffix_of(graph, node): node for node in nodes}
    if len(found) < len(nodes):
        raise ModelFileError("the descriptors of this graph have name scopes in common")
    places = {suffix: tuple(map(int, suffix.split("_")[1:])) for suffix in found}
    return [
        Piece(graph, found[suffix], _section_of(section, places[suffix]), section)
        for suffix in sorted(found, key=places.__getitem__)
    ]


def _section_of(section: dict[str, Any], place: tuple[int, ...]) -> dict[str, Any]:
    """What the script says of a descriptor; hybrids list their members."""
    found = section.get("descriptor", {})
    for k in place:
        members = found.get("list", [])
        found = members[k] if k < len(members) else {}
    return found
