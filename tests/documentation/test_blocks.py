"""Commands and Python in README and pages run as they are printed, or a comment above says why not.

They run in a copy of lammps_inputs/ that has the files which the text speaks of, with inputs of a
few steps; Python under one heading is one program. On the line above what cannot run here stands
`<!-- not run: REASON -->`, or `<!-- first line not run: REASON -->`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from conftest import INPUTS
from documentation import markdown
from documentation.markdown import Block
from lammps_runs import BIN, environment
from lmp_dp.lammps.arguments import read_arguments

SHELL, PYTHON = "bash", "python"
#: What is no program: input of LAMMPS, what a program says, changes of a file, syntax.
SHOWN = ("LAMMPS", "text", "diff", "math", "")
#: The scripts that take their commands from the block below such a line.
RUN_BY = {"<!-- test command -->": ".ci/run", "<!-- run command -->": ".ci/release"}
BLOCKS = markdown.all_blocks()
COMMANDS = [
    block
    for block in BLOCKS
    if block.language == SHELL and block.runs and block.above not in RUN_BY
]
#: By file and heading.
PROGRAMS: dict[str, str] = defaultdict(str)
for one in BLOCKS:
    if one.language == PYTHON and one.runs:
        PROGRAMS[one.section] += one.runs


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """lammps_inputs/ with short runs, and with the files that the text speaks of."""
    folder = tmp_path_factory.mktemp("lammps_inputs")
    for path in INPUTS.iterdir():
        if path.name.startswith("in."):
            text, count = re.subn(r"(variable\s+steps\s+index) \d+", r"\1 5", path.read_text())
            assert count == 1, path
            (folder / path.name).write_text(text)
        else:
            (folder / path.name).symlink_to(path)
    (folder / "frozen_model.pb").write_bytes((INPUTS / "models" / "water.pb").read_bytes())
    (folder / "model.h5").write_bytes((INPUTS / "models" / "water.h5").read_bytes())
    script = (folder / "in.water_nvt.deepmd").read_text()
    script = script.replace("models/water.pb", "frozen_model.pb")
    (folder / "in.script").write_text(f"suffix dp\n{script}")  # with and without -sf dp
    return folder


@pytest.fixture(scope="module")
def done() -> set[str]:
    """Commands that have run, as `what_it_does` has them: nothing is done twice."""
    return set()


#: Names that stand for the same file, and words without which a command does the same here: one
#: thread is what the tests have, and a few steps what the scripts do.
SAME = {
    "frozen_model.pb": "models/water.pb",
    "model.h5": "water.h5",
    "model_c.h5": "water_c.h5",
    "-sf dp -in in.script": "-sf dp -in in.water_nvt.deepmd",
    "OMP_NUM_THREADS=1 ": "",
    " -var steps 5": "",
}


def shorter(command: str) -> str:
    """A command with a few steps, on a few ranks."""
    return re.sub(r"-np \d+", "-np 2", re.sub(r"-var steps \d+", "-var steps 5", command))


def what_it_does(command: str) -> str:
    """A command in one of the ways to write it."""
    for one, other in SAME.items():
        command = command.replace(one, other)
    return command


def commands(text: str) -> list[str]:
    """Lines of a shell, without comments and with what is continued."""
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    stripped = (re.sub(r"(^|\s+)#.*$", "", line).strip() for line in lines)
    return [line for line in stripped if line]


def run(command: list[str], folder: Path) -> None:
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    ran = subprocess.run(
        command,
        cwd=folder,
        env=environment(PATH=path),
        capture_output=True,
        text=True,
        timeout=200.0,
        check=False,
    )
    assert ran.returncode == 0, (ran.stdout + ran.stderr)[-3000:]


@pytest.mark.parametrize("block", COMMANDS, ids=lambda block: block.place)
def test_commands_run_as_printed(block: Block, workplace: Path, done: set[str]) -> None:
    new = []
    for line in map(shorter, commands(block.runs)):
        if what_it_does(line) not in done:
            done.add(what_it_does(line))
            new.append(line)
    run(["bash", "-euxo", "pipefail", "-c", "\n".join(new)], workplace)


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_python_runs_as_printed(program: str, workplace: Path) -> None:
    run([sys.executable, "-c", program], workplace)


def test_something_runs() -> None:
    assert len(PROGRAMS) >= 4
    assert len(COMMANDS) >= 5


def test_scripts_take_the_other_blocks() -> None:
    marked = [block.above for block in BLOCKS if block.above in RUN_BY]
    assert len(set(marked)) == len(marked)
    for line in marked:
        assert line in (markdown.ROOT / RUN_BY[line]).read_text()


def test_every_block_says_what_it_is() -> None:
    known = (SHELL, PYTHON, *SHOWN)
    unknown = [b.place for b in BLOCKS if b.language not in known]
    assert not unknown, f"not one of {', '.join(known)}, so it would not be run"


def test_no_command_hides_in_what_is_shown() -> None:
    hidden = [
        f"{block.place}: {line}"
        for block in BLOCKS
        if block.language in SHOWN
        for line in block.text.splitlines()
        if re.match(r"(\$ )?(lmp-dp|mpirun|srun|lmp|pip|python3?|import|from \w+ import)\b", line)
        and not line.startswith("lmp-dp run: ")
    ]
    assert not hidden, "a block of commands is ```bash, one of Python is ```python"


def test_reasons_stand_above_commands() -> None:
    """A reason in another place is one that nobody checks."""
    for path in markdown.documents():
        reasons = re.findall(r"^ *<!--.*\bnot run\b.*$", path.read_text(), re.MULTILINE)
        heeded = [b for b in markdown.blocks(path) if b.reason and b.language in (SHELL, PYTHON)]
        assert len(reasons) == len(heeded), path


def test_pair_styles_are_written_correctly() -> None:
    lines = [
        line
        for block in BLOCKS
        for line in re.findall(r"^[+ ]?pair_style +dp +(.*?)(?: +#.*)?$", block.text, re.MULTILINE)
        if "[" not in line
    ]
    assert len(lines) >= 3
    for line in lines:
        read_arguments(line.split())
