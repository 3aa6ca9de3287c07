"""se_e2_a, the smooth-edition descriptor of radial and angular information."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from lmp_dp.errors import ModelFileError
from lmp_dp.model import bounds
from lmp_dp.model.descriptors.environment import Environment
from lmp_dp.model.descriptors.of_nets import QuadraticOfNets
from lmp_dp.model.descriptors.registry import register
from lmp_dp.model.pair_nets import PairNets


@register
@dataclass(frozen=True)
class SeE2A(QuadraticOfNets):
    """D_mx = sum_k T_km T_kx, T = Rᵀ G / N (Zhang et al., NeurIPS 2018).

    Attributes
    ----------
    environment : Environment
        R and N.
    nets : PairNets
        G of each pair of elements. In the TF family a pair that does not see each other has none;
        in the DP family empty slots of it enter all the same.
    axis_neuron : int
        x < axis_neuron.
    """

    kind: ClassVar[str] = "se_e2_a"

    environment: Environment
    nets: PairNets
    axis_neuron: int

    def __post_init__(self) -> None:
        none_tt = self.environment.excluded_tt & (self.environment.rules == "TF")
        if not np.array_equal(self.nets.net_tt < 0, none_tt):
            raise ModelFileError(
                "each pair of elements needs an embedding net, or is excluded in the TF family: "
                f"net_tt has none for {(self.nets.net_tt < 0).tolist()}, expected "
                f"{none_tt.tolist()}"
            )
        self.nets.check_padding()
        bounds.check_number("axis_neuron", self.axis_neuron, 1, self.n_channels)

    def describe(self) -> dict[str, Any]:
        """What ``lmp-dp info`` says of it."""
        return {
            **self.nets.describe(),
            "axis_neuron": self.axis_neuron,
            "type_one_side": self.nets.shared_between_centres,
        }
