"""se_e2_r, the smooth-edition descriptor of distances alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from lmp_dp.model.descriptors.environment import Environment
from lmp_dp.model.descriptors.of_nets import OfNets
from lmp_dp.model.descriptors.registry import register
from lmp_dp.model.pair_nets import PairNets

#: DeePMD-kit multiplies the mean of G by it, in all backends.
SCALE = 1.0 / 5.0


@register
@dataclass(frozen=True)
class SeE2R(OfNets):
    """D_m = (1/5) (1/N) sum_j G_m(s_j), over all slots (Zhang et al., NeurIPS 2018).

    Attributes
    ----------
    environment : Environment
        s and N; of davg and dstd only the first component is used.
    nets : PairNets
        G of each pair of elements.
    """

    kind: ClassVar[str] = "se_e2_r"

    environment: Environment
    nets: PairNets

    def __post_init__(self) -> None:
        self.nets.check_padding()

    def describe(self) -> dict[str, Any]:
        """What ``lmp-dp info`` says of it."""
        return {**self.nets.describe(), "type_one_side": self.nets.shared_between_centres}
