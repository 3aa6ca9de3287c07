"""What the numbers of a model may be.

The bounds are far beyond every model that was ever trained, and tight enough that no index, size or
normalised value that an engine derives from them leaves its type. What stays inside of them and
still overflows (relu nets in float32, say) gives values that are not finite, which `Potential` and
the pair style report.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lmp_dp.errors import ModelFileError

#: Weights, biases, energies (eV): the double next to 1e10 is 2e-6 away, so that beyond it nothing
#: can be right to the 1e-10 eV per atom that is promised. Weights are of order 1, the energies of
#: all electrons of a heavy atom 1e6.
MAX_PARAMETER = 1e10
#: Å. No two atoms come closer than the lower one; a sphere of the upper one has 1e8 atoms in it.
MIN_RCUT, MAX_RCUT = 0.1, 1000.0
#: Elements of a model: there are 118; arrays of all pairs stay small.
MAX_TYPES = 1024
#: Nets, layers: what a file lists one by one, at a group each.
MAX_PARTS = MAX_TYPES**2
#: Neighbour slots of one centre: a sphere of 60 Å in a metal. Engines pad lists to this number.
MAX_SLOTS = 100_000
#: Means (1/Å) are below 1/(closest distance); deviations come from training at 0.01 and above.
MAX_MEAN, MIN_DEVIATION, MAX_DEVIATION = 1e6, 1e-6, 1e6
#: What nets give, and statistics of fparam and aparam, which come in any unit: a float32 with room.
MAX_VALUE = 1e30


def check(name: str, array: Any, shape: tuple[int, ...], limit: float = MAX_PARAMETER) -> None:
    """Refuse an array that is not of `shape`, not of floats, or not finite and within ±`limit`.

    Raises
    ------
    ModelFileError
        With `name`, what was found and what was expected.
    """
    if array.shape != shape or array.dtype not in (np.float32, np.float64):
        raise ModelFileError(
            f"{name} has shape {array.shape} and type {array.dtype}, expected floats of shape "
            f"{shape}"
        )
    inside = abs(array) <= limit  # False for NaN
    if not inside.all():
        raise ModelFileError(
            f"{name} holds {float(array[~inside][0])}, expected finite numbers within ±{limit:g}"
        )


def check_number(name: str, value: float, low: float, high: float) -> None:
    """Refuse a number that is not in low..high (NaN is not).

    Raises
    ------
    ModelFileError
        With `name`, what was found and what was expected.
    """
    if not low <= value <= high:
        raise ModelFileError(f"{name} is {value}, expected {low:g} to {high:g}")
