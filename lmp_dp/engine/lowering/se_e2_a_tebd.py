"""se_e2_a with type embedding is a Moment of nets that are told the elements."""

from __future__ import annotations

import numpy as np

from lmp_dp.engine.lowering.moment import lower_moment
from lmp_dp.engine.lowering.registry import Lowered, lowers
from lmp_dp.engine.lowering.typed_nets import lower_typed, told_pairs
from lmp_dp.model.descriptors.se_e2_a_tebd import SeE2ATebd


@lowers(SeE2ATebd)
def lower_se_e2_a_tebd(descriptor: SeE2ATebd, t: int, weight_do: np.ndarray) -> Lowered:
    """Features of centres of element `t`."""
    environment, nets, axis = descriptor.environment, descriptor.nets, descriptor.axis_neuron
    neighbours = np.flatnonzero((environment.sel_t > 0) & ~environment.excluded_tt[t]).tolist()
    if not nets.gated:
        pairs = told_pairs(nets, t, neighbours)
        return lower_moment(environment, pairs, t, axis, weight_do)
    # an empty slot of any element is told that there is none
    empty = [(j, environment.n_types) for j in neighbours]
    return lower_typed(environment, nets, t, axis, weight_do, empty)
