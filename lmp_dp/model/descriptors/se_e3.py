"""se_e3, the smooth-edition descriptor of angles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from lmp_dp.errors import ModelFileError
from lmp_dp.model.descriptors.environment import Environment
from lmp_dp.model.descriptors.of_nets import OfNets
from lmp_dp.model.descriptors.registry import register
from lmp_dp.model.pair_nets import PairNets


@register
@dataclass(frozen=True)
class SeE3(OfNets):
    r"""D_m = sum_{a <= b} 1/(sel_a sel_b) sum_{j in a, k in b} e_jk G^ab_m(e_jk).

    e_jk is the product of the last three components of the normalised rows of neighbours j and k,
    of elements a and b (Zeng et al., J. Chem. Phys. 159, 054801); j = k is among them.

    Attributes
    ----------
    environment : Environment
        Rows, and slots per element. The TF family has no excluded pairs here.
    nets : PairNets
        G^ab at [a, b] and [b, a], the elements of two neighbours; the centre's makes no difference.
        -1 where two neighbours make no difference either.
    """

    kind: ClassVar[str] = "se_e3"

    environment: Environment
    nets: PairNets

    def __post_init__(self) -> None:
        if not np.array_equal(self.nets.net_tt, self.nets.net_tt.T):
            raise ModelFileError(
                f"nets of two neighbours have no order, found net_tt {self.nets.net_tt.tolist()}"
            )
        if self.environment.rules == "TF" and self.environment.excluded_tt.any():
            raise ModelFileError(
                "se_e3 of the TF family has no excluded pairs, found "
                f"{self.environment.excluded_tt.tolist()}"
            )
        if len(self.environment.sel_t) != self.environment.n_types:
            raise ModelFileError(
                f"sel is {self.environment.sel_t.tolist()}, expected a number for each of "
                f"{self.environment.n_types} elements"
            )

    def describe(self) -> dict[str, Any]:
        """What ``lmp-dp info`` says of it."""
        return self.nets.describe()
