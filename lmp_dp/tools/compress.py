r"""``lmp-dp compress``: tabulate the embedding nets of a model.

Range: s from beyond the cutoff to the smallest distance in the training data (the fine part), and
on to five times that. Beyond the fine part the tolerance grows as the 12th power of s, as energies
do there: such distances are rare, and the net itself extrapolates. Basis: on a dense grid the
net's channels span, up to the tolerance, R directions (singular value decomposition; the padded
slots' direction is kept exactly). Pieces: quintic Hermite polynomials from exact first and second
derivatives; by default each cell is halved until the error between the nodes is below the
tolerance.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
from collections.abc import Callable

import numpy as np

from lmp_dp import files
from lmp_dp.engine import jet
from lmp_dp.engine.environment import switch_width
from lmp_dp.engine.table import forward
from lmp_dp.errors import InputError
from lmp_dp.model import DeepPotential, Descriptor, Network, load, save
from lmp_dp.model.table import Table
from lmp_dp.text import printable

#: Default bound of the tables' error, relative to the largest |G|.
TOLERANCE = 1e-9
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


def compress(
    model: DeepPotential,
    *,
    tolerance: float = TOLERANCE,
    step: float | None = None,
    min_distance: float | None = None,
    drop_networks: bool = False,
    progress: Callable[[str, float], None] = lambda stage, done: None,
) -> DeepPotential:
    """A model with its embedding nets tabulated.

    Parameters
    ----------
    model : DeepPotential
        Uncompressed, or compressed with its nets kept.
    tolerance : float
        Bound of the error of G relative to the largest |G|, for basis and pieces.
    step : float, optional
        Fixed width of the pieces (normalised s) in place of adapting to the tolerance; ten times
        that in the outer part.
    min_distance : float, optional
        Smallest distance of two atoms (Å), where the fine part ends; default is the smallest of
        the training data.
    drop_networks : bool
        Leave the nets out of the result.
    progress : callable
        Called with a text and the fraction done.

    Raises
    ------
    InputError
        The nets are gone already, the smallest distance is unknown, or an option is unusable.
    """
    d = model.descriptor
    if not d.embeddings:
        raise InputError("this model keeps only tables: compress the file that has its networks")
    distance = min_distance if min_distance is not None else model.provenance.min_nbor_dist
    if distance is None:
        raise InputError(
            "the model does not say the smallest distance of its training data: give "
            "--min-distance (Å)"
        )
    if not 0.0 < distance < d.rcut:
        raise InputError(f"the smallest distance is {distance} Å, expected 0 < d < {d.rcut}")
    if not 1e-15 <= tolerance < 1.0:
        raise InputError(f"tolerance is {tolerance}, expected 1e-15 <= tolerance < 1")
    if step is not None and not 1e-4 <= step <= 1.0:
        raise InputError(f"step is {step}, expected 1e-4 <= step <= 1")
    smallest = _smallest_distance(d, tolerance)
    if distance < smallest:
        raise InputError(
            f"the smallest distance is {distance} Å, but tables can follow the nets of this model "
            f"down to {smallest:.2g} Å only: give a larger --min-distance"
        )

    padding_t = -d.davg_tk[:, 0] / d.dstd_tk[:, 0]
    inner_t = (_s(distance, d.rcut, d.rcut_smth) - d.davg_tk[:, 0]) / d.dstd_tk[:, 0]
    tables: list[Table] = []
    padding_tjm = np.zeros((*d.net_tt.shape, d.n_channels))
    for n, net in enumerate(d.embeddings):
        pairs = np.argwhere(d.net_tt == n).tolist()
        i, j = pairs[0]
        progress(f"{model.type_map[i]}-{model.type_map[j]}", n / len(d.embeddings))
        for i, j in pairs:
            padding_tjm[i, j] = jet.evaluate(net, padding_t[i : i + 1])[0][0]
        centres = sorted({i for i, _ in pairs})
        span = _Range(float(padding_t[centres].min()), float(inner_t[centres].max()))
        tables.append(_tabulate(net, padding_t[centres], span, tolerance, step))
    descriptor = dataclasses.replace(
        d,
        embeddings=() if drop_networks else d.embeddings,
        tables=tuple(tables),
        padding_tjm=padding_tjm,
    )
    return dataclasses.replace(model, descriptor=descriptor)


def _smallest_distance(d: Descriptor, tolerance: float) -> float:
    """Below this the range of s is too wide for cells that adapt to the nets (Å), rounded up.

    A unit of the first layer bends on the scale of 1/w in s, w being its weight, and is flat within
    the tolerance t further than x/w away, 1 - tanh(x) = t, that is x = ln(2/t)/2. A cell is halved
    if a quarter of its width is off: what bends between is not missed if that is less than x/w.
    """
    reach = 0.5 * math.log(2.0 / tolerance)
    padding_t = -d.davg_tk[:, 0] / d.dstd_tk[:, 0]
    largest = math.inf  # s before it is normalised, which is 1/r
    for n, net in enumerate(d.embeddings):
        steepest = max(float(np.abs(net.layers[0].weight_io).max()), 1e-30)
        centres = np.unique(np.argwhere(d.net_tt == n)[:, 0])
        inner = padding_t[centres].min() + _CELLS * 4.0 * reach / steepest
        largest = min(largest, float((d.davg_tk + d.dstd_tk * inner)[centres, 0].min()))
    digits = 10.0 ** (math.floor(math.log10(1.0 / largest)) - 1)
    return float(f"{math.ceil(1.0 / largest / digits) * digits:.2g}")


def _s(r: float, rcut: float, rcut_smth: float) -> float:
    """s = sw(r)/r."""
    u = min(max((r - rcut_smth) / switch_width(rcut, rcut_smth), 0.0), 1.0)
    return (u**3 * (-6 * u * u + 15 * u - 10) + 1) / r


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
            "give a larger --step or --min-distance"
        )
    basis_rm, largest = _basis(net, padding, span, tolerance)
    allowed = tolerance * largest

    pieces, coefficients = [], []
    for cell in range(n_cells):
        start = lower + cell * width
        if step is not None:
            n, part = (10 if cell < n_inner else 1), None
        else:
            bound = allowed * float(span.relaxation(np.array(start)))
            n, part = _adapted(net, basis_rm, start, width, bound)
        pieces.append(n)
        coefficients.append(_hermite(net, basis_rm, start, width, n) if part is None else part)
    table = Table(
        lower=lower,
        inner=inner,
        cell_width=width,
        pieces_q=np.array(pieces),
        coefficients_pkr=np.concatenate(coefficients),
        basis_rm=basis_rm,
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
    first_rm = _orthonormal(jet.evaluate(net, padding)[0])
    rest_pm = g_pm - (g_pm @ first_rm.T) @ first_rm
    rest_pm /= span.relaxation(grid_p)[:, None]
    _, _, directions_rm = np.linalg.svd(rest_pm, full_matrices=False)
    # the fewest directions whose remainder is nowhere above the tolerance
    residual_pm = rest_pm.copy()
    rank = 0
    while rank < len(directions_rm) and np.abs(residual_pm).max() > tolerance * largest:
        direction_m = directions_rm[rank]
        residual_pm -= np.outer(residual_pm @ direction_m, direction_m)
        rank += 1
    basis_rm = np.concatenate([first_rm, directions_rm[:rank]])
    if not len(basis_rm):  # G is zero throughout, as that of a relu net may be
        basis_rm = np.eye(1, net.n_out)
    return _orthonormal(basis_rm), largest


def _orthonormal(rows_rm: np.ndarray) -> np.ndarray:
    """Orthonormal rows with the same span, dependent ones dropped (at most M)."""
    q, r = np.linalg.qr(rows_rm.T)
    kept = np.abs(np.diag(r)) > 1e-12 * max(np.abs(r).max(), 1e-300)
    return np.ascontiguousarray(q.T[kept])


def _hermite(net: Network, basis_rm: np.ndarray, start: float, width: float, n: int) -> np.ndarray:
    """Coefficients of the `n` pieces of one cell: (n, 6, R)."""
    h = width / n
    nodes = start + h * np.arange(n + 1)
    jets = [g @ basis_rm.T * h**k for k, g in enumerate(jet.evaluate(net, nodes))]
    data_npr = np.stack(
        [values[side] for side in (slice(0, n), slice(1, n + 1)) for values in jets]
    )
    return np.einsum("dk,dnr->nkr", _HERMITE, data_npr)


def _adapted(
    net: Network, basis_rm: np.ndarray, start: float, width: float, bound: float
) -> tuple[int, np.ndarray]:
    """The fewest pieces (a power of two) whose error between the nodes is below `bound`."""
    inside_x = np.array([0.25, 0.5, 0.75])
    powers_xk = inside_x[:, None] ** np.arange(6)
    for halvings in range(_MAX_HALVINGS + 1):
        n = 2**halvings
        part_nkr = _hermite(net, basis_rm, start, width, n)
        s_nx = start + width / n * (np.arange(n)[:, None] + inside_x)
        exact_nxr = (jet.evaluate(net, s_nx.ravel())[0] @ basis_rm.T).reshape(n, 3, -1)
        if np.abs(np.einsum("xk,nkr->nxr", powers_xk, part_nkr) - exact_nxr).max() <= bound:
            break
    return n, part_nkr


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``lmp-dp compress``."""
    parser.add_argument("model", help="model file with embedding nets (.h5)")
    parser.add_argument("destination", help="model file to write (.h5)")
    parser.add_argument(
        "--tolerance", type=float, default=TOLERANCE, help="relative error (default %(default)g)"
    )
    parser.add_argument("--step", type=float, help="fixed width of the pieces (normalised s)")
    parser.add_argument("--min-distance", type=float, help="smallest distance of two atoms (Å)")
    parser.add_argument("--drop-networks", action="store_true", help="keep only the tables")


def main(args: argparse.Namespace) -> int:
    """Run ``lmp-dp compress``."""
    from lmp_dp.tools.terminal import Terminal

    files.check_destinations([args.destination], [args.model])
    model = load(args.model)
    with Terminal(stderr=True).working("compressing") as update:
        compressed = compress(
            model,
            tolerance=args.tolerance,
            step=args.step,
            min_distance=args.min_distance,
            drop_networks=args.drop_networks,
            progress=lambda stage, done: update(f"compressing {stage}: {done:.0%} done"),
        )
    save(compressed, args.destination)
    tables = compressed.descriptor.tables
    size = sum(t.coefficients_pkr.nbytes for t in tables)
    print(
        f"{printable(args.destination)}: {len(tables)} tables, {size / 1e6:.1f} MB, "
        f"up to {max(t.rank for t in tables)} basis functions for "
        f"{compressed.descriptor.n_channels} channels, "
        f"error of G {max(t.error for t in tables):.1e}, "
        f"of dG/ds {max(t.slope_error for t in tables):.1e}"
    )
    kinked = {
        layer.activation
        for net in model.descriptor.embeddings
        for layer in net.layers
        if layer.activation in ("relu", "relu6")
    }
    if kinked:
        print(
            f"warning: {' and '.join(sorted(kinked))} has kinks, which tables round off (see the "
            "errors above): compare forces with lmp-dp check before you use this file",
            file=sys.stderr,
        )
    return 0
