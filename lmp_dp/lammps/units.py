"""LAMMPS's unit styles in terms of eV and angstrom, the units of the engine.

With E the LAMMPS unit of energy and L that of length, a value in LAMMPS units is

    energy, virial = eV value * energy        energy = boltz / 8.617343e-5   (metal 1, real 23.0605)
    length         = angstrom value * length  length = angstrom              (metal 1, si 1e-10)
    force          = eV/angstrom value * energy / length

where `boltz` and `angstrom` are the constants of LAMMPS's `force` class in the style at hand. These
are the factors of pair style deepmd, so that both give the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

BOLTZMANN_METAL = 8.617343e-5  # eV/K, LAMMPS's value in metal units; not CODATA, on purpose

GRAMS_PER_MOLE = {
    "metal": 1.0,
    "real": 1.0,
    "electron": 1.0,
    "si": 1.66053907e-27,
    "cgs": 1.66053907e-24,
    "micro": 1.66053907e-12,
    "nano": 1.66053907e-6,
}
"""Mass of 1 g/mol in each unit style (kg, g, picogram, attogram)."""


@dataclass(frozen=True)
class Units:
    """Factors from eV and angstrom to LAMMPS units."""

    style: str
    energy: float
    length: float

    @property
    def force(self) -> float:
        """LAMMPS units of force in one eV/angstrom."""
        return self.energy / self.length

    @property
    def mass(self) -> float:
        """LAMMPS units of mass in one g/mol."""
        return GRAMS_PER_MOLE[self.style]


def units_of(style: str, boltz: float, angstrom: float) -> Units:
    """The factors of a LAMMPS unit style.

    Parameters
    ----------
    style : str
        Argument of LAMMPS's `units` command.
    boltz, angstrom : float
        LAMMPS's `force->boltz` and `force->angstrom`.

    Raises
    ------
    ValueError
        For `lj` and for styles unknown to this module.
    """
    if style not in GRAMS_PER_MOLE:
        known = ", ".join(GRAMS_PER_MOLE)
        raise ValueError(
            f"units {style} has no eV and angstrom: use one of {known} (units metal is the fastest)"
        )
    return Units(style, energy=boltz / BOLTZMANN_METAL, length=angstrom)
