"""``lmp-dp compress``: tabulate the embedding nets of a model (`lmp_dp.engine.compression`)."""

from __future__ import annotations

import argparse
import sys

from lmp_dp import files
from lmp_dp.engine.compression import TOLERANCE, compress, doubts_of_tables
from lmp_dp.engine.model_cache import opened
from lmp_dp.model import save
from lmp_dp.text import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``lmp-dp compress``."""
    parser.add_argument("model", help="model with embedding nets (.h5, .pb, ...)")
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
    model = opened(args.model)
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
    if doubts := doubts_of_tables(model):
        print(f"warning: {doubts}", file=sys.stderr)
    return 0
