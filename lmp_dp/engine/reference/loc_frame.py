"""The loc_frame descriptor (`lmp_dp.engine.local_frame`)."""

from __future__ import annotations

from lmp_dp.engine import local_frame
from lmp_dp.engine.namespace import namespace_of
from lmp_dp.engine.neighbourhood import Array
from lmp_dp.engine.reference.registry import Evaluated, Rows, evaluates
from lmp_dp.model.descriptors.loc_frame import LocFrame


@evaluates(LocFrame)
def evaluate(descriptor: LocFrame, centre: int, rows: Rows) -> Evaluated:
    """D of centres of element `centre`; rows do not enter, displacements do."""
    xp = namespace_of(rows.r_nsc)
    d_nd, of_displacements = local_frame.evaluate(descriptor, centre, rows.r_nsc, rows.filled_ns)

    def backward(dd_nd: Array) -> tuple[Array, Array]:
        return xp.zeros_like(rows.normalised_nsk), of_displacements(dd_nd)

    return Evaluated(d_nd, backward, 0)
