r"""Energies of pairs that replace the nets' where atoms come close (``use_srtab``, ``zbl``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lmp_dp.errors import ModelFileError
from lmp_dp.model import bounds
from lmp_dp.model.arrays import Floats
from lmp_dp.model.descriptors.environment import Environment

#: Coefficients of a cubic polynomial.
ORDER = 4


@dataclass(frozen=True)
class PairTable:
    r"""E_i = (1 - l_i) E^net_i + l_i E^pair_i (Wang et al., Appl. Phys. Lett. 114, 244101).

        E^pair_i = 1/2 sum_j u_ij(r_ij) + bias_t
        l_i = sw(sigma_i),  sigma_i = sum_j r_ij exp(-r_ij/alpha) / sum_j exp(-r_ij/alpha)

    sw falls from 1 at `switch_start` to 0 at `switch_end` as the switching function of the
    environment does; an atom without neighbours has l = 0. u is a cubic polynomial of
    x = (r - start)/step - v on piece v, and zero behind the last one.

    Attributes
    ----------
    environment : Environment
        Which neighbours add to E^pair: cutoff and slots.
    nearness : Environment or None
        Which neighbours sigma is made of; None for the same ones.
    start, step : float
        Where the pieces of u begin, and their width (Å).
    coefficients_ttve : (n_types, n_types, n_pieces, 4) float64 array
        Of x^e in u (eV), of each pair of elements.
    alpha, switch_start, switch_end : float
        Å.
    bias_t : (n_types,) float64 array
        eV.
    """

    environment: Environment
    start: float
    step: float
    coefficients_ttve: Floats
    alpha: float
    switch_start: float
    switch_end: float
    bias_t: Floats
    nearness: Environment | None = None

    def __post_init__(self) -> None:
        n_types = self.environment.n_types
        shape = (n_types, n_types, self.coefficients_ttve.shape[2], ORDER)
        bounds.check("coefficients of pairs", self.coefficients_ttve, shape, bounds.MAX_VALUE)
        bounds.check("bias of pairs", self.bias_t, (n_types,))
        if self.nearness is not None and self.nearness.n_types != n_types:
            raise ModelFileError(
                f"sigma is of {self.nearness.n_types} elements, the pairs of {n_types}"
            )
        bounds.check_number("start of the pair table", self.start, 0.0, bounds.MAX_RCUT)
        bounds.check_number("step of the pair table", self.step, 1e-9, bounds.MAX_RCUT)
        bounds.check_number("alpha of the pair table", self.alpha, 1e-3, bounds.MAX_RCUT)
        if not 0.0 <= self.switch_start < self.switch_end <= bounds.MAX_RCUT:
            raise ModelFileError(
                "the pair table is switched off between two distances, found "
                f"{self.switch_start} and {self.switch_end}"
            )

    @property
    def n_types(self) -> int:
        """Number of elements."""
        return self.environment.n_types

    @property
    def rcut(self) -> float:
        """Cutoff (Å): the larger one, where there are two."""
        other = self.environment if self.nearness is None else self.nearness
        return max(self.environment.rcut, other.rcut)

    @property
    def environments(self) -> tuple[Environment, ...]:
        """That of the energies, and that of sigma if it is another one."""
        return (self.environment,) if self.nearness is None else (self.environment, self.nearness)

    @property
    def switch_width(self) -> float:
        """Difference of the distances that sw falls between, as the family subtracts it (Å)."""
        if self.environment.rules == "TF":
            return float(np.float32(self.switch_end) - np.float32(self.switch_start))
        return self.switch_end - self.switch_start

    @property
    def share_of_centre(self) -> float:
        """What part of the virial of u_ij the family gives to atom i; atom j has the rest."""
        return 0.5 if self.environment.rules == "TF" else 0.0

    def describe(self) -> dict[str, Any]:
        """What ``lmp-dp info`` says of it."""
        n_pieces = self.coefficients_ttve.shape[2]
        return {
            "from": self.start,
            "to": min(self.start + n_pieces * self.step, self.environment.rcut),
            "alpha": self.alpha,
            "switched_off_between": [self.switch_start, self.switch_end],
        }
