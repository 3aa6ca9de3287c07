r"""The table of one embedding net: range, basis, pieces.

The argument s of a net is fine from its origin to where the caller says, and coarser on to
`OUTER_FACTOR` times that. Beyond the fine part the tolerance grows as the 12th power of s, as
energies do there: such distances are rare, and the net itself extrapolates. Basis: on a dense grid
the net's channels span, up to the tolerance, R directions (singular value decomposition; those of
the padded slots are kept exactly). Pieces: quintic Hermite polynomials from exact first and second
derivatives; by default each cell is halved until the error between the nodes is below the
tolerance.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from lmp_dp.engine import jet
from lmp_dp.engine.table import forward
from lmp_dp.errors import InputError
from lmp_dp.model.network import Network
from lmp_dp.model.table import Table

#: The table continues to this multiple of the fine part's end, as DeePMD-kit's does.
OUTER_FACTOR = 5.0
#: Beyond the fine part the tolerance grows with this power of s, up to this factor.
OUTER_POWER, OUTER_LIMIT = 12, 1e7
#: Cells in the fine part when the pieces adapt; a cell is cut into at most 2^_MAX_HALVINGS.
CELLS, _MAX_HALVINGS = 32, 8
#: Pieces of one table; more (a small step down to a small distance) fill the memory.
_MAX_PIECES = 2**20
#: Hermite interpolation on 0 <= x <= 1: rows f0, f0', f0'', f1, f1', f1''; columns x^0..x^5.
_HERMITE = np.array(
    [
        [1.0, 0.0, 0.0, -10.0, 15.0, -6.0],
        [0.0, 1.0, 0.0, -6.0, 8.0, -3.0],
        [0.0, 0.0, 0.5, -1.5, 1.5, -0.5],
        [0.0, 0.0, 0.0, 10.0, -15.0, 6.0],
        [0.0, 0.0, 0.0, -4.0, 7.0, -3.0],
        [0.0, 0.0, 0.0, 0.5, -1.0, 0.5],
    ]
)


def widest_cell(net: Network, tolerance: float) -> float:
    """The widest cells for which adapting to a net works (normalised argument).

    A unit of the first layer bends on the scale of 1/w in s, w being its weight, and is flat within
    the tolerance t further than x/w away, 1 - tanh(x) = t, that is x = ln(2/t)/2. A cell is halved
    if a quarter of its width is off: what bends between is not missed if that is less than x/w.
    """
    reach = 0.5 * math.log(2.0 / tolerance)
    steepest = max(float(np.abs(net.layers[0].weight_io).max()), 1e-30)
    return 4.0 * reach / steepest


def rounded_up(distance: float) -> float:
    """A smallest distance to two digits."""
    digits = 10.0 ** (math.floor(math.log10(distance)) - 1)
    return float(f"{math.ceil(distance / digits) * digits:.2g}")


@dataclasses.dataclass(frozen=True)
class Range:
    """Where an argument s (normalised) starts from, and how far the fine part of a table reaches.

    Attributes
    ----------
    origin, inner : float
        The fine part reaches from one to the other, the table to `OUTER_FACTOR` times that.
    two_sided : bool
        Whether the same holds on the other side of the origin.
    power : int
        The power of s that the tolerance grows with beyond the fine part.
    """

    origin: float
    inner: float
    two_sided: bool = False
    power: int = OUTER_POWER

    @property
    def start(self) -> float:
        """Start of the fine part."""
        return 2.0 * self.origin - self.inner if self.two_sided else self.origin

    @property
    def end(self) -> float:
        """End of the table."""
        return self.origin + OUTER_FACTOR * (self.inner - self.origin)

    def grids(self) -> tuple[np.ndarray, np.ndarray]:
        """Dense points of the fine part and of the rest."""
        # nets are steepest at the smallest distance: quadratic spacing
        fine_p = self.origin + (self.inner - self.origin) * np.linspace(0.0, 1.0, 4001) ** 2
        outer_p = np.linspace(self.inner, self.end, 2001)[1:]
        if self.two_sided:
            mirror = 2.0 * self.origin
            fine_p = np.concatenate([fine_p, mirror - fine_p[1:]])
            outer_p = np.concatenate([outer_p, mirror - outer_p])
        return fine_p, outer_p

    def relaxation(self, s: np.ndarray) -> np.ndarray:
        """Factor on the tolerance at s."""
        from_origin = s - self.origin
        if self.two_sided:
            from_origin = np.abs(from_origin)
        ratio = np.maximum(from_origin / (self.inner - self.origin), 1.0)
        return np.minimum(ratio**self.power, OUTER_LIMIT)


def tabulate(
    net: Network,
    exact_p: np.ndarray,
    span: Range,
    tolerance: float,
    step: float | None,
    n_adapted: int = CELLS,
) -> Table:
    """Basis, cells and pieces of one net.

    Parameters
    ----------
    net : Network
    exact_p : (P,) array
        Arguments whose G the basis represents exactly: those of padded slots.
    span : Range
    tolerance : float
        Bound of the error of G relative to the largest |G|.
    step : float or None
        Fixed width of the pieces in place of adapting to the tolerance; ten times that in the outer
        part.
    n_adapted : int
        Cells of the fine part where the pieces adapt.

    Raises
    ------
    InputError
        The step makes more pieces than can be held.
    """
    start, inner = span.start, span.inner
    if step is None:
        n_inner = n_adapted
        width = (inner - start) / n_inner
    else:
        width = step * 10  # the outer part's piece
        n_inner = int(np.ceil((inner - start) / width - 1e-9))
    n_above = int(np.ceil((span.end - start) / width)) - n_inner
    n_below = n_above if span.two_sided else 0
    lower, n_cells = start - n_below * width, n_below + n_inner + n_above
    if (n_pieces := n_cells if step is None else 10 * n_inner + n_cells - n_inner) > _MAX_PIECES:
        raise InputError(
            f"step {step:g} makes {n_pieces} pieces of a table, at most {_MAX_PIECES} can be held: "
            "give a larger step or smallest distance"
        )
    basis_qm, largest = _basis(net, exact_p, span, tolerance)
    allowed = tolerance * largest

    pieces, coefficients = [], []
    for cell in range(n_cells):
        at = lower + cell * width
        if step is not None:
            n, part = (10 if 0 <= cell - n_below < n_inner else 1), None
        else:
            # of two ends the one that is nearer to the origin: where less is allowed
            ends = np.array([at, at + width] if at < span.origin else [at])
            n, part = _adapted(net, basis_qm, at, width, allowed * span.relaxation(ends).min())
        pieces.append(n)
        coefficients.append(_hermite(net, basis_qm, at, width, n) if part is None else part)
    table = Table(
        lower=lower,
        inner=inner,
        cell_width=width,
        pieces_h=np.array(pieces),
        coefficients_veq=np.concatenate(coefficients),
        basis_qm=basis_qm,
        dtype=net.dtype,
        error=0.0,
        slope_error=0.0,
    )
    s_p = np.random.default_rng(0).uniform(start, inner, 20_000)
    g_pm, dg_pm, _ = jet.evaluate(net, s_p)
    found_pm, dfound_pm = forward(table, s_p)
    return dataclasses.replace(
        table,
        error=float(np.abs(found_pm - g_pm).max()),
        slope_error=float(np.abs(dfound_pm - dg_pm).max()),
    )


def _basis(
    net: Network, exact_p: np.ndarray, span: Range, tolerance: float
) -> tuple[np.ndarray, float]:
    """Orthonormal rows that span the channels up to the tolerance, and the largest fine |G|.

    G at `exact_p` comes first, so that it is represented exactly.
    """
    fine_p, outer_p = span.grids()
    grid_p = np.concatenate([fine_p, outer_p])
    g_pm = jet.evaluate(net, grid_p)[0]
    largest = float(np.abs(g_pm[: len(fine_p)]).max())
    first_qm = _orthonormal(jet.evaluate(net, exact_p)[0])
    rest_pm = g_pm - (g_pm @ first_qm.T) @ first_qm
    rest_pm /= span.relaxation(grid_p)[:, None]
    _, _, directions_qm = np.linalg.svd(rest_pm, full_matrices=False)
    # the fewest directions whose remainder is nowhere above the tolerance
    residual_pm = rest_pm.copy()
    rank = 0
    while rank < len(directions_qm) and np.abs(residual_pm).max() > tolerance * largest:
        direction_m = directions_qm[rank]
        residual_pm -= np.outer(residual_pm @ direction_m, direction_m)
        rank += 1
    basis_qm = np.concatenate([first_qm, directions_qm[:rank]])
    if not len(basis_qm):  # G is zero throughout, as that of a relu net may be
        basis_qm = np.eye(1, net.n_out)
    return _orthonormal(basis_qm), largest


def _orthonormal(rows_qm: np.ndarray) -> np.ndarray:
    """Orthonormal rows with the same span, dependent ones dropped (at most M)."""
    q, r = np.linalg.qr(rows_qm.T)
    kept = np.abs(np.diag(r)) > 1e-12 * max(np.abs(r).max(), 1e-300)
    return np.ascontiguousarray(q.T[kept])


def _hermite(net: Network, basis_qm: np.ndarray, start: float, width: float, n: int) -> np.ndarray:
    """Coefficients of the `n` pieces of one cell: (n, 6, R)."""
    h = width / n
    nodes = start + h * np.arange(n + 1)
    jets = [g @ basis_qm.T * h**k for k, g in enumerate(jet.evaluate(net, nodes))]
    data_uvq = np.stack(
        [values[side] for side in (slice(0, n), slice(1, n + 1)) for values in jets]
    )
    return np.einsum("dk,dnr->nkr", _HERMITE, data_uvq)


def _adapted(
    net: Network, basis_qm: np.ndarray, start: float, width: float, bound: float
) -> tuple[int, np.ndarray]:
    """The fewest pieces (a power of two) whose error between the nodes is below `bound`."""
    inside_p = np.array([0.25, 0.5, 0.75])
    powers_pe = inside_p[:, None] ** np.arange(6)
    for halvings in range(_MAX_HALVINGS + 1):
        n = 2**halvings
        part_veq = _hermite(net, basis_qm, start, width, n)
        s_vp = start + width / n * (np.arange(n)[:, None] + inside_p)
        exact_vpq = (jet.evaluate(net, s_vp.ravel())[0] @ basis_qm.T).reshape(n, 3, -1)
        if np.abs(np.einsum("xk,nkr->nxr", powers_pe, part_veq) - exact_vpq).max() <= bound:
            break
    return n, part_veq
