"""``lmp-dp compress``: tabulate the embedding nets of a model (`lmp_dp.engine.tabulation`)."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable

from lmp_dp import files
from lmp_dp.engine import tabulation
from lmp_dp.errors import InputError
from lmp_dp.model import DeepPotential, PairNets, load, save
from lmp_dp.model.mapped import find_all, replace_all
from lmp_dp.text import printable

#: Default bound of the tables' error, relative to the largest |G|.
TOLERANCE = 1e-9


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
    distance = _smallest_distance(model, min_distance, tolerance, step)
    tabulated = tabulation.with_tables(model, distance, tolerance, step, progress)
    if not drop_networks:
        return tabulated
    return replace_all(tabulated, PairNets, lambda nets: dataclasses.replace(nets, embeddings=()))


def _smallest_distance(
    model: DeepPotential, asked: float | None, tolerance: float, step: float | None
) -> float:
    """The smallest distance of two atoms (Å), when all arguments can be used."""
    descriptor = model.descriptor
    pair_nets = find_all(descriptor, PairNets)
    if not pair_nets:
        raise InputError(
            f"descriptor {descriptor.kind} has no embedding nets that could be tabulated"
        )
    if not all(nets.embeddings for nets in pair_nets):
        raise InputError("this model keeps only tables: compress the file that has its networks")
    distance = asked if asked is not None else model.provenance.min_nbor_dist
    if distance is None:
        raise InputError(
            "the model does not say the smallest distance of its training data: give "
            "--min-distance (Å)"
        )
    if not 0.0 < distance < model.rcut:
        raise InputError(f"the smallest distance is {distance} Å, expected 0 < d < {model.rcut}")
    if not 1e-15 <= tolerance < 1.0:
        raise InputError(f"tolerance is {tolerance}, expected 1e-15 <= tolerance < 1")
    if step is not None and not 1e-4 <= step <= 1.0:
        raise InputError(f"step is {step}, expected 1e-4 <= step <= 1")
    smallest = tabulation.smallest_distance(model, tolerance)
    if distance < smallest:
        raise InputError(
            f"the smallest distance is {distance} Å, but tables can follow the nets of this model "
            f"down to {smallest:.2g} Å only: give a larger --min-distance"
        )
    return distance


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
    tables = compressed.tables
    size = sum(t.coefficients_veq.nbytes for t in tables)
    print(
        f"{printable(args.destination)}: {len(tables)} tables, {size / 1e6:.1f} MB, "
        f"up to {max(t.rank for t in tables)} basis functions for "
        f"{compressed.descriptor.n_channels} channels, "
        f"error of G {max(t.error for t in tables):.1e}, "
        f"of dG/ds {max(t.slope_error for t in tables):.1e}"
    )
    kinked = {
        layer.activation
        for nets in find_all(model.descriptor, PairNets)
        for net in nets.embeddings
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
