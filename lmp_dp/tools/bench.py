"""``lmp-dp bench``: how fast are pair styles dp and deepmd in whole LAMMPS runs?

Each run is a fresh process: `lmp-dp run` for pair dp, the `lmp` program of the same environment for
pair deepmd, under its `mpirun` if there are several ranks. All runs read the same input (units
metal, fix nve, equal velocities and neighbour settings) and only the pair style differs. The
configurations on equally many cores are run in turn (A B A B), as often as there are repeats.

A run is `run 0`, then an untimed `run` that warms up, then the timed `run`. Measured are

* time per atom and step: LAMMPS's own "Loop time" of the timed run;
* start-up time: from the start of the process (of mpirun) to the end of `run 0`, that is until the
  first forces are there, by the time stamp of a file that LAMMPS writes then;
* peak memory: the largest resident size of the process of a rank, as the system counts it
  (ru_maxrss), summed over the ranks. Libraries that ranks share count in each of them. `lmp` is a
  Python script that waits for LAMMPS's own program; the larger of the two counts.

Medians over the repeats; the spread is the smallest and the largest value. A ratio is the median of
deepmd over the median of dp, its spread that of the ratios within the repeats.
"""

from __future__ import annotations

import argparse
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from lmp_dp import files
from lmp_dp.engine import backends
from lmp_dp.tools import options, requirements
from lmp_dp.tools.bench_report import Layout, table
from lmp_dp.tools.bench_series import Protocol, run_bench
from lmp_dp.tools.options import count, not_negative_number, positive, positive_number
from lmp_dp.tools.terminal import Terminal


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``lmp-dp bench``."""
    parser.add_argument("model", help="model of pair style dp (.h5, .pb, ...)")
    parser.add_argument(
        "--against", metavar="FILE", help="model for pair style deepmd (frozen .pb); default: none"
    )
    options.add_system(parser)
    parser.add_argument(
        "--replicate", nargs=3, type=positive, action="append", metavar=("NX", "NY", "NZ"),
        help="multiples of the data file's box; give it once per size (default 1 1 1)",
    )  # fmt: skip
    parser.add_argument(
        "--ranks", type=_layouts, default=[Layout(1)], metavar="LIST",
        help="configurations, e.g. 1,2,1x2: R is R MPI ranks of one thread, for both styles; RxT "
        "is R ranks of T threads, for pair dp only (default 1)",
    )  # fmt: skip
    parser.add_argument(
        "--deepmd-ranks", type=_layouts, metavar="LIST",
        help="configurations of pair deepmd, written alike (default: those with one thread)",
    )  # fmt: skip
    parser.add_argument(
        "--steps", type=positive, default=100, metavar="N", help="timed steps (default 100)"
    )
    parser.add_argument(
        "--warm-up", type=count, default=10, metavar="N",
        help="untimed steps before, in the same process (default 10)",
    )  # fmt: skip
    parser.add_argument(
        "--repeats", type=positive, default=3, metavar="N", help="runs of each (default 3)"
    )
    parser.add_argument(
        "--precision", choices=("float64", "float32"), help="of pair dp (default: the model's)"
    )
    parser.add_argument(
        "--backend", choices=backends.NAMES, default="auto", help="of pair dp (default auto)"
    )
    parser.add_argument(
        "--timestep",
        type=positive_number,
        default=0.0005,
        metavar="PS",
        help="in ps (default 0.0005)",
    )
    parser.add_argument(
        "--skin",
        type=not_negative_number,
        default=2.0,
        metavar="A",
        help="LAMMPS's neighbor, in A (default 2)",
    )
    parser.add_argument(
        "--neigh-every", type=positive, default=10, metavar="N",
        help="steps between neighbour lists (default 10)",
    )  # fmt: skip
    parser.add_argument("--json", metavar="FILE", help="write everything that was measured")
    parser.add_argument("--plot", metavar="FILE", help="draw the figures (.png); needs matplotlib")


def _layouts(text: str) -> list[Layout]:
    layouts = []
    for word in text.split(","):
        match = re.fullmatch(r"\s*([1-9]\d*)(?:x([1-9]\d*))?\s*", word)
        if not match:
            raise argparse.ArgumentTypeError(f"'{word}' is neither R nor RxT, as in 1,2,1x2")
        layouts.append(Layout(int(match.group(1)), int(match.group(2) or 1)))
    return list(dict.fromkeys(layouts))


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """SIGTERM as an exception, like Ctrl-C, so that the LAMMPS processes are ended as well."""
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def main(args: argparse.Namespace) -> int:
    """``lmp-dp bench``: 0; errors are raised (status 2)."""
    # before the long part: what would only fail after it
    sources = [path for path in (args.model, args.against, args.data) if path is not None]
    files.check_destinations([args.json, args.plot], sources)
    if args.plot:
        requirements.matplotlib_for("--plot")
    protocol = Protocol(
        steps=args.steps,
        warm_up=args.warm_up,
        repeats=args.repeats,
        timestep_ps=args.timestep,
        skin=args.skin,
        neigh_every=args.neigh_every,
        replicate=args.replicate or [(1, 1, 1)],
        precision=args.precision,
        backend=args.backend,
    )
    with _ended_by_sigterm(), Terminal(stderr=True).working("starting") as update:
        report = run_bench(
            args.model,
            args.data,
            against=args.against,
            elements=args.elements,
            layouts=args.ranks,
            deepmd_layouts=args.deepmd_ranks,
            protocol=protocol,
            progress=update,
        )
    console = Terminal()
    console.print(table(report))
    machine = report.machine
    console.say(f"{machine['cpu']}, {machine['cores']} cores")
    for note in report.notes:
        console.say(f"note: {note}")
    if args.json:
        files.write(args.json, report.to_json().encode())
    if args.plot:
        from lmp_dp.tools import bench_plot

        bench_plot.draw([report], args.plot)
    return 0
