"""se_atten is a Moment of nets that are told the elements, or an Attention if it has layers."""

from __future__ import annotations

import numpy as np

from lmp_dp.engine.forms import ALL
from lmp_dp.engine.lowering.attention import lower_attention
from lmp_dp.engine.lowering.registry import Lowered, lowers
from lmp_dp.engine.lowering.typed_nets import lower_typed
from lmp_dp.model.descriptors.se_atten import SeAtten


@lowers(SeAtten)
def lower_se_atten(descriptor: SeAtten, t: int, weight_do: np.ndarray) -> Lowered:
    """Features of centres of element `t`."""
    if descriptor.attention is not None:
        return lower_attention(descriptor, t, weight_do)
    of_tf = descriptor.environment.rules == "TF"
    return lower_typed(
        descriptor.environment,
        descriptor.nets,
        t,
        descriptor.axis_neuron,
        weight_do,
        # what empty slots are told in the DP family matters only where there is one element
        [(ALL, descriptor.environment.n_types if of_tf else 0)],
        descriptor.fade_radius,
    )
