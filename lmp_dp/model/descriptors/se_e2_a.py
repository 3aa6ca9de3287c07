"""se_e2_a, the smooth-edition descriptor of radial and angular information."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from lmp_dp.errors import ModelFileError
from lmp_dp.model import bounds
from lmp_dp.model.descriptors.environment import Environment
from lmp_dp.model.descriptors.registry import register
from lmp_dp.model.pair_nets import PairNets


@register
@dataclass(frozen=True)
class SeE2A:
    """D_mx = sum_k T_km T_kx, T = Rᵀ G / N (Zhang et al., NeurIPS 2018).

    Attributes
    ----------
    environment : Environment
        R and N.
    nets : PairNets
        G of each pair of elements; a pair that does not see each other has none.
    axis_neuron : int
        x < axis_neuron.
    """

    kind: ClassVar[str] = "se_e2_a"

    environment: Environment
    nets: PairNets
    axis_neuron: int

    def __post_init__(self) -> None:
        if not np.array_equal(self.nets.net_tt < 0, self.environment.excluded_tt):
            raise ModelFileError(
                "each pair of elements needs an embedding net or is excluded: net_tt has "
                f"{(self.nets.net_tt < 0).tolist()}, excluded are "
                f"{self.environment.excluded_tt.tolist()}"
            )
        bounds.check_number("axis_neuron", self.axis_neuron, 1, self.n_channels)

    @property
    def n_channels(self) -> int:
        """M: channels of the embedding nets."""
        return self.nets.n_channels

    @property
    def dtype(self) -> np.dtype:
        """Precision in which embedding and descriptor are evaluated."""
        return self.nets.dtype

    @property
    def n_out(self) -> int:
        """Length M * axis_neuron of the descriptor of one atom."""
        return self.n_channels * self.axis_neuron

    def describe(self) -> dict[str, Any]:
        """What ``lmp-dp info`` says of it."""
        return {
            **self.nets.describe(),
            "axis_neuron": self.axis_neuron,
            "type_one_side": self.nets.shared_between_centres,
        }
