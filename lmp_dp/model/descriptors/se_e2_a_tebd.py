"""se_e2_a whose one embedding net is told the elements (``type_embedding`` of the TF family)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from lmp_dp.errors import ModelFileError
from lmp_dp.model import bounds
from lmp_dp.model.descriptors.environment import Environment
from lmp_dp.model.descriptors.of_nets import QuadraticOfNets
from lmp_dp.model.descriptors.registry import register
from lmp_dp.model.typed_nets import TypedNets, check_type_embedding


@register
@dataclass(frozen=True)
class SeE2ATebd(QuadraticOfNets):
    """D_mx = sum_k T_km T_kx, T = Rᵀ G / N, as se_e2_a (Zhang et al., NeurIPS 2018).

    Attributes
    ----------
    environment : Environment
        R and N; slots per element. An empty slot is of its element, but for a gate it is of none.
    nets : TypedNets
        G.
    axis_neuron : int
        x < axis_neuron.
    """

    kind: ClassVar[str] = "se_e2_a_tebd"

    environment: Environment
    nets: TypedNets
    axis_neuron: int

    def __post_init__(self) -> None:
        if self.environment.rules != "TF" or self.nets.smooth:
            raise ModelFileError("se_e2_a with type embedding is of the TF family, and not smooth")
        check_type_embedding(self.environment, self.nets)
        bounds.check_number("axis_neuron", self.axis_neuron, 1, self.n_channels)

    def describe(self) -> dict[str, Any]:
        """What ``lmp-dp info`` says of it."""
        return {**self.nets.describe(), "axis_neuron": self.axis_neuron}
