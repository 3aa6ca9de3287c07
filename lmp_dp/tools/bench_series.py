"""The runs of ``lmp-dp bench``: which configurations, in which order, from which input."""

from __future__ import annotations

import itertools
import os
import platform
import re
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from lmp_dp.engine.model_cache import opened
from lmp_dp.tools import requirements
from lmp_dp.tools.bench_figures import energy_deviation, figures_of, ratios_of
from lmp_dp.tools.bench_report import DEEPMD, DP, BenchReport, Layout, Run
from lmp_dp.tools.bench_run import STARTED, measure
from lmp_dp.tools.lammps_frames import quoted, read_data, write_data
from lmp_dp.tools.requirements import ComparisonError

#: Potential energies (eV per atom) further apart than this are not those of one model.
LARGEST_ENERGY_DEVIATION = 1e-3


@dataclass(frozen=True)
class Protocol:
    """What every run does, and how often.

    Attributes
    ----------
    steps, warm_up : int
        Timed steps, and untimed ones before them.
    repeats : int
        Runs of each configuration.
    timestep_ps : float
    skin : float
        Distance that neighbour lists reach beyond the cutoff (Å).
    neigh_every : int
        Steps from one neighbour list to the next.
    replicate : sequence of three int
        Sizes: multiples of the data file's box.
    precision : str or None
        Of pair style dp; None: the model's own.
    backend : str
        Of pair style dp.
    """

    steps: int = 100
    warm_up: int = 10
    repeats: int = 3
    timestep_ps: float = 0.0005
    skin: float = 2.0
    neigh_every: int = 10
    replicate: Sequence[Sequence[int]] = ((1, 1, 1),)
    precision: str | None = None
    backend: str = "auto"

    def styles(self, model: str | Path, against: str | Path | None) -> dict[str, str]:
        """Arguments of the command pair_style, by style."""
        found = {DP: f"dp {quoted(Path(model).resolve())} backend {self.backend}"}
        if self.precision is not None:
            found[DP] += f" precision {self.precision}"
        if against is not None:
            found[DEEPMD] = f"deepmd {quoted(Path(against).resolve())}"
        return found

    @property
    def sizes(self) -> list[tuple[int, ...]]:
        """`replicate`, hashable."""
        return [tuple(cells) for cells in self.replicate]

    def script(
        self, configuration: Path, size: Sequence[int], style: str, elements: Sequence[str]
    ) -> str:
        """The input of one run."""
        return (
            "units metal\nboundary p p p\natom_style atomic\nbox tilt large\n"
            f"read_data {quoted(configuration)}\nreplicate {' '.join(map(str, size))}\n"
            f"pair_style {style}\npair_coeff * * {' '.join(elements)}\n"
            f"neighbor {self.skin} bin\n"
            f"neigh_modify every {self.neigh_every} delay 0 check no\n"
            "velocity all create 300 4928459\n"
            f"timestep {self.timestep_ps}\nfix nve all nve\nthermo 100\n"
            f'run 0\nprint "$(pe/atoms:%.17g)" file {STARTED}\n'
            + (f"run {self.warm_up}\n" if self.warm_up else "")
            + f"run {self.steps}\n"
        )


def run_bench(
    model: str | Path,
    data: str | Path,
    *,
    against: str | Path | None = None,
    elements: Sequence[str] = (),
    layouts: Sequence[Layout] = (Layout(1),),
    deepmd_layouts: Sequence[Layout] | None = None,
    protocol: Protocol | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> BenchReport:
    """Time pair style dp, and pair style deepmd beside it, in LAMMPS.

    Parameters
    ----------
    model : path
        Model of pair style dp: a model file, or one that can be converted.
    data : path
        LAMMPS data file in metal units, periodic in all directions.
    against : path, optional
        Model of pair style deepmd (a frozen graph).
    elements : sequence of str
        Element of each LAMMPS type; default: the model's own order.
    layouts : sequence of Layout
        Configurations of pair dp.
    deepmd_layouts : sequence of Layout, optional
        Configurations of pair deepmd; default: those of pair dp that have one thread per rank, in
        which pair deepmd is fastest on few cores.
    protocol : Protocol, optional
        What every run does; default: `Protocol()`.
    progress : callable
        Called with a text before each run.

    Raises
    ------
    ComparisonError
        deepmd-kit, LAMMPS or mpirun is missing, a file does not exist, a run fails.
    LmpDpError
        The model cannot be read.
    """
    protocol = protocol or Protocol()
    versions = requirements.versions(with_deepmd=against is not None)
    requirements.files_exist([data] if against is None else [data, against])
    loaded = opened(model)
    groups = _groups(layouts, _layouts_of_deepmd(against, layouts, deepmd_layouts))
    styles = protocol.styles(model, against)
    start, described = read_data(Path(data).resolve())
    names = list(elements) or list(loaded.type_map)[: len(start.masses_y)]
    machine = _machine()
    notes = _notes(machine, [layout for group in groups for _, layout in group])
    notes += described.notes(names)
    with tempfile.TemporaryDirectory(prefix="lmp_dp_") as directory:
        configuration = Path(directory, "start.data")
        write_data(start.with_masses(names), configuration)
        scripts = {
            (style, size): protocol.script(configuration, size, arguments, elements)
            for style, arguments in styles.items()
            for size in protocol.sizes
        }
        runs, warnings = _measured(scripts, groups, protocol, progress)
    notes += warnings
    deviation = energy_deviation(runs)
    if deviation > LARGEST_ENERGY_DEVIATION:
        notes.append(
            f"the pair styles differ by {deviation:.1e} eV per atom: these are not the same model"
        )
    figures = figures_of(runs)
    return BenchReport(
        model=Path(model).name,
        against=Path(against).name if against is not None else None,
        data=Path(data).name,
        elements=list(elements) or list(loaded.type_map),
        precision=protocol.precision or loaded.precision,
        compressed=bool(loaded.tables),
        steps=protocol.steps,
        warm_up=protocol.warm_up,
        repeats=protocol.repeats,
        timestep_ps=protocol.timestep_ps,
        skin=protocol.skin,
        neigh_every=protocol.neigh_every,
        date=datetime.now(timezone.utc).date().isoformat(),
        machine=machine,
        versions=versions,
        figures=figures,
        ratios=ratios_of(figures, runs),
        runs=runs,
        notes=list(dict.fromkeys(notes)),
    )


def _layouts_of_deepmd(
    against: str | Path | None, layouts: Sequence[Layout], asked: Sequence[Layout] | None
) -> Sequence[Layout]:
    if against is None:
        return []
    found = asked
    if found is None:
        found = [layout for layout in layouts if layout.threads == 1]
    if not found:
        raise ComparisonError(
            "no configuration for pair deepmd: name one with one thread per rank, or give its own "
            "(--deepmd-ranks)"
        )
    return found


def _measured(
    scripts: dict[tuple[str, tuple[int, ...]], str],
    groups: Sequence[Sequence[tuple[str, Layout]]],
    protocol: Protocol,
    progress: Callable[[str], None],
) -> tuple[list[Run], list[str]]:
    """All runs, and the warnings of pair style dp in them."""
    runs: list[Run] = []
    notes: list[str] = []
    repeats = protocol.repeats
    for size, group in itertools.product(protocol.sizes, groups):
        for repeat, (style, layout) in itertools.product(range(repeats), group):
            text = " ".join(map(str, size))
            progress(f"{text}, pair {style}, {layout}, run {repeat + 1} of {repeats}")
            run, warnings = measure(scripts[style, size], style, layout, list(size), repeat)
            runs.append(run)
            notes += warnings
    return runs, notes


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
