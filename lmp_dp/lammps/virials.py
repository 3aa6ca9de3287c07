"""Virials in LAMMPS's orders of their components; ours are [force, r]."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

#: xx yy zz xy xz yz
ROWS, COLUMNS = [0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]
# LAMMPS's centroid virial is r_a f_b in the order xx yy zz xy xz yz yx zx zy.
_CENTROID = [0, 4, 8, 3, 6, 7, 1, 2, 5]


def symmetric6(virials_cc: NDArray[Any]) -> NDArray[Any]:
    """Components xx yy zz xy xz yz of (..., 3, 3) virials, symmetrised."""
    return 0.5 * (virials_cc[..., ROWS, COLUMNS] + virials_cc[..., COLUMNS, ROWS])


def centroid9(virials_acc: NDArray[Any]) -> NDArray[Any]:
    """Components xx yy zz xy xz yz yx zx zy (of r, then of the force) of (n, 3, 3) virials."""
    return virials_acc.reshape(-1, 9)[:, _CENTROID]
