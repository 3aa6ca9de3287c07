"""Fitting nets: from a descriptor to the energy of an atom."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from lmp_dp.errors import ModelFileError
from lmp_dp.model import bounds
from lmp_dp.model.arrays import Flags, Floats, Parameters
from lmp_dp.model.network import Network


@dataclass(frozen=True)
class Fitting:
    """Fitting nets: E_i = net_t(D_i, te_t, p_i) [- net_t(0, te_t, p_i)] + bias_atom_e_t.

    Most models have a net for each element. Others have one for all, which is told the centre's
    element by numbers te_t (type embedding).

    The parameters p_i, which most models do not have, are those of the frame and then those of the
    atom (``fparam``, ``aparam``; an electronic temperature, say), each as (value - avg) * istd.

    Attributes
    ----------
    nets : tuple of Network
        One per element, or one for all; they take D, te and p, the last layer is linear with one
        output (eV).
    bias_atom_e_t : (n_types,) float64 array
        Energy per atom that is added after the net (eV).
    subtract_vacuum_t : (n_types,) bool array
        True where the net's value at D = 0 is subtracted (``atom_ener`` was given at training).
    fparam_avg_f, fparam_istd_f, aparam_avg_f, aparam_istd_f : (n,) float64 arrays
        Mean and inverse standard deviation of each parameter; empty without parameters.
    type_to : (n_types, Y) array or None
        te, in the nets' precision.
    vacuum_is_typed : bool
        Whether te stays what it is where the net's value at D = 0 is taken; else it is 0 there.
    silent_t : (n_types,) bool array or None
        Elements whose atoms have no energy, but are seen by others (``atom_exclude_types``).
    """

    nets: tuple[Network, ...]
    bias_atom_e_t: Floats
    subtract_vacuum_t: Flags
    fparam_avg_f: Floats = field(default_factory=lambda: np.empty(0))
    fparam_istd_f: Floats = field(default_factory=lambda: np.empty(0))
    aparam_avg_f: Floats = field(default_factory=lambda: np.empty(0))
    aparam_istd_f: Floats = field(default_factory=lambda: np.empty(0))
    type_to: Parameters | None = None
    vacuum_is_typed: bool = True
    silent_t: Flags | None = None

    def __post_init__(self) -> None:
        n_types = self.n_types
        if len(self.nets) not in (1, n_types):
            raise ModelFileError(
                f"found {len(self.nets)} fitting nets, expected 1 or one for each of {n_types} "
                "elements"
            )
        if self.type_to is not None:
            if self.type_to.dtype != self.dtype:
                raise ModelFileError("type embedding and fitting nets differ in precision")
            bounds.check("type embedding", self.type_to, (n_types, self.n_told))
        if self.silent_t is not None and (
            self.silent_t.shape != (n_types,) or self.silent_t.dtype != bool
        ):
            raise ModelFileError(f"silent elements must be bools of shape ({n_types},)")
        bounds.check("bias_atom_e", self.bias_atom_e_t, (n_types,))
        if self.subtract_vacuum_t.shape != (n_types,) or self.subtract_vacuum_t.dtype != bool:
            raise ModelFileError(f"subtract_vacuum must be bools of shape ({n_types},)")
        for t, net in enumerate(self.nets):
            if net.n_out != 1:
                raise ModelFileError(f"fitting net {t} gives {net.n_out} values, expected 1")
            if net.dtype != self.nets[0].dtype:
                raise ModelFileError("the fitting nets differ in precision")
        for name in ("fparam", "aparam"):
            avg_f, istd_f = getattr(self, f"{name}_avg_f"), getattr(self, f"{name}_istd_f")
            usable = (abs(avg_f) <= bounds.MAX_VALUE).all() and (istd_f <= bounds.MAX_VALUE).all()
            if avg_f.shape != istd_f.shape or not usable or not (istd_f > 0.0).all():
                raise ModelFileError(
                    f"avg and istd of {name} must be finite and equally many, istd above 0; found "
                    f"{avg_f[:4].tolist()} and {istd_f[:4].tolist()}"
                )

    def net(self, t: int) -> Network:
        """The net for centres of element `t`."""
        return self.nets[t if len(self.nets) > 1 else 0]

    def is_silent(self, t: int) -> bool:
        """Whether atoms of element `t` have no energy."""
        return self.silent_t is not None and bool(self.silent_t[t])

    @property
    def n_types(self) -> int:
        """Number of elements."""
        return len(self.bias_atom_e_t)

    @property
    def n_told(self) -> int:
        """Y: numbers by which the net is told the centre's element."""
        return 0 if self.type_to is None else self.type_to.shape[-1]

    @property
    def n_fparam(self) -> int:
        """Number of parameters of a frame that the nets take."""
        return len(self.fparam_avg_f)

    @property
    def n_aparam(self) -> int:
        """Number of parameters of each atom that the nets take."""
        return len(self.aparam_avg_f)

    @property
    def dtype(self) -> np.dtype:
        """Precision in which the fitting nets are evaluated."""
        return self.nets[0].dtype
