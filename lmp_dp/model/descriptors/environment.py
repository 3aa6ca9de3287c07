"""The environment matrix, which the descriptors of DeePMD-kit share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from lmp_dp.errors import ModelFileError
from lmp_dp.model import bounds
from lmp_dp.model.arrays import Flags, Floats, Integers

#: Which family's rules hold where DeePMD-kit's backends differ:
#:
#: ========================  ===============================  ===============================
#: where                     TF                               DP (NumPy, PyTorch, JAX, Paddle)
#: ========================  ===============================  ===============================
#: rcut, rcut_smth           float32, as their difference     float64
#: r <= rcut, sorting by r   r^2 in float32                   float64
#: `sel` is too small        nearest `sel` of each element    nearest sum(sel) of all first
#: excluded pairs            have no slots; in one block of   have slots, of rows that are 0
#:                           several elements as in DP
#: ========================  ===============================  ===============================
Rules = Literal["TF", "DP"]


@dataclass(frozen=True)
class Environment:
    """Which neighbours a centre sees, and how their rows (s, s x/r, s y/r, s z/r) are normalised.

    Attributes
    ----------
    rules : {"TF", "DP"}
        The family of backends that the model comes from.
    rcut, rcut_smth : float
        Cutoff and start of the switching function (Å). The TF family holds both as float32.
    sel_t : (n_types,) or (1,) int64 array
        Neighbour slots per neighbour element, or of all elements together (`one_block`); the
        nearest are kept.
    n_norm : int
        N that sums over neighbours are divided by: the sum of ``sel`` at training.
    davg_tk, dstd_tk : (n_types, 4) float64 arrays
        Mean and standard deviation of a row around a centre of element t; an empty slot is the row
        -davg/dstd, not zero.
    excluded_tt : (n_types, n_types) bool array
        [centre, neighbour] elements that do not see each other (``exclude_types``).
    protection : float
        Added to r where rows divide by it (``env_protection``, Å).
    unseen_tt : (n_types, n_types) bool array or None
        Pairs that are taken out once slots are filled (``pair_exclude_types`` of the model), in
        either family: their slots are empty ones.
    n_nearest : int or None
        How many of all elements, the nearest, fill slots at all, in the DP family; None for as many
        as there are slots. Members of a hybrid share one list (`Hybrid.parts`).
    reach : float or None
        Up to where neighbours take slots (Å), as the longest member of such a hybrid has it; None
        for rcut. Rows beyond rcut are zero before they are normalised.
    """

    rules: Rules
    rcut: float
    rcut_smth: float
    sel_t: Integers
    n_norm: int
    davg_tk: Floats
    dstd_tk: Floats
    excluded_tt: Flags
    protection: float = 0.0
    unseen_tt: Flags | None = None
    n_nearest: int | None = None
    reach: float | None = None

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
        if self.rules == "TF" and not np.float32(self.rcut_smth) < np.float32(self.rcut):
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
        for name, pairs_tt in (("excluded", self.excluded_tt), ("unseen", self.unseen_tt)):
            if pairs_tt is None:
                continue
            if pairs_tt.shape != (n_types, n_types) or pairs_tt.dtype != bool:
                raise ModelFileError(
                    f"{name} pairs have shape {pairs_tt.shape} and type {pairs_tt.dtype}, expected "
                    f"bools of shape ({n_types}, {n_types})"
                )
        bounds.check_number("env_protection", self.protection, 0.0, self.rcut)

    def _check_slots(self) -> None:
        if self.sel_t.ndim != 1 or self.sel_t.dtype.kind != "i":
            raise ModelFileError(
                f"sel has {self.sel_t.ndim} axes and type {self.sel_t.dtype}, expected one of ints"
            )
        if len(self.sel_t) not in (1, self.n_types):
            raise ModelFileError(
                f"sel has {len(self.sel_t)} numbers, expected 1 or one for each of {self.n_types} "
                "elements"
            )
        for t, sel in enumerate(self.sel_t.tolist()):
            bounds.check_number(f"sel of element {t}", sel, 0, bounds.MAX_SLOTS)
        bounds.check_number("the sum of sel", int(self.sel_t.sum()), 1, bounds.MAX_SLOTS)
        bounds.check_number("n_norm", self.n_norm, 1, bounds.MAX_SLOTS)
        if self.n_nearest is not None:
            bounds.check_number("n_nearest", self.n_nearest, self.n_slots, bounds.MAX_SLOTS)
        if self.reach is not None:
            bounds.check_number("reach", self.reach, self.rcut, bounds.MAX_RCUT)

    @property
    def n_types(self) -> int:
        """Number of elements."""
        return len(self.davg_tk)

    @property
    def one_block(self) -> bool:
        """Whether all elements share their slots (of one element that makes no difference)."""
        return len(self.sel_t) == 1

    @property
    def n_slots(self) -> int:
        """Slots of one centre."""
        return int(self.sel_t.sum())

    @property
    def switch_width(self) -> float:
        """rcut - rcut_smth as the family subtracts them (Å): TF in float32."""
        if self.rules == "TF":
            return float(np.float32(self.rcut) - np.float32(self.rcut_smth))
        return self.rcut - self.rcut_smth

    @property
    def n_candidates(self) -> int:
        """How many neighbours of all elements, the nearest, are chosen before those of each; 0 for
        all."""
        if self.one_block and self.n_types > 1:
            return self.n_slots  # there are no fewer in a list that is shared (`n_nearest`)
        return 0 if self.rules == "TF" else self.n_nearest or self.n_slots

    @property
    def excluded_take_slots(self) -> bool:
        """Whether neighbours that a centre does not see take slots, of rows that are 0."""
        return self.rules == "DP" or self.one_block
