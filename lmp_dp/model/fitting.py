"""Fitting nets: from a descriptor to the energy of an atom."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from lmp_dp.errors import ModelFileError
from lmp_dp.model import bounds
from lmp_dp.model.arrays import Flags, Floats
from lmp_dp.model.network import Network


@dataclass(frozen=True)
class Fitting:
    """Per-element fitting nets: E_i = net_t(D_i, p_i) [- net_t(0, p_i)] + bias_atom_e_t.

    The parameters p_i, which most models do not have, are those of the frame and then those of the
    atom (``fparam``, ``aparam``; an electronic temperature, say), each as (value - avg) * istd.

    Attributes
    ----------
    nets : tuple of Network
        One per element; they take D and p, the last layer is linear with one output (eV).
    bias_atom_e_t : (n_types,) float64 array
        Energy per atom that is added after the net (eV).
    subtract_vacuum_t : (n_types,) bool array
        True where the net's value at D = 0 is subtracted (``atom_ener`` was given at training).
    fparam_avg_f, fparam_istd_f, aparam_avg_f, aparam_istd_f : (n,) float64 arrays
        Mean and inverse standard deviation of each parameter; empty without parameters.
    """

    nets: tuple[Network, ...]
    bias_atom_e_t: Floats
    subtract_vacuum_t: Flags
    fparam_avg_f: Floats = field(default_factory=lambda: np.empty(0))
    fparam_istd_f: Floats = field(default_factory=lambda: np.empty(0))
    aparam_avg_f: Floats = field(default_factory=lambda: np.empty(0))
    aparam_istd_f: Floats = field(default_factory=lambda: np.empty(0))

    def __post_init__(self) -> None:
        n_types = len(self.nets)
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
