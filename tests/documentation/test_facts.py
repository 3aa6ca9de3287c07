"""What README and pages list is what there is: defaults, commands, tests, pages."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from lmp_dp import cli
from lmp_dp.lammps import arguments
from lmp_dp.tools import help as help_tool

ROOT = Path(__file__).parents[2]
PAGES = help_tool.pages()


def test_the_defaults_of_the_pair_style() -> None:
    text = " ".join(help_tool.with_words(PAGES["pair_style"], ["Default"]).split())
    default = arguments.read_arguments(["model.h5"])
    for name in ("out_file", "out_freq"):
        assert f"`{name} {getattr(default, name)}`" in text
    for name in ("compress", "timing"):
        assert not getattr(default, name)
        assert f"`{name} no`" in text


def test_what_of_lammps_works_names_tests_that_exist() -> None:
    text = help_tool.with_words(PAGES["pair_style"], ["What", "works"])
    rows = [row for row in text.splitlines() if row.startswith("| ")][2:]
    assert len(rows) > 25
    for row in rows:
        names = re.findall(r"`(test_\w+)`", row)
        assert names or "untested" in row, row
        for name in names:
            assert (ROOT / "tests" / "lammps" / f"{name}.py").exists(), name


def test_all_commands_are_listed() -> None:
    (commands,) = (
        action.choices
        for action in cli._parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    listed = set(re.findall(r"^\| `lmp-dp (\w+)", PAGES["commands"], re.MULTILINE))
    assert listed == set(commands)


def test_the_readme_is_short_and_names_all_pages() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 120
    assert set(re.findall(r"\(lmp_dp/pages/(\w+)\.md", text)) == set(PAGES)
