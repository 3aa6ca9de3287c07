"""Parameters of the frame and of atoms (fparam, aparam) for the models of a pair style.

They are written in the input script, or come on each step from a compute, a fix or fix ttm, in the
unit of the models' training data: nothing is converted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lmp_dp.errors import InputError
from lmp_dp.lammps.arguments import Arguments
from lmp_dp.lammps.bridge import Parameters, Shared, View

if TYPE_CHECKING:
    from lmp_dp.engine import Neighbourhood, Potential


def check(arguments: Arguments, n_fparam: int, n_aparam: int) -> None:
    """Refuse parameters that do not fit a model which takes `n_fparam` and `n_aparam`.

    Raises
    ------
    InputError
        If parameters are missing, given twice, or too few or too many.
    """
    sources = {
        "fparam": [name for name in _FPARAM if getattr(arguments, name)],
        "aparam": [name for name in _APARAM if getattr(arguments, name)],
    }
    if arguments.ttm:
        if max(n_fparam, n_aparam) == 0:
            raise InputError("keyword ttm is given, but the model takes neither fparam nor aparam")
        sources["aparam" if n_aparam else "fparam"].append("ttm")
    for name, count in (("fparam", n_fparam), ("aparam", n_aparam)):
        keywords, values = sources[name], getattr(arguments, name)
        if len(keywords) > 1:
            raise InputError(f"{name} comes from {' and '.join(keywords)}: leave one")
        if keywords and not count:
            raise InputError(f"keyword {keywords[0]} is given, but the model takes no {name}")
        if count and not keywords:
            known = ", ".join([*(_FPARAM if name == "fparam" else _APARAM), "ttm"])
            raise InputError(f"the model needs {name}, {count} values: write one of {known}")
        if values and len(values) != count:
            raise InputError(f"{name} has {len(values)} values, the model needs {count}")
        if keywords == ["ttm"] and count != 1:
            raise InputError(f"ttm gives one value, but the model needs {count} for {name}")


_FPARAM = ("fparam", "fparam_from_compute", "fparam_from_fix")
_APARAM = ("aparam", "aparam_from_compute")


class ElectronTemperatures:
    """The grid of fix ttm, as the fix stores it in restart files.

    Parameters
    ----------
    values : (4 + nx ny nz,) array
        Numbers of cells along x, y and z, a seed, and the temperatures, x fastest.

    Raises
    ------
    InputError
        If the numbers do not fit together.
    """

    def __init__(self, values: NDArray[np.float64]) -> None:
        counts = tuple(int(number) for number in values[2::-1])
        if len(counts) != 3 or len(values) != 4 + np.prod(counts):
            raise InputError(
                f"fix ttm gives {len(values)} numbers for a grid of {counts}, expected 4 and one "
                "per cell: this LAMMPS stores it in another way than lmp_dp knows. Give the "
                "temperatures by fparam_from_compute or aparam_from_compute in place of ttm"
            )
        self.grid_hhh = values[4:].reshape(counts)  # along z, y, x

    def mean(self) -> float:
        """Mean over the cells that have electrons (a temperature other than 0)."""
        filled = self.grid_hhh[self.grid_hhh != 0.0]
        return float(filled.mean()) if filled.size else 0.0

    def at(self, fractions_nc: NDArray[np.float64]) -> NDArray[np.float64]:
        """Temperatures of the cells that hold the atoms, by fractional coordinates."""
        shape_c = np.array(self.grid_hhh.shape[::-1])
        cells_nc = np.floor(fractions_nc * shape_c).astype(np.int64) % shape_c
        return self.grid_hhh[cells_nc[:, 2], cells_nc[:, 1], cells_nc[:, 0]]


def announce(parameters: Parameters, arguments: Arguments, potentials: Sequence[Potential]) -> None:
    """Check fparam and aparam, and name to the plugin what it is to fetch.

    Raises
    ------
    InputError
        As `check`; or the models differ in what they take.
    """
    counts = [(one.model.fitting.n_fparam, one.model.fitting.n_aparam) for one in potentials]
    if len(set(counts)) > 1:
        raise InputError(f"the models differ in their numbers of fparam and aparam: {counts}")
    parameters.n_fparam, parameters.n_aparam = counts[0]
    check(arguments, *counts[0])
    parameters.fparam_compute = arguments.fparam_from_compute.encode() or None
    parameters.fparam_fix = arguments.fparam_from_fix.encode() or None
    parameters.fparam_index = arguments.fparam_index
    parameters.aparam_compute = arguments.aparam_from_compute.encode() or None
    parameters.ttm_fix = arguments.ttm.encode() or None


def add(
    neighbourhood: Neighbourhood, shared: Shared, arguments: Arguments, x_nc: NDArray[np.float64]
) -> None:
    """This step's fparam and aparam, where the models take any.

    Parameters
    ----------
    neighbourhood : Neighbourhood
        Gets them.
    shared : Shared
    arguments : Arguments
    x_nc : (n_local, 3) array
        Positions in LAMMPS's unit.
    """
    parameters, step = shared.parameters, shared.step
    n_fparam, n_aparam = parameters.n_fparam, parameters.n_aparam
    grid = None
    if parameters.ttm:
        grid = ElectronTemperatures(View(np.float64).at(parameters.ttm, parameters.n_ttm))
    if n_fparam:
        if arguments.fparam:
            neighbourhood.fparam_f = np.array(arguments.fparam)
        elif parameters.fparam:
            neighbourhood.fparam_f = View(np.float64).at(parameters.fparam, n_fparam)
        else:
            assert grid is not None
            neighbourhood.fparam_f = np.array([grid.mean()])
    if n_aparam:
        if arguments.aparam:
            neighbourhood.aparam_af = np.tile(arguments.aparam, (step.n_local, 1))
        elif arguments.aparam_from_compute:
            given = View(np.float64, n_aparam)
            neighbourhood.aparam_af = given.at(parameters.aparam, step.n_local)
        else:
            assert grid is not None
            in_group = View(np.int32).at(parameters.groups, step.n_local) & parameters.ttm_group
            fractions_nc = (x_nc - np.array(step.box_low)) / np.array(step.box[:3])
            temperatures_n = np.where(in_group, grid.at(fractions_nc), 0.0)
            neighbourhood.aparam_af = temperatures_n[:, None]
