r"""Tables of a compressed DeePMD-kit model, taken over as they are.

``dp compress`` leaves a table per embedding net, a row of quintic polynomials in
dx = s - (start of the row) per piece, and its ranges (lower, upper, max, fine, coarse, ...):

    rows of width fine on lower .. upper, of width coarse on upper .. max
    (se_e3: and before them of width coarse on -max .. lower)

Beyond the rows DeePMD-kit 3.2.0 goes on along straight lines, as `Table` does. Its versions 2 held
s: they took the start of the first row below, and the *start* of the last row above; only atoms
that are much closer than in the training data get there. What a row says is kept, also where it is
wrong: of se_e3, DeePMD-kit computes the first fine row with the coarse width, and the first coarse
row behind them with the fine one, so that G jumps at their ends.
"""

from __future__ import annotations

import numpy as np

from lmp_dp.errors import ModelFileError, UnsupportedModelError
from lmp_dp.model import bounds
from lmp_dp.model.table import ORDER, Table

#: What may be lost of the largest coefficient, so that there are fewer functions than channels:
#: forces are off by less than 1e-11 eV/Å. Those of float32 are so noisy that they have no such
#: space, and forces show the noise.
_LOSS = 1e-13
#: How far from a whole number a quotient of lengths may be: they may be float32.
_WHOLE = 1e-4


def taken_over(values: np.ndarray, info: np.ndarray, *, both_sides: bool = False) -> Table:
    """The table as a `Table`, with channels as combinations of as few functions as hold them.

    Parameters
    ----------
    values : (n_pieces, 6 M) float array
        Coefficient of dx^e of channel m at 6 m + e.
    info : (6,) float array
        lower, upper, max, fine, coarse, and a number that says nothing of the table.
    both_sides : bool
        Whether rows lie before the fine ones, too.

    Raises
    ------
    ModelFileError
        Rows and ranges do not fit together.
    UnsupportedModelError
        The steps do not divide the ranges.
    """
    if values.ndim != 2 or values.shape[1] == 0 or values.shape[1] % ORDER:
        raise ModelFileError(f"a table has shape {values.shape}, expected (pieces, 6 x channels)")
    if info.shape != (6,) or not np.isfinite(info).all():
        raise ModelFileError(f"a table's ranges are {info.tolist()}, expected six numbers")
    lower, upper, end, fine, coarse = (float(str(number)) for number in info[:5])
    if not (lower < upper <= end and 0.0 < fine <= coarse):
        raise ModelFileError(
            f"a table reaches from {lower} over {upper} to {end} in steps of {fine} and {coarse}, "
            "expected lower < upper <= max and steps above 0"
        )
    start = -end if both_sides else lower
    per_cell = _whole(coarse, fine)
    cells = [_whole(of, coarse) for of in (lower - start, upper - lower, end - upper)]
    n_rows = cells[0] + cells[1] * per_cell + cells[2]
    bounds.check("a table", values, (n_rows, values.shape[1]), bounds.MAX_VALUE)
    pieces_h = np.repeat([1, per_cell, 1], cells)
    # dx = x times the width of the piece
    widths_v1 = (coarse / np.repeat(pieces_h, pieces_h))[:, None]
    raw_vme = values.astype(np.float64).reshape(n_rows, -1, ORDER)
    channels_vem = raw_vme.transpose(0, 2, 1) * (widths_v1 ** np.arange(ORDER))[:, :, None]
    basis_qm = _basis(channels_vem) if values.dtype == np.float64 else None
    return Table(
        lower=start,
        inner=upper,
        cell_width=coarse,
        pieces_h=pieces_h,
        coefficients_veq=channels_vem if basis_qm is None else channels_vem @ basis_qm.T,
        basis_qm=np.eye(channels_vem.shape[2]) if basis_qm is None else basis_qm,
        dtype=values.dtype,
        error=0.0,
        slope_error=0.0,
    )


def value_at(table: Table, s: float) -> np.ndarray:
    """G (M,) at one s within the cells: what empty slots embed to."""
    at = (s - table.lower) / table.cell_width
    cell = min(max(int(at), 0), len(table.pieces_h) - 1)
    pieces = int(table.pieces_h[cell])
    local = min(int((at - cell) * pieces), pieces - 1)
    powers_e = ((at - cell) * pieces - local) ** np.arange(ORDER)
    piece = int(table.pieces_h[:cell].sum()) + local
    return powers_e @ table.coefficients_veq[piece] @ table.basis_qm


def _whole(length: float, step: float) -> int:
    """How many steps there are in a length."""
    count = length / step
    if not abs(count - round(count)) <= _WHOLE:
        raise UnsupportedModelError(
            f"the model is compressed with a step that does not divide the range of its tables "
            f"({length:g} by {step:g}): convert the original (uncompressed) model"
        )
    return round(count)


def _basis(channels_vem: np.ndarray) -> np.ndarray | None:
    """Orthonormal rows that span the channels of all coefficients, if they are fewer than M."""
    rest_pm = channels_vem.reshape(-1, channels_vem.shape[2]).copy()
    allowed = _LOSS * float(np.abs(rest_pm).max())
    # R of the QR factorisation has the same right singular vectors, and is small
    _, _, directions_qm = np.linalg.svd(np.linalg.qr(rest_pm, mode="r"), full_matrices=False)
    for rank, direction_m in enumerate(directions_qm):
        if rank and np.abs(rest_pm).max() <= allowed:
            return np.ascontiguousarray(directions_qm[:rank])
        rest_pm -= np.outer(rest_pm @ direction_m, direction_m)
    return None
