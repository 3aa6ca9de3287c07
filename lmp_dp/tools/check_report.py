"""What ``lmp-dp check`` found, for the terminal and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.table import Table
from rich.text import Text

from lmp_dp.text import printable
from lmp_dp.tools.check_dynamics import Dynamics
from lmp_dp.tools.check_quantities import Quantity
from lmp_dp.tools.lammps_frames import Values
from lmp_dp.tools.terminal import Terminal

REFERENCE = "reference"


@dataclass(frozen=True)
class FrameReport:
    """One frame: how it was made, and energy (eV) and largest force (eV/Å) of the yardstick."""

    displacement: float
    strain: list[float]
    energy: float
    largest_force: float


@dataclass(frozen=True)
class Comparison:
    """One model file on one backend.

    Attributes
    ----------
    model, backend, precision : str
    quantities : list of Quantity
    energies : list of float
        Total energy of each frame (eV).
    largest_force_deviations : list of float
        Of each frame (eV/Å).
    values : Values
        Everything that was evaluated; not part of the JSON.
    """

    model: str
    backend: str
    precision: str
    quantities: list[Quantity]
    energies: list[float]
    largest_force_deviations: list[float]
    values: Values = field(repr=False)

    @property
    def passed(self) -> bool:
        """True if every deviation is a number and within its tolerance."""
        return bool(self.quantities) and all(one.ratio <= 1.0 for one in self.quantities)


@dataclass(frozen=True)
class CheckReport:
    """What `run_check` found.

    Attributes
    ----------
    against : str
        File of pair style deepmd, or "reference".
    data : str
    elements : list of str
        Element of each LAMMPS type.
    n_atoms, seed : int
    frames : list of FrameReport
    comparisons : list of Comparison
        Of each model file on each backend.
    unavailable : dict
        Backends that were to be tried and cannot be used here, with the reason.
    remarks : list of str
        Doubts about the data file, and warnings of pair style dp.
    dynamics : Dynamics or None
        Of the first comparison.
    versions : dict
    target : Values
        What the yardstick gave; not part of the JSON.
    """

    against: str
    data: str
    elements: list[str]
    n_atoms: int
    seed: int
    frames: list[FrameReport]
    comparisons: list[Comparison]
    unavailable: dict[str, str]
    remarks: list[str]
    dynamics: Dynamics | None
    versions: dict[str, str]
    target: Values = field(repr=False)

    @property
    def passed(self) -> bool:
        """True if everything that was compared is within its tolerance."""
        return (
            bool(self.comparisons)
            and all(one.passed for one in self.comparisons)
            and (self.dynamics is None or self.dynamics.passed)
        )

    @property
    def yardstick(self) -> str:
        """What was compared with, in words."""
        return "backend reference" if self.against == REFERENCE else "pair deepmd"

    def as_dict(self) -> dict[str, Any]:
        """All but the arrays, for JSON."""
        found = asdict(self)
        del found["target"]
        for one, comparison in zip(found["comparisons"], self.comparisons, strict=True):
            del one["values"]
            one["passed"] = comparison.passed
        if self.dynamics is not None:
            found["dynamics"] = self.dynamics.as_dict()
        return {"passed": self.passed, **found}


#: Deviation, tolerance and share are those of the frame that comes nearest to its tolerance.
HEADINGS = ("deviation of", "frame", "largest", "tolerance", "share", "rms of all", "unit", "")


def rows(quantities: Sequence[Quantity]) -> list[list[str]]:
    """The lines of a comparison's table, below `HEADINGS`."""
    return [
        [
            quantity.name,
            str(quantity.worst_frame),
            f"{quantity.deviation:.2e}",
            f"{quantity.tolerance:.1e}",
            f"{quantity.ratio:.1g}",
            f"{quantity.rms:.2e}",
            quantity.unit,
            verdict(quantity.ratio <= 1.0),
        ]
        for quantity in quantities
    ]


def verdict(passed: bool) -> str:
    """In one word."""
    return "passed" if passed else "FAILED"


def title(report: CheckReport, one: Comparison) -> str:
    """What is compared with what."""
    return (
        f"{one.model} (backend {one.backend}, {one.precision}) and {report.yardstick}: "
        f"{report.n_atoms} atoms, {len(report.frames)} frames"
    )


def summary(report: CheckReport) -> str:
    """The result in one line."""
    if report.passed:
        return f"passed: pair dp reproduces {report.yardstick}"
    return (
        f"FAILED: pair dp deviates from {report.yardstick}. Are all files made from the same model?"
    )


def notes(report: CheckReport) -> list[str]:
    """What has to be said besides the tables."""
    found = [f"note: {text}" for text in report.remarks]
    found += [f"backend {name} was not tried: {text}" for name, text in report.unavailable.items()]
    larger = [
        f"{q.name} of {one.model} (backend {one.backend}) {q.maximum:.2e} {q.unit}"
        for one in report.comparisons
        for q in one.quantities
        if q.maximum > q.deviation
    ]
    if larger:
        found.append(
            "tolerances grow with close atoms and large forces; the tables show the frame that "
            f"comes nearest to its own. Larger, where it is allowed: {'; '.join(larger)}"
        )
    return found + (dynamics_lines(report.dynamics) if report.dynamics else [])


def dynamics_lines(dynamics: Dynamics) -> list[str]:
    """The runs at constant energy in words."""
    found, target = dynamics.departure(dynamics.found), dynamics.departure(dynamics.target)
    return [
        f"{dynamics.steps} steps at constant energy ({dynamics.found.times_z[-1]:g} ps): total "
        f"energy departs by {found:.1e} eV/atom, with the other by {target:.1e}; allowed "
        f"{dynamics.tolerance:.1e}: {verdict(dynamics.passed)}",
        f"largest difference of radial distribution functions: "
        f"{dynamics.largest_rdf_difference:.1e} (largest value {dynamics.target.rdf_uh.max():.1f})",
    ]


def show(report: CheckReport, console: Terminal) -> None:
    """Print tables and the result."""
    for one in report.comparisons:
        table = Table(title=printable(title(report, one)), title_justify="left")
        for heading in HEADINGS:
            table.add_column(heading, justify="left" if heading == HEADINGS[0] else "right")
        for *cells, result in rows(one.quantities):
            colour = "green" if result == verdict(True) else "red"
            table.add_row(*cells, Text(result, style=colour))
        console.print(table)
    for line in notes(report):
        console.say(line)
    console.say(summary(report))
