r"""A tabulated embedding net (DP Compress, Lu et al., J. Chem. Theory Comput. 18, 5559).

The M channels of an embedding net are smooth functions of one number s and span a space of low
dimension R (some tens). The table holds quintic polynomials of R basis functions phi_q, and
the channels are combinations of them:

    G_m(s) = sum_q phi_q(s) U_qm

so that the sum over neighbours is done for R functions, not for M channels.

Cells of one width w start at `lower`; cell h is cut into ``pieces_h[h]`` equal pieces, and on
each piece a polynomial in the local coordinate 0 <= x < 1 reproduces phi, phi' and phi'' at both
ends (Hermite). Outside of the cells phi continues as a straight line.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lmp_dp.errors import ModelFileError
from lmp_dp.model import bounds
from lmp_dp.model.arrays import Floats, Integers

#: Coefficients of a quintic polynomial.
ORDER = 6
#: Normalised s and widths of cells: 1/width times the pieces of a cell is a float32.
_MAX_S, _MIN_WIDTH = 1e20, 1e-25


@dataclass(frozen=True)
class Table:
    """Quintic tables of the basis functions of one embedding net.

    Attributes
    ----------
    lower : float
        Start of the first cell, in normalised s; the smallest value that s takes, or (of e, which
        has both signs) as far from 0 as the end of the last cell.
    inner : float
        Normalised s where the fine part ends (atoms closer than training data came); of e the fine
        part begins at minus that.
    cell_width : float
        Width of a cell (normalised s).
    pieces_h : (n_cells,) int array
        Number of equal pieces of each cell.
    coefficients_veq : (n_pieces, 6, R) float64 array
        Coefficient of x^e on each piece, for each basis function.
    basis_qm : (R, M) float64 array
        U: from basis functions to channels.
    dtype : numpy.dtype
        Precision in which the model is evaluated (that of the net's weights).
    error, slope_error : float
        Largest deviation of G and dG/ds from the net, measured between the pieces' ends in the
        fine part; 0 of a table that its source had already.
    """

    lower: float
    inner: float
    cell_width: float
    pieces_h: Integers
    coefficients_veq: Floats
    basis_qm: Floats
    dtype: np.dtype
    error: float
    slope_error: float

    def __post_init__(self) -> None:
        if self.basis_qm.ndim != 2 or 0 in self.basis_qm.shape:
            raise ModelFileError(
                f"basis has shape {self.basis_qm.shape}, expected (functions, channels)"
            )
        bounds.check("basis", self.basis_qm, self.basis_qm.shape)
        if self.pieces_h.ndim != 1 or self.pieces_h.dtype.kind != "i" or not len(self.pieces_h):
            raise ModelFileError("pieces must be one int for each cell")
        # no more pieces than there are coefficients: else their sum might wrap round
        for pieces in self.pieces_h.tolist():
            bounds.check_number("pieces of a cell", pieces, 1, len(self.coefficients_veq))
        shape = (int(self.pieces_h.sum()), ORDER, self.rank)
        bounds.check("coefficients", self.coefficients_veq, shape, bounds.MAX_VALUE)
        bounds.check_number("lower", self.lower, -_MAX_S, _MAX_S)
        bounds.check_number("cell_width", self.cell_width, _MIN_WIDTH, _MAX_S)
        bounds.check_number("inner", self.inner, self.lower, self.upper)
        for name in ("error", "slope_error"):
            bounds.check_number(name, getattr(self, name), 0.0, bounds.MAX_VALUE)
        if self.dtype not in (np.float32, np.float64):
            raise ModelFileError(f"a table is for {self.dtype}, expected float32 or float64")

    @property
    def n_channels(self) -> int:
        """M: channels of the embedding net."""
        return self.basis_qm.shape[1]

    @property
    def rank(self) -> int:
        """R: number of basis functions."""
        return self.basis_qm.shape[0]

    @property
    def upper(self) -> float:
        """End of the last cell."""
        return self.lower + self.cell_width * len(self.pieces_h)

    def lines(self) -> np.ndarray:
        """Coefficients of the two straight lines outside, in units of a cell: (2, 6, R).

        [0] continues beyond `upper`, x = (s - upper)/w; [1] below `lower`, x = (s - lower)/w.
        """
        lines_veq = np.zeros((2, ORDER, self.rank))
        last, first = self.coefficients_veq[-1], self.coefficients_veq[0]
        powers = np.arange(ORDER)[:, None]
        lines_veq[0, 0] = last.sum(axis=0)
        lines_veq[0, 1] = (powers * last).sum(axis=0) * self.pieces_h[-1]
        lines_veq[1, 0] = first[0]
        lines_veq[1, 1] = first[1] * self.pieces_h[0]
        return lines_veq


def describe_tables(tables: tuple[Table, ...]) -> dict[str, Any] | None:
    """What ``lmp-dp info`` says of the tables of a descriptor, if it has any."""
    if not tables:
        return None
    return {
        "count": len(tables),
        "megabytes": round(sum(t.coefficients_veq.nbytes for t in tables) / 1e6, 2),
        "basis_functions": sorted(table.rank for table in tables),
        "error_of_G": max(table.error for table in tables),
        "error_of_dG_ds": max(table.slope_error for table in tables),
    }
