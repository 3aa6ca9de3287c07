"""What ``lmp-dp check`` found, as a page with tables and figures that needs no other file."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape as escape_html

from lmp_dp.text import printable
from lmp_dp.tools import check_plot
from lmp_dp.tools.check_report import HEADINGS, CheckReport, notes, rows, summary, title, verdict

STYLE = """
body { font: 15px/1.5 sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; margin: 0 0 1.5rem } td, th { padding: .15rem .8rem }
th { border-bottom: 1px solid; text-align: right } td { text-align: right }
td:first-child, th:first-child { text-align: left; padding-left: 0 } img { max-width: 100% }
.passed { color: #1a7f37 } .FAILED { color: #cf222e; font-weight: bold }
"""


def escape(text: str) -> str:
    """Text as it may stand in a page."""
    return escape_html(printable(text))


def html(report: CheckReport) -> str:
    """The page."""
    result = verdict(report.passed)
    body = [
        f'<h1>lmp-dp check: <span class="{result}">{result}</span></h1>',
        f"<p>{escape(summary(report))}</p>",
        f"<p>Data: {escape(report.data)}, elements {escape(' '.join(report.elements))}. "
        f"Compared with: {escape(report.against)}. Seed {report.seed}. Versions: "
        + escape(", ".join(f"{name} {version}" for name, version in report.versions.items()))
        + ".</p>",
    ]
    for one in report.comparisons:
        body += [f"<h2>{escape(title(report, one))}</h2>", _table(HEADINGS, rows(one.quantities))]
    body += [f"<p>{escape(line)}</p>" for line in notes(report)]
    body += ["<h2>Values and deviations</h2>", _image(check_plot.png(check_plot.parity(report)))]
    if report.dynamics:
        body.append("<h2>Runs at constant energy</h2>")
        body.append(_image(check_plot.png(check_plot.dynamics(report))))
    frames = [
        [str(f), f"{one.displacement:.3g}", f"{max(map(abs, one.strain)):.3f}",
         f"{one.energy:.6f}", f"{one.largest_force:.3f}"]
        for f, one in enumerate(report.frames)
    ]  # fmt: skip
    headings = (
        "frame",
        "displaced by up to, Å",
        "largest strain",
        "energy, eV",
        "largest force, eV/Å",
    )
    body += [f"<h2>Frames ({escape(report.yardstick)})</h2>", _table(headings, frames)]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"/><title>lmp-dp check</title>'
        f"<style>{STYLE}</style></head>\n<body>\n" + "\n".join(body) + "\n</body></html>\n"
    )


def _table(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(text)}</th>" for text in headings)
    body = "".join(
        "<tr>"
        + "".join(
            f'<td class="{text}">{text}</td>'
            if text in (verdict(True), verdict(False))
            else f"<td>{escape(text)}</td>"
            for text in line
        )
        + "</tr>\n"
        for line in lines
    )
    return f"<table><tr>{head}</tr>\n{body}</table>"


def _image(content: bytes) -> str:
    return f'<img alt="" src="data:image/png;base64,{base64.b64encode(content).decode()}"/>'
