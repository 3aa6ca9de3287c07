"""Embedding nets of pairs of elements, or their tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lmp_dp.errors import ModelFileError
from lmp_dp.model import bounds
from lmp_dp.model.arrays import Floats, Integers
from lmp_dp.model.network import Network
from lmp_dp.model.table import Table, describe_tables


@dataclass(frozen=True)
class PairNets:
    """One net of one input per pair of elements; pairs may share a net.

    Attributes
    ----------
    net_tt : (n_types, n_types) int64 array
        [centre, neighbour], or two neighbours -> index of the pair's net in `embeddings` and
        `tables`; -1 where there is none.
    embeddings : tuple of Network
        The distinct embedding nets. Empty where a compressed model keeps only its tables.
    tables : tuple of Table
        The tabulated nets of a compressed model, in the same order; empty if not compressed.
    padding_ttm : (n_types, n_types, M) float64 array or None
        Of a compressed model whose nets take s, G(-davg/dstd) of the nets themselves, [centre,
        neighbour]: what empty slots embed to.
    """

    net_tt: Integers
    embeddings: tuple[Network, ...]
    tables: tuple[Table, ...] = ()
    padding_ttm: Floats | None = None

    def __post_init__(self) -> None:
        n_types, n_nets = len(self.net_tt), len(self.embeddings or self.tables)
        if n_nets == 0:
            raise ModelFileError("the descriptor has neither embedding nets nor tables")
        if self.tables and len(self.tables) != n_nets:
            raise ModelFileError(f"{n_nets} embedding nets, but {len(self.tables)} tables")
        if self.net_tt.shape != (n_types, n_types) or self.net_tt.dtype.kind != "i":
            raise ModelFileError(
                f"net_tt has shape {self.net_tt.shape} and type {self.net_tt.dtype}, expected "
                f"integers of shape ({n_types}, {n_types})"
            )
        used = np.unique(self.net_tt[self.net_tt != -1])
        if not np.array_equal(used, np.arange(n_nets)):
            raise ModelFileError(
                f"net_tt must name each of {n_nets} embedding nets or be -1, found {len(used)} "
                f"numbers from {used.min(initial=0)} to {used.max(initial=0)}"
            )
        nets: dict[str, Network | Table] = {
            **{f"embedding net {n}": net for n, net in enumerate(self.embeddings)},
            **{f"table {n}": table for n, table in enumerate(self.tables)},
        }
        for name, net in nets.items():
            if net.n_channels != self.n_channels or net.dtype != self.dtype:
                raise ModelFileError(
                    f"{name} gives {net.n_channels} channels in {net.dtype}; "
                    f"expected {self.n_channels} in {self.dtype}"
                )
            if isinstance(net, Network) and net.n_in != 1:
                raise ModelFileError(f"{name} takes {net.n_in} values, expected 1")
        if self.padding_ttm is not None:
            shape = (n_types, n_types, self.n_channels)
            bounds.check("padding", self.padding_ttm, shape, bounds.MAX_VALUE)

    def check_padding(self) -> None:
        """Raise a ModelFileError unless it is known what empty slots of a compressed model add."""
        if self.tables and self.padding_ttm is None:
            n_types = len(self.net_tt)
            shape = (n_types, n_types, self.n_channels)
            raise ModelFileError(f"a compressed model needs padding of shape {shape}")

    def padding_of(self, centre: int) -> np.ndarray:
        """What empty slots of a compressed model embed to, (n_types, M)."""
        assert self.padding_ttm is not None
        return self.padding_ttm[centre]

    @property
    def shared_between_centres(self) -> bool:
        """Whether centres share nets, and a neighbour's net is the same for all of them."""
        seen = np.array([(self.net_tt == n).any(axis=0) for n in range(self.net_tt.max() + 1)])
        shared = len(seen) < (self.net_tt >= 0).sum()
        return bool(shared and (seen.sum(axis=0) <= 1).all())

    @property
    def n_channels(self) -> int:
        """M: the width of the embedding nets' last layer."""
        return (self.embeddings or self.tables)[0].n_channels

    @property
    def dtype(self) -> np.dtype:
        """Precision in which the nets are evaluated."""
        return (self.embeddings or self.tables)[0].dtype

    def describe(self) -> dict[str, Any]:
        """What ``lmp-dp info`` says of them."""
        return {
            "embedding_net": [list(x) for x in sorted({net.widths for net in self.embeddings})],
            "embedding_activation": sorted({net.layers[0].activation for net in self.embeddings}),
            "tables": describe_tables(self.tables),
        }
