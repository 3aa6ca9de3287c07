"""se_e2_a is a Moment of its embedding nets."""

from __future__ import annotations

import numpy as np

from lmp_dp.engine.lowering.moment import lower_moment
from lmp_dp.engine.lowering.registry import Lowered, lowers
from lmp_dp.model.descriptors.se_e2_a import SeE2A


@lowers(SeE2A)
def lower_se_e2_a(descriptor: SeE2A, t: int, weight_do: np.ndarray) -> Lowered:
    """Features of centres of element `t`."""
    return lower_moment(
        descriptor.environment, descriptor.nets, t, descriptor.axis_neuron, weight_do
    )
