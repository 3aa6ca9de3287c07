"""What ``lmp-dp bench`` measured: runs, medians with their spread, ratios; as JSON and table."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.table import Table
from rich.text import Text

from lmp_dp.text import printable

DP, DEEPMD = "dp", "deepmd"


@dataclass(frozen=True, order=True)
class Layout:
    """MPI ranks, and threads of each."""

    ranks: int
    threads: int = 1

    @property
    def cores(self) -> int:
        """Cores that are kept busy."""
        return self.ranks * self.threads

    def __str__(self) -> str:
        return f"{self.ranks}x{self.threads}"


@dataclass(frozen=True)
class Run:
    """One LAMMPS process (or one mpirun of several).

    Attributes
    ----------
    style : str
        "dp" or "deepmd".
    replicate : list of int
    n_atoms, ranks, threads, repeat : int
    us_per_atom_step, loop_time_s, startup_s : float
    peak_memory_mib : list of float
        Of each rank.
    lammps_memory_mib : float or None
        Average of LAMMPS's "Per MPI rank memory allocation", which is part of the peak.
    sections_s : dict
        LAMMPS's breakdown of the loop time (Pair, Neigh, Comm, ...), average over ranks.
    energy_per_atom : float
        Potential energy at the first step (eV).
    backend : str or None
        Of pair dp.
    """

    style: str
    replicate: list[int]
    n_atoms: int
    ranks: int
    threads: int
    repeat: int
    us_per_atom_step: float
    loop_time_s: float
    startup_s: float
    peak_memory_mib: list[float]
    lammps_memory_mib: float | None
    sections_s: dict[str, float]
    energy_per_atom: float
    backend: str | None = None


@dataclass(frozen=True)
class Spread:
    """Median, smallest and largest value of the repeats."""

    median: float
    min: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of some values."""
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class Figures:
    """One pair style in one configuration, over all repeats."""

    style: str
    replicate: list[int]
    n_atoms: int
    ranks: int
    threads: int
    us_per_atom_step: Spread
    startup_s: Spread
    peak_memory_mib: Spread  # sum over ranks

    @property
    def layout(self) -> Layout:
        """Ranks and threads."""
        return Layout(self.ranks, self.threads)


@dataclass(frozen=True)
class Ratio:
    """How many times faster pair dp is.

    Attributes
    ----------
    n_atoms, cores : int
    dp, deepmd : str
        The configurations compared; for deepmd the fastest on this number of cores.
    best : bool
        True if that of dp is the fastest on this number of cores, too.
    ratio, min, max : float
        Quotient of the medians; smallest and largest quotient within a repeat.
    """

    n_atoms: int
    cores: int
    dp: str
    deepmd: str
    best: bool
    ratio: float
    min: float
    max: float


@dataclass(frozen=True)
class BenchReport:
    """What `run_bench` measured. Names of files without their folders; nothing names the host."""

    model: str
    against: str | None
    data: str
    elements: list[str]
    precision: str
    compressed: bool
    steps: int
    warm_up: int
    repeats: int
    timestep_ps: float
    skin: float
    neigh_every: int
    date: str
    machine: dict[str, Any]
    versions: dict[str, str]
    figures: list[Figures]
    ratios: list[Ratio]
    runs: list[Run]
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> str:
        """Everything, as JSON."""
        return json.dumps(asdict(self), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> BenchReport:
        """A report that `to_json` wrote."""
        values = json.loads(text)
        for figures in values["figures"]:
            for name in ("us_per_atom_step", "startup_s", "peak_memory_mib"):
                figures[name] = Spread(**figures[name])
        values["figures"] = [Figures(**figures) for figures in values["figures"]]
        values["ratios"] = [Ratio(**ratio) for ratio in values["ratios"]]
        values["runs"] = [Run(**run) for run in values["runs"]]
        return cls(**values)


def table(report: BenchReport) -> Table:
    """The report as a table for the terminal."""
    kind = "compressed" if report.compressed else "uncompressed"
    result = Table(
        title=printable(f"{report.model} ({report.precision}, {kind})")
        + (printable(f" and {report.against}") if report.against else "")
        + f": {report.steps} steps, {report.repeats} repeat{'s' * (report.repeats > 1)}"
        + ", median (smallest–largest)" * (report.repeats > 1),
        title_justify="left",
    )
    headings = ["atoms", "pair", "ranks x\nthreads", "µs/atom/step", "start-up\ns", "memory\nMiB"]
    for heading in [*headings, "deepmd / dp"] if report.against else headings:
        result.add_column(
            heading, justify="left" if heading == "pair" else "right", overflow="fold"
        )
    last = None
    row: list[str | Text]
    for one in report.figures:
        if last not in (None, (one.n_atoms, one.layout.cores)):
            result.add_section()
        last = (one.n_atoms, one.layout.cores)
        row = [f"{one.n_atoms:,}", one.style, str(one.layout), _text(one.us_per_atom_step)]
        row += [f"{one.startup_s.median:.1f}", f"{one.peak_memory_mib.median:.0f}"]
        ratio = ratio_of(report, one)
        if ratio is not None:
            text = _text(Spread(ratio.ratio, ratio.min, ratio.max))
            row.append(Text(text, style="bold" if ratio.best else ""))
        result.add_row(*row)
    return result


def ratio_of(report: BenchReport, one: Figures) -> Ratio | None:
    """The ratio that belongs to a configuration of pair dp; None if there is none."""
    if one.style != DP:
        return None
    wanted = (one.n_atoms, str(one.layout))
    return next((r for r in report.ratios if (r.n_atoms, r.dp) == wanted), None)


def _text(spread: Spread) -> str:
    digits = 1 if spread.median >= 100.0 else 2
    median = f"{spread.median:.{digits}f}"
    if spread.min == spread.max:
        return median
    return f"{median} ({spread.min:.{digits}f}–{spread.max:.{digits}f})"
