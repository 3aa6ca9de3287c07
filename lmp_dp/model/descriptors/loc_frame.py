"""loc_frame, DeePMD-kit's first descriptor: neighbours in a frame of the centre's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from lmp_dp.errors import ModelFileError
from lmp_dp.model import bounds
from lmp_dp.model.arrays import Floats, Integers
from lmp_dp.model.descriptors.environment import Environment
from lmp_dp.model.descriptors.registry import register


@register
@dataclass(frozen=True)
class LocFrame:
    """1/r and direction/r of the nearest neighbours, 1/r of others (Zhang et al., PRL 120, 143001).

    D lists the neighbours one by one, so that it jumps where they change places or leave.

    Attributes
    ----------
    environment : Environment
        Cutoff and slots; its statistics and switching function are not used.
    angular_t : (n_types,) int64 array
        How many slots of each element are angular, the first ones; the others are radial.
    axes_tuu : (n_types, 2, 3) int64 array
        By centre, of two axes: 0 for an angular neighbour, 1 for a radial one; its element, or
        -(e + 1) for any but e (-e of radial ones); and its place among these.
    davg_td, dstd_td : (n_types, n_out) float64 arrays
        Mean and standard deviation of D.
    """

    kind: ClassVar[str] = "loc_frame"

    environment: Environment
    angular_t: Integers
    axes_tuu: Integers
    davg_td: Floats
    dstd_td: Floats

    def __post_init__(self) -> None:
        n_types, sel_t = self.environment.n_types, self.environment.sel_t
        if (
            self.angular_t.shape != sel_t.shape
            or not ((self.angular_t >= 0) & (self.angular_t <= sel_t)).all()
        ):
            raise ModelFileError(
                f"found angular slots {self.angular_t.tolist()}, expected 0 to {sel_t.tolist()}"
            )
        if self.axes_tuu.shape != (n_types, 2, 3):
            raise ModelFileError(
                f"axes have shape {self.axes_tuu.shape}, expected ({n_types}, 2, 3)"
            )
        for t in range(n_types):
            for kind, element, place in self.axes_tuu[t].tolist():
                bounds.check_number("kind of an axis", kind, 0, 1)
                bounds.check_number("element of an axis", element, -bounds.MAX_TYPES, n_types - 1)
                bounds.check_number("place of an axis", place, 0, int(sel_t.sum()) - 1)
        bounds.check("davg", self.davg_td, (n_types, self.n_out), bounds.MAX_MEAN)
        bounds.check("dstd", self.dstd_td, (n_types, self.n_out), bounds.MAX_DEVIATION)
        if not (self.dstd_td >= bounds.MIN_DEVIATION).all():
            raise ModelFileError(
                f"dstd holds {float(self.dstd_td.min())}, expected at least "
                f"{bounds.MIN_DEVIATION:g}"
            )

    @property
    def parts(self) -> tuple[LocFrame, ...]:
        """Itself."""
        return (self,)

    @property
    def n_channels(self) -> int:
        """Numbers of an angular neighbour."""
        return 4

    @property
    def dtype(self) -> np.dtype:
        """Precision of evaluation."""
        return np.dtype("float64")

    @property
    def n_out(self) -> int:
        """Length of the descriptor of one atom."""
        n_angular = int(self.angular_t.sum())
        return 4 * n_angular + self.environment.n_slots - n_angular

    def describe(self) -> dict[str, Any]:
        """What ``lmp-dp info`` says of it."""
        return {"angular_neighbours": self.angular_t.tolist(), "axes": self.axes_tuu.tolist()}
