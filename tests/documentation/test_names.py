"""Keywords, options, environment variables: those of the code are in the pages, and no others."""

from __future__ import annotations

import argparse
import re

from documentation import markdown
from lmp_dp import cli
from lmp_dp.lammps import launcher
from lmp_dp.lammps.arguments import _KEYWORDS, USAGE
from lmp_dp.tools import doctor, plugin

TEXT = {path: path.read_text() for path in markdown.documents()}
#: What tells users how to use the package; histories and notes on the code speak of other things.
FOR_USERS = [*markdown.PAGES.glob("*.md"), markdown.ROOT / "README.md"]
#: Messages, which have a test of their own, are no commands.
CODE = [
    line for path in FOR_USERS if path.name != "troubleshooting.md" for line in markdown.code(path)
]


def options() -> dict[str, set[str]]:
    """The long options of each command of lmp-dp, with those of commands below it."""

    def below(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
        return {
            name: found
            for action in parser._actions
            if isinstance(action, argparse._SubParsersAction)
            for name, found in action.choices.items()
        }

    def of(parser: argparse.ArgumentParser) -> set[str]:
        long = {option for option in parser._option_string_actions if option.startswith("--")}
        return long.union(*map(of, below(parser).values()))

    found = {name: of(parser) for name, parser in below(cli._parser()).items()}
    of_tools = {}
    for tool in (doctor, plugin):  # which cli calls without the parser of the others
        parser = argparse.ArgumentParser()
        tool.add_arguments(parser)
        of_tools[tool.__name__.rpartition(".")[2]] = of(parser)
    return {**found, **of_tools, "run": {launcher.OPTION}}


def variables() -> set[str]:
    """Environment variables of ours that Python or the plugin asks for."""
    return {
        name
        for path in (markdown.ROOT / "lmp_dp").rglob("*")
        if path.suffix in (".py", ".cpp", ".h")
        for name in re.findall(r"[\"'](LMP_DP_[A-Z_]+)[\"']", path.read_text())
    }


def test_keywords_of_the_pair_style() -> None:
    page = (markdown.PAGES / "pair_style.md").read_text()
    syntax = set(re.findall(r"^(\w+) (?:values? = |\(no value\))", page, re.MULTILINE))
    assert syntax == set(_KEYWORDS)
    assert set(re.findall(r"\[(\w+)", USAGE)) - {"MODEL", "INDEX"} == set(_KEYWORDS)


def test_every_option_is_in_the_pages() -> None:
    named = {option for line in CODE for option in re.findall(r"--[a-z][a-z-]*", line)}
    missing = {
        f"{command} {option}"
        for command, known in options().items()
        for option in known - {"--help"}
        if option not in named
    }
    assert not missing


def test_options_in_the_pages_exist() -> None:
    known = options()
    scripts = [
        p.read_text()
        for p in (markdown.ROOT / ".ci").rglob("*")
        if p.suffix in ("", ".py") and p.is_file()
    ]
    of_scripts = {option for text in scripts for option in re.findall(r"--[a-z][a-z-]*", text)}
    unknown = []
    for line in CODE:
        for command, rest in re.findall(r"\blmp-dp ([a-z]+)\b([^|;&]*)", line):
            if command not in known:
                unknown.append(f"lmp-dp {command}")
            else:
                found = re.findall(r"(?<!\S)--[a-z][a-z-]*", rest.partition(" #")[0])
                unknown += [f"{command} {option}" for option in set(found) - known[command]]
        alone = re.match(r"--[a-z][a-z-]*", line)
        if alone and alone[0] not in of_scripts.union(*known.values()):
            unknown.append(line)
    assert not unknown


def test_environment_variables() -> None:
    assert {"LMP_DP_TRACEBACK"} < variables()
    named = {name for path in FOR_USERS for name in re.findall(r"LMP_DP_[A-Z_]+", TEXT[path])}
    assert named == variables()
