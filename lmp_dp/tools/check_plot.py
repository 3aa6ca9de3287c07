"""Figures of what ``lmp-dp check`` found."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from lmp_dp.text import printable
from lmp_dp.tools.check_report import CheckReport

BLUE, GREY = "#2a6fbb", "#b9b9b9"


def png(figure: Figure) -> bytes:
    """The figure as a file."""
    content = BytesIO()
    figure.savefig(content, format="png", dpi=130)
    return content.getvalue()


def parity(report: CheckReport) -> Figure:
    """Of each comparison: energies and forces against the yardstick's, and deviations of forces."""
    comparisons = report.comparisons
    figure = Figure(figsize=(10.0, 0.3 + 3.2 * len(comparisons)), layout="constrained")
    target = report.target
    n = report.n_atoms
    for one, axes in zip(
        comparisons, figure.subplots(len(comparisons), 3, squeeze=False), strict=True
    ):
        name = f"{Path(one.model).name} ({one.backend})"
        found = one.values
        _diagonal(axes[0], target.energies_z / n, found.energies_z / n, "energy, eV/atom", "o")
        _diagonal(axes[1], target.forces_zac, found.forces_zac, "force, eV/Å", ".")
        deviation = (found.forces_zac - target.forces_zac).ravel()
        axes[2].plot(target.forces_zac.ravel(), deviation, ".", color=BLUE, markersize=2)
        axes[2].set(xlabel=f"force, eV/Å, {report.yardstick}", ylabel="deviation of force, eV/Å")
        axes[0].locator_params(axis="x", nbins=4)
        axes[0].set_ylabel(f"{printable(name)}\nenergy, eV/atom", parse_math=False)
        axes[0].set_xlabel(f"energy, eV/atom, {report.yardstick}")
        axes[1].set_xlabel(f"force, eV/Å, {report.yardstick}")
    return figure


def dynamics(report: CheckReport) -> Figure:
    """Total energy in time, and radial distribution functions, of both runs."""
    assert report.dynamics is not None
    runs = report.dynamics
    figure = Figure(figsize=(10.0, 3.6), layout="constrained")
    energy, rdf = figure.subplots(1, 2)
    for run, name, style in (
        (runs.target, report.yardstick, {"color": GREY, "linewidth": 4}),
        (runs.found, "pair dp", {"color": BLUE, "linewidth": 1}),
    ):
        departure = 1e3 * (run.energies_z - run.energies_z[0]) / runs.n_atoms
        energy.plot(run.times_z, departure, label=name, **style)
        for pair, g_h in zip(runs.pairs, run.rdf_uh, strict=True):
            rdf.plot(run.distances_h, g_h, **style)
            if run is runs.target:
                peak = g_h.argmax()
                rdf.annotate(pair, (run.distances_h[peak], g_h[peak]), parse_math=False)
    energy.set(xlabel="time, ps", ylabel="total energy - first value, meV/atom")
    energy.legend(frameon=False)
    rdf.set(xlabel="distance, Å", ylabel="radial distribution function")
    return figure


def _diagonal(axes: Any, x: Any, y: Any, label: str, marker: str) -> None:
    x, y = x.ravel(), y.ravel()
    low, high = min(x.min(), y.min()), max(x.max(), y.max())
    axes.plot([low, high], [low, high], color=GREY, linewidth=1)
    axes.plot(x, y, marker, color=BLUE, markersize=4 if marker == "o" else 2)
    axes.set_ylabel(label)
