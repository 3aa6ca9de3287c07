"""Which LAMMPS type is which element is which model type: `pair_coeff * * O H NULL`.

The order of the names is the only thing that tells LAMMPS types apart, and elements that are
silently swapped give plausible nonsense; so the mapping is printed, and masses that do not fit are
pointed out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lmp_dp.errors import InputError

ABSENT = -1
Masses = Sequence[float] | NDArray[np.float64]
MASS_TOLERANCE = 0.5  # g/mol: finer than neighbouring elements, coarser than rounding of masses

# Standard atomic weights (IUPAC, rounded), g/mol; for radioactive elements a common isotope.
_MASSES = """
H 1.008 He 4.003 Li 6.94 Be 9.012 B 10.81 C 12.011 N 14.007 O 15.999 F 18.998 Ne 20.180 Na 22.990
Mg 24.305 Al 26.982 Si 28.085 P 30.974 S 32.06 Cl 35.45 Ar 39.95 K 39.098 Ca 40.078 Sc 44.956
Ti 47.867 V 50.942 Cr 51.996 Mn 54.938 Fe 55.845 Co 58.933 Ni 58.693 Cu 63.546 Zn 65.38 Ga 69.723
Ge 72.630 As 74.922 Se 78.971 Br 79.904 Kr 83.798 Rb 85.468 Sr 87.62 Y 88.906 Zr 91.224 Nb 92.906
Mo 95.95 Tc 98 Ru 101.07 Rh 102.906 Pd 106.42 Ag 107.868 Cd 112.414 In 114.818 Sn 118.710 Sb 121.760
Te 127.60 I 126.904 Xe 131.293 Cs 132.905 Ba 137.327 La 138.905 Ce 140.116 Pr 140.908 Nd 144.242
Pm 145 Sm 150.36 Eu 151.964 Gd 157.25 Tb 158.925 Dy 162.500 Ho 164.930 Er 167.259 Tm 168.934
Yb 173.045 Lu 174.967 Hf 178.486 Ta 180.948 W 183.84 Re 186.207 Os 190.23 Ir 192.217 Pt 195.084
Au 196.967 Hg 200.592 Tl 204.38 Pb 207.2 Bi 208.980 Po 209 At 210 Rn 222 Fr 223 Ra 226 Ac 227
Th 232.038 Pa 231.036 U 238.029 Np 237 Pu 244 Am 243 Cm 247 D 2.014 T 3.016
"""
# Isotopes that are used on purpose, farther from these than MASS_TOLERANCE; none with the mass of
# another element (as carbon-14 has nitrogen's), which would hide swapped names.
_ISOTOPES = """
H 2.014 H 3.016 He 3.016 Li 6.015 B 10.013 C 13.003 N 15.000 O 16.999 O 17.999 Tc 98.906 U 235.044
Pu 239.052 Am 241.057
"""


def _pairs(text: str) -> list[tuple[str, float]]:
    words = text.split()
    return [(name, float(mass)) for name, mass in zip(words[::2], words[1::2], strict=True)]


STANDARD_MASSES = dict(_pairs(_MASSES))
ISOTOPES = _pairs(_ISOTOPES)


def model_types(names: Sequence[str], type_map: Sequence[str], n_types: int) -> NDArray[np.int32]:
    """Model type of each LAMMPS type.

    Parameters
    ----------
    names : sequence of str
        Element names as written after `pair_coeff * *`, one per LAMMPS type; `NULL` for a type that
        the model does not describe. Empty: the model's own order.
    type_map : sequence of str
        Element names of the model types.
    n_types : int
        Number of LAMMPS types.

    Returns
    -------
    (n_types,) int32
        Model types; -1 for `NULL`.

    Raises
    ------
    InputError
        If a name is unknown to the model, or there are too few or too many names.
    """
    model = " ".join(type_map)
    if not names:
        if n_types > len(type_map):
            raise InputError(
                f"pair_coeff * * without names takes the order of the model, which has "
                f"{len(type_map)} types ({model}), but LAMMPS has {n_types}: write the element of "
                f"each LAMMPS type, as in pair_coeff * * {_example(type_map, n_types)} (or NULL)"
            )
        return np.arange(n_types, dtype=np.int32)
    if len(names) != n_types:
        raise InputError(
            f"pair_coeff * * {' '.join(names)} names {len(names)} elements, but LAMMPS has "
            f"{n_types} atom types: write one name (or NULL) per LAMMPS type, in their order"
        )
    known = {name: number for number, name in enumerate(type_map)} | {"NULL": ABSENT}
    for position, name in enumerate(names, start=1):
        if name not in known:
            raise InputError(
                f"pair_coeff * *: element {name} (LAMMPS type {position}) is not in the model, "
                f"whose type map is: {model}"
            )
    return np.array([known[name] for name in names], dtype=np.int32)


def complete(
    names: Sequence[str], type_map: Sequence[str], n_types: int
) -> tuple[Sequence[str], str | None]:
    """One name for each LAMMPS type, and a warning where that is a guess.

    Without names those of the model, by position; `NULL` for types beyond the names. (Pair style
    deepmd takes types without a name as absent, silently.)
    """
    given = list(names or type_map[:n_types])
    missing = n_types - len(given)
    if not names and len(given) < len(type_map):
        return given, (
            f"pair_coeff * * takes the model's elements by position: {', '.join(given)} for the "
            f"LAMMPS types from 1 on, and no {', '.join(type_map[n_types:])} (write pair_coeff * * "
            f"{' '.join(given)} if that is meant)"
        )
    if missing <= 0:
        return given, None
    return given + ["NULL"] * missing, (
        f"pair_coeff * * {' '.join(names)} gives no element for the LAMMPS types from "
        f"{len(given) + 1} on: the model does not see them (write NULL for each if that is meant)"
    )


def _example(type_map: Sequence[str], n_types: int) -> str:
    return " ".join(type_map[number % len(type_map)] for number in range(n_types))


def table(types_y: NDArray[np.int32], type_map: Sequence[str], masses_y: Masses | None) -> str:
    """The mapping as text, one line per LAMMPS type.

    Parameters
    ----------
    types_y : (n_types,) int32
        From `model_types`.
    type_map : sequence of str
        Element names of the model types.
    masses_y : sequence of float or None
        g/mol per LAMMPS type, 0 where not set; None where LAMMPS keeps masses per atom.
    """
    lines = ["  LAMMPS type  element  model type        mass"]
    for number, model_type in enumerate(types_y):
        if masses_y is None:
            mass = "per atom"
        else:
            mass = f"{masses_y[number]:.4f}" if masses_y[number] else "not set"
        element, shown = (
            ("NULL", "-") if model_type == ABSENT else (type_map[model_type], str(model_type))
        )
        lines.append(f"  {number + 1:>11}  {element:>7}  {shown:>10}  {mass:>10}")
    return "\n".join(lines) + "\n"


def doubtful_masses(
    types_y: NDArray[np.int32], type_map: Sequence[str], masses_y: Masses
) -> str | None:
    """A warning if the mass of a LAMMPS type (g/mol) is not that of its element, else None.

    Not judged are names that are no elements (model types may be called anything) and masses that
    are not set (0), which LAMMPS itself asks for where they matter.
    """
    doubts = []
    for number, model_type in enumerate(types_y):
        element = "" if model_type == ABSENT else type_map[model_type]
        standard, mass = STANDARD_MASSES.get(element), masses_y[number]
        if standard is None or mass == 0.0:
            continue
        known = [standard, *(mass for name, mass in ISOTOPES if name == element)]
        if min(abs(mass - one) for one in known) > MASS_TOLERANCE:
            doubts.append(
                f"LAMMPS type {number + 1} is {element} ({standard:g} g/mol) by pair_coeff, but "
                f"its mass is {mass:g} g/mol"
            )
    if not doubts:
        return None
    return "; ".join(doubts) + ": is the order of the names in pair_coeff right?"
