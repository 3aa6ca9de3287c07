"""The environment matrix, which the descriptors of DeePMD-kit share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from lmp_dp.errors import ModelFileError
from lmp_dp.model import bounds
from lmp_dp.model.arrays import Flags, Floats, Integers

#: Which family's rules hold where DeePMD-kit's backends differ (float32 cutoffs, the padding of
#: excluded pairs, the order of neighbours when `sel` is too small, ...).
Rules = Literal["TF"]


@dataclass(frozen=True)
class Environment:
    """Which neighbours a centre sees, and how their rows (s, s x/r, s y/r, s z/r) are normalised.

    Attributes
    ----------
    rules : {"TF"}
        The family of backends that the model comes from.
    rcut, rcut_smth : float
        Cutoff and start of the switching function (Å). DeePMD-kit holds both as float32.
    sel_t : (n_types,) int64 array
        Neighbour slots per neighbour element; the nearest are kept.
    n_norm : int
        N that sums over neighbours are divided by: the sum of ``sel`` at training.
    davg_tk, dstd_tk : (n_types, 4) float64 arrays
        Mean and standard deviation of a row around a centre of element t; an empty slot is the row
        -davg/dstd, not zero.
    excluded_tt : (n_types, n_types) bool array
        [centre, neighbour] elements that do not see each other (``exclude_types``).
    """

    rules: Rules
    rcut: float
    rcut_smth: float
    sel_t: Integers
    n_norm: int
    davg_tk: Floats
    dstd_tk: Floats
    excluded_tt: Flags

    def __post_init__(self) -> None:
        if self.rules not in get_args(Rules):
            raise ModelFileError(
                f"rules are '{self.rules}', expected {' or '.join(get_args(Rules))}"
            )
        if not 0.0 <= self.rcut_smth < self.rcut:
            raise ModelFileError(
                f"need 0 <= rcut_smth < rcut, found {self.rcut_smth} and {self.rcut}"
            )
        bounds.check_number("rcut", self.rcut, bounds.MIN_RCUT, bounds.MAX_RCUT)
        if not np.float32(self.rcut_smth) < np.float32(self.rcut):
            raise ModelFileError(
                f"rcut_smth {self.rcut_smth} and rcut {self.rcut} are the same in float32"
            )
        self._check_slots()
        n_types = self.n_types
        bounds.check("davg", self.davg_tk, (n_types, 4), bounds.MAX_MEAN)
        bounds.check("dstd", self.dstd_tk, (n_types, 4), bounds.MAX_DEVIATION)
        if not (self.dstd_tk >= bounds.MIN_DEVIATION).all():
            raise ModelFileError(
                f"dstd holds {float(self.dstd_tk.min())}, expected at least "
                f"{bounds.MIN_DEVIATION:g}"
            )
        if self.excluded_tt.shape != (n_types, n_types) or self.excluded_tt.dtype != bool:
            raise ModelFileError(
                f"excluded pairs have shape {self.excluded_tt.shape} and type "
                f"{self.excluded_tt.dtype}, expected bools of shape ({n_types}, {n_types})"
            )

    def _check_slots(self) -> None:
        if self.sel_t.ndim != 1 or self.sel_t.dtype.kind != "i":
            raise ModelFileError(
                f"sel has {self.sel_t.ndim} axes and type {self.sel_t.dtype}, expected one of ints"
            )
        for t, sel in enumerate(self.sel_t.tolist()):
            bounds.check_number(f"sel of element {t}", sel, 0, bounds.MAX_SLOTS)
        bounds.check_number("the sum of sel", int(self.sel_t.sum()), 1, bounds.MAX_SLOTS)
        bounds.check_number("n_norm", self.n_norm, 1, bounds.MAX_SLOTS)

    @property
    def n_types(self) -> int:
        """Number of elements."""
        return len(self.sel_t)
