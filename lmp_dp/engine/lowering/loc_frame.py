"""loc_frame is a form of its own, and not lowered any further."""

from __future__ import annotations

import numpy as np

from lmp_dp.engine.forms import LocalFrame
from lmp_dp.engine.lowering.moment import selection_of
from lmp_dp.engine.lowering.registry import Lowered, lowers
from lmp_dp.model.descriptors.loc_frame import LocFrame


@lowers(LocFrame)
def lower_loc_frame(descriptor: LocFrame, t: int, weight_do: np.ndarray) -> Lowered:
    """Features of centres of element `t`."""
    form = LocalFrame(selection_of(descriptor.environment, t), descriptor, t)
    return Lowered((form,), weight_do.astype(np.float64))
