"""One embedding net for all pairs of elements, which is told them by their type embedding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lmp_dp.errors import ModelFileError
from lmp_dp.model import bounds
from lmp_dp.model.arrays import Floats, Parameters
from lmp_dp.model.descriptors.environment import Environment
from lmp_dp.model.network import Network
from lmp_dp.model.table import Table, describe_tables


@dataclass(frozen=True)
class TypedNets:
    """G of neighbour j of centre i, of elements with type embeddings te_j and te_i.

    ========  ===========================================  ==========================
    input     G                                            ``tebd_input_mode``
    ========  ===========================================  ==========================
    without   net(s, te_j, te_i)                           concat
    gate
    with      net(s) (1 + gate(te_j, te_i) [sw])           strip; with the switching
    gate                                                   function where `smooth`
    ========  ===========================================  ==========================

    Attributes
    ----------
    embedding : Network or None
        None where a compressed model keeps only its table.
    gate : Network or None
    type_to : (n_types + 1, Y) array
        te of each element, in the net's precision; behind them, of the TF family, that of an empty
        slot which is of no element.
    one_side : bool
        te_i is left out.
    smooth : bool
        Whether the gate closes at the cutoff (``smooth_type_embedding``).
    tables : tuple of Table
        Of a compressed model with a gate: its tabulated net, a single one.
    padding_tm : (n_types, M) float64 array or None
        Of a compressed model, net(-davg/dstd) around centres of each element: what empty slots
        embed to before the gate.
    gate_ttm : (n_types, n_types + 1, M) array or None
        The gate's values in place of a net, [centre, row of `type_to`].
    """

    embedding: Network | None
    gate: Network | None
    type_to: Parameters
    one_side: bool
    smooth: bool
    tables: tuple[Table, ...] = ()
    padding_tm: Floats | None = None
    gate_ttm: Parameters | None = None

    def __post_init__(self) -> None:
        n_rows, width = self.type_to.shape
        bounds.check("type embedding", self.type_to, (n_rows, width))
        if self.smooth and not self.gated:
            raise ModelFileError("there is no gate that could close at the cutoff")
        if self.gate and self.gate_ttm is not None:
            raise ModelFileError("found a gate and a gate's values, expected one of them")
        self._check_nets(width)
        self._check_tables(n_rows)
        parameters = (self.type_to, self.gate, self.gate_ttm)
        if any(of is not None and of.dtype != self.dtype for of in parameters):
            raise ModelFileError("type embedding, embedding net and gate differ in precision")

    def _check_nets(self, width: int) -> None:
        n_told = width if self.one_side else 2 * width
        expected = 1 if self.gated else 1 + n_told
        if self.embedding and self.embedding.n_in != expected:
            raise ModelFileError(
                f"the embedding net takes {self.embedding.n_in} values, expected {expected}"
            )
        if self.gate and (self.gate.n_in, self.gate.n_out) != (n_told, self.n_channels):
            raise ModelFileError(
                f"the gate is a net {self.gate.n_in} -> {self.gate.n_out}, expected "
                f"{n_told} -> {self.n_channels}"
            )

    def _check_tables(self, n_rows: int) -> None:
        if len(self.tables) > self.gated or not (self.embedding or self.tables):
            raise ModelFileError(
                f"found {len(self.tables)} tables, expected one in place of a net with a gate, or "
                "none"
            )
        of_table = self.tables[0] if self.tables else None
        if of_table and (of_table.n_channels, of_table.dtype) != (self.n_channels, self.dtype):
            raise ModelFileError(
                f"the table gives {of_table.n_channels} channels in {of_table.dtype}; expected "
                f"{self.n_channels} in {self.dtype}"
            )
        if self.gate_ttm is not None:
            bounds.check("gate", self.gate_ttm, (n_rows - 1, n_rows, self.n_channels))
        if of_table:
            shape = (n_rows - 1, self.n_channels)
            if self.padding_tm is None:
                raise ModelFileError(f"a compressed model needs padding of shape {shape}")
            bounds.check("padding", self.padding_tm, shape, bounds.MAX_VALUE)

    @property
    def gated(self) -> bool:
        """Whether there is a gate (``tebd_input_mode`` = strip)."""
        return bool(self.gate) or self.gate_ttm is not None

    @property
    def _embeds(self) -> Network | Table:
        return self.embedding or self.tables[0]

    @property
    def n_channels(self) -> int:
        """M: the width of the embedding net's last layer."""
        return self._embeds.n_channels

    @property
    def dtype(self) -> np.dtype:
        """Precision in which the nets are evaluated."""
        return self._embeds.dtype

    def describe(self) -> dict[str, Any]:
        """What ``lmp-dp info`` says of them."""
        nets = [self.embedding] if self.embedding else []
        return {
            "embedding_net": [list(net.widths) for net in nets],
            "embedding_activation": [net.layers[0].activation for net in nets],
            "type_embedding": self.type_to.shape[1],
            "type_embedding_enters": "strip" if self.gated else "concat",
            "type_one_side": self.one_side,
            "tables": describe_tables(self.tables),
        }


def check_type_embedding(environment: Environment, nets: TypedNets) -> None:
    """Refuse nets that are told of another number of elements than the environment has."""
    if len(nets.type_to) != environment.n_types + 1:
        raise ModelFileError(
            f"type embeddings are of {len(nets.type_to) - 1} elements and of no element, expected "
            f"{environment.n_types}"
        )
