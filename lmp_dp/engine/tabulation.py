r"""Tables in place of embedding nets.

Range: s from beyond the cutoff to the smallest distance in the training data (the fine part), and
on to five times that. Beyond the fine part the tolerance grows as the 12th power of s, as energies
do there: such distances are rare, and the net itself extrapolates. Basis: on a dense grid the
net's channels span, up to the tolerance, R directions (singular value decomposition; the padded
slots' direction is kept exactly). Pieces: quintic Hermite polynomials from exact first and second
derivatives; by default each cell is halved until the error between the nodes is below the
tolerance.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np

from lmp_dp.engine import jet
from lmp_dp.engine.switch import switch
from lmp_dp.engine.table import forward
from lmp_dp.errors import InputError
from lmp_dp.model.deep_potential import DeepPotential
from lmp_dp.model.descriptors.environment import Environment
from lmp_dp.model.mapped import find_all, replace_all
from lmp_dp.model.network import Network
from lmp_dp.model.pair_nets import PairNets
from lmp_dp.model.table import Table

#: The table continues to this multiple of the fine part's end, as DeePMD-kit's does.
OUTER_FACTOR = 5.0
#: Beyond the fine part the tolerance grows with this power of s, up to this factor.
OUTER_POWER, OUTER_LIMIT = 12, 1e7
#: Cells in the fine part when the pieces adapt; a cell is cut into at most 2^_MAX_HALVINGS.
_CELLS, _MAX_HALVINGS = 32, 8
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


def with_tables(
    model: DeepPotential,
    distance: float,
    tolerance: float,
    step: float | None = None,
    progress: Callable[[str, float], None] = lambda stage, done: None,
) -> DeepPotential:
    """A model with its embedding nets tabulated; the nets are kept.

    Parameters
    ----------
    model : DeepPotential
    distance : float
        Smallest distance of two atoms (Å), where the fine part ends; at least
        `smallest_distance`.
    tolerance : float
        Bound of the error of G relative to the largest |G|, for basis and pieces.
    step : float, optional
        Fixed width of the pieces (normalised s) in place of adapting to the tolerance; ten times
        that in the outer part.
    progress : callable
        Called with a text and the fraction done.

    Raises
    ------
    InputError
        The step makes more pieces than can be held.
    """
    environment = model.descriptor.environment
    davg_t, dstd_t = environment.davg_tk[:, 0], environment.dstd_tk[:, 0]
    padding_t = -davg_t / dstd_t
    s = float(switch(np.float64(distance), environment.rcut, environment.rcut_smth)[0]) / distance
    inner_t = (s - davg_t) / dstd_t

    def tabulated(nets: PairNets) -> PairNets:
        tables: list[Table] = []
        padding_ttm = np.zeros((*nets.net_tt.shape, nets.n_channels))
        for n, net in enumerate(nets.embeddings):
            pairs = np.argwhere(nets.net_tt == n).tolist()
            i, j = pairs[0]
            progress(f"{model.type_map[i]}-{model.type_map[j]}", n / len(nets.embeddings))
            for i, j in pairs:
                padding_ttm[i, j] = jet.evaluate(net, padding_t[i : i + 1])[0][0]
            centres = sorted({i for i, _ in pairs})
            span = _Range(float(padding_t[centres].min()), float(inner_t[centres].max()))
            tables.append(_tabulate(net, padding_t[centres], span, tolerance, step))
        return dataclasses.replace(nets, tables=tuple(tables), padding_ttm=padding_ttm)

    return replace_all(model, PairNets, tabulated)


def smallest_distance(model: DeepPotential, tolerance: float) -> float:
    """The distance (Å) down to which tables can follow the nets of a model."""
    environment = model.descriptor.environment
    return max(
        _smallest_distance(nets, environment, tolerance)
        for nets in find_all(model.descriptor, PairNets)
    )


def _smallest_distance(nets: PairNets, environment: Environment, tolerance: float) -> float:
    """Below this the range of s is too wide for cells that adapt to the nets (Å), rounded up.

    A unit of the first layer bends on the scale of 1/w in s, w being its weight, and is flat within
    the tolerance t further than x/w away, 1 - tanh(x) = t, that is x = ln(2/t)/2. A cell is halved
    if a quarter of its width is off: what bends between is not missed if that is less than x/w.
    """
    reach = 0.5 * math.log(2.0 / tolerance)
    davg_t, dstd_t = environment.davg_tk[:, 0], environment.dstd_tk[:, 0]
    padding_t = -davg_t / dstd_t
    largest = math.inf  # s before it is normalised, which is 1/r
    for n, net in enumerate(nets.embeddings):
        steepest = max(float(np.abs(net.layers[0].weight_io).max()), 1e-30)
        centres = np.unique(np.argwhere(nets.net_tt == n)[:, 0])
        inner = padding_t[centres].min() + _CELLS * 4.0 * reach / steepest
        largest = min(largest, float((davg_t + dstd_t * inner)[centres].min()))
    digits = 10.0 ** (math.floor(math.log10(1.0 / largest)) - 1)
    return float(f"{math.ceil(1.0 / largest / digits) * digits:.2g}")


@dataclasses.dataclass(frozen=True)
class _Range:
    """Start of a table and end of its fine part (normalised s)."""

    lower: float
    inner: float

    @property
    def end(self) -> float:
        return self.lower + OUTER_FACTOR * (self.inner - self.lower)

    def relaxation(self, s: np.ndarray) -> np.ndarray:
        """Factor on the tolerance at s."""
        ratio = np.maximum((s - self.lower) / (self.inner - self.lower), 1.0)
        return np.minimum(ratio**OUTER_POWER, OUTER_LIMIT)


def _tabulate(
    net: Network, padding: np.ndarray, span: _Range, tolerance: float, step: float | None
) -> Table:
    """Basis, cells and pieces of one net."""
    lower, inner = span.lower, span.inner
    if step is None:
        n_inner = _CELLS
        width = (inner - lower) / n_inner
    else:
        width = step * 10  # the outer part's piece
        n_inner = int(np.ceil((inner - lower) / width - 1e-9))
    n_cells = int(np.ceil((span.end - lower) / width))
    if (n_pieces := n_cells if step is None else 10 * n_inner + n_cells - n_inner) > _MAX_PIECES:
        raise InputError(
            f"step {step:g} makes {n_pieces} pieces of a table, at most {_MAX_PIECES} can be held: "
            "give a larger step or smallest distance"
        )
    basis_qm, largest = _basis(net, padding, span, tolerance)
    allowed = tolerance * largest

    pieces, coefficients = [], []
    for cell in range(n_cells):
        start = lower + cell * width
        if step is not None:
            n, part = (10 if cell < n_inner else 1), None
        else:
            bound = allowed * float(span.relaxation(np.array(start)))
            n, part = _adapted(net, basis_qm, start, width, bound)
        pieces.append(n)
        coefficients.append(_hermite(net, basis_qm, start, width, n) if part is None else part)
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
    s_p = np.random.default_rng(0).uniform(lower, inner, 20_000)
    g_pm, dg_pm, _ = jet.evaluate(net, s_p)
    found_pm, dfound_pm = forward(table, s_p)
    return dataclasses.replace(
        table,
        error=float(np.abs(found_pm - g_pm).max()),
        slope_error=float(np.abs(dfound_pm - dg_pm).max()),
    )


def _basis(
    net: Network, padding: np.ndarray, span: _Range, tolerance: float
) -> tuple[np.ndarray, float]:
    """Orthonormal rows that span the channels up to the tolerance, and the largest fine |G|.

    G at the padded slots comes first, so that it is represented exactly.
    """
    # nets are steepest at the smallest s: quadratic spacing
    fine_p = span.lower + (span.inner - span.lower) * np.linspace(0.0, 1.0, 4001) ** 2
    grid_p = np.concatenate([fine_p, np.linspace(span.inner, span.end, 2001)[1:]])
    g_pm = jet.evaluate(net, grid_p)[0]
    largest = float(np.abs(g_pm[: len(fine_p)]).max())
    first_qm = _orthonormal(jet.evaluate(net, padding)[0])
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
