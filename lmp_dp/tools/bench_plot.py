"""Bars and a Markdown table of what ``lmp-dp bench`` measured.

`python -m lmp_dp.tools.bench_plot FILE.png REPORT.json...` draws reports that were saved, one
panel per report and size, and prints their table.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from lmp_dp import files
from lmp_dp.text import printable
from lmp_dp.tools.bench_report import DEEPMD, DP, BenchReport, ratio_of

COLOURS = {DP: "#2a6fbb", DEEPMD: "#b9b9b9"}


def draw(reports: Sequence[BenchReport], path: str | Path) -> None:
    """Write a PNG: time per atom and step of each configuration, ratios on the bars of pair dp.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    panels = [
        (report, n_atoms)
        for report in reports
        for n_atoms in dict.fromkeys(one.n_atoms for one in report.figures)
    ]
    bars = max(sum(one.n_atoms == n for one in report.figures) for report, n in panels)
    columns = min(len(panels), max(2, 10 // bars))
    rows = -(-len(panels) // columns)
    figure = Figure(
        figsize=(max(5.0, columns * (0.8 + 0.75 * bars)), 0.6 + 3.4 * rows), layout="constrained"
    )
    all_axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in all_axes[len(panels) :]:
        axes.set_visible(False)
    for axes, (report, n_atoms) in zip(all_axes, panels, strict=False):
        _panel(axes, report, n_atoms)
    styles = [DP, DEEPMD] if any(report.against for report in reports) else [DP]
    figure.legend(
        handles=[Patch(color=COLOURS[style], label=f"pair {style}") for style in styles],
        loc="outside upper left",
        ncols=2,
        frameon=False,
    )
    content = BytesIO()
    figure.savefig(content, format="png", dpi=150)
    files.write(path, content.getbuffer())


def markdown(reports: Sequence[BenchReport]) -> str:
    """Rows of the fastest configurations of both styles on the most cores, per report and size."""
    lines = [
        "| model | atoms | pair dp, µs/atom/step | pair deepmd | ratio (smallest–largest) |",
        "|---|---|---|---|---|",
    ]
    for report in reports:
        kind = f"{report.precision}, {'' if report.compressed else 'un'}compressed"
        for n_atoms in dict.fromkeys(one.n_atoms for one in report.figures):
            figures = [one for one in report.figures if one.n_atoms == n_atoms]
            most = max(one.layout.cores for one in figures)
            best = {
                style: min(
                    (f for f in figures if f.style == style and f.layout.cores == most),
                    key=lambda one: one.us_per_atom_step.median,
                    default=None,
                )
                for style in (DP, DEEPMD)
            }
            cells = [
                "–" if one is None else f"{one.us_per_atom_step.median:.3g} ({one.layout})"
                for one in best.values()
            ]
            ours = best[DP]
            ratio = None if ours is None else ratio_of(report, ours)
            quotient = (
                "–" if ratio is None else f"{ratio.ratio:.2f} ({ratio.min:.2f}–{ratio.max:.2f})"
            )
            lines.append(
                f"| {Path(report.model).stem}: {kind} | {n_atoms:,} | {' | '.join(cells)} "
                f"| {quotient} |"
            )
    return "\n".join(lines)


def _panel(axes: Axes, report: BenchReport, n_atoms: int) -> None:
    figures = [one for one in report.figures if one.n_atoms == n_atoms]
    top = max(one.us_per_atom_step.max for one in figures)
    at, cores, ticks = 0.0, figures[0].layout.cores, []
    for one in figures:
        at += 1.0 if one.layout.cores == cores else 1.5  # a gap where the number of cores changes
        cores = one.layout.cores
        ticks.append(at)
        time = one.us_per_atom_step
        axes.bar(
            at,
            time.median,
            0.85,
            yerr=[[time.median - time.min], [time.max - time.median]]
            if report.repeats > 1
            else None,
            color=COLOURS[one.style],
            error_kw={"elinewidth": 1.0, "capsize": 2.0},
        )
        text = f"{time.median:.3g}"
        ratio = ratio_of(report, one)
        if ratio is not None:
            text = f"{ratio.ratio:.1f}×\n{text}"
        axes.text(at, time.max + 0.01 * top, text, ha="center", va="bottom", fontsize=9)
    labels = [
        f"{one.ranks} rank{'s' * (one.ranks > 1)}"
        + (f"\n{one.threads} threads" if one.threads > 1 else "")
        for one in figures
    ]
    axes.set_xticks(ticks, labels, fontsize=8)
    axes.set_xlim(ticks[0] - 0.7, max(ticks[-1], 2.0) + 0.7)
    axes.set_ylim(0.0, 1.2 * top)
    axes.set_ylabel("µs per atom and step")
    compressed = ", compressed" if report.compressed else ""
    title = f"{printable(report.model)}: {n_atoms:,} atoms\n{report.precision}{compressed}"
    axes.set_title(title, fontsize=9, parse_math=False)
    axes.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    saved = [BenchReport.from_json(Path(name).read_text()) for name in sys.argv[2:]]
    draw(saved, sys.argv[1])
    print(markdown(saved))
