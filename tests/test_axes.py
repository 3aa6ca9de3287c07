"""Axis letters mean one thing: names and the shapes that are given for them, against one table.

The table is at the end of lmp_dp/engine/DATAFLOW.md; its second part is for what lies around
models and the engine. Checked are the whole package and its CUDA kernels.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import lmp_dp

PACKAGE = Path(lmp_dp.__file__).parent
INNER = ("engine", "model")
TABLE = PACKAGE / "engine" / "DATAFLOW.md"

#: Last parts of names that are words, not axes.
WORDS = re.compile(
    "add|all|at|atom|axes|axis|bias|bins|by|cell|copy|cupy|data|date|def|dict|dist|dp|else|ends|"
    "face|file|fine|fit|fix|for|form|freq|go|here|high|id|idt|in|init|ints|join|json|kind|lane|"
    "like|low|map|mask|mib|name|net|nets|none|norm|of|on|one|op|out|over|phi|pipe|ps|rank|real|"
    "rows|seal|side|size|slot|smth|step|tags|tanh|time|to|two|type|up|warp|zero"
)
#: Before the last part, these make a letter no axis: a flat index or slice of one, a count, a word,
#: a time in seconds.
PREFIXES = re.compile(
    r"(?:^|_)(?:of|n|s_over|lower_se_e2|is|loop_time|relative|sections|startup)_[a-z]$"
)

NAME = r"[A-Za-z]\w*?_([a-z0-9]{1,4})"


def letters(path: Path | None = None) -> dict[str, set[str]]:
    """Letter -> lengths, from the table: those that a file may use, or all of them."""
    parts = TABLE.read_text().partition("## Axes of arrays")[2].split("| letter |")[1:]
    assert len(parts) == 2
    rows = [re.findall(r"^\| ([a-z]) \| .* \| (.*) \|$", part, re.MULTILINE) for part in parts]
    assert len(rows[0]) > 15
    assert rows[1]
    both = rows[0] + rows[1]
    assert len({letter for letter, _ in both}) == len(both), "a letter stands twice in the table"
    # were all letters taken, the outer files could have no wrong one
    assert len(both) < 26
    inner = path is not None and path.relative_to(PACKAGE).parts[0] in INNER
    known = rows[0] if inner else both
    return {letter: set(re.findall("`(.*?)`", lengths)) for letter, lengths in known}


def sources(suffix: str) -> list[Path]:
    return sorted(PACKAGE.rglob(f"*{suffix}"))


def names_of(path: Path) -> set[str]:
    """All names that a file gives to something."""
    if path.suffix == ".cu":
        typed = r"\b(?:int|double|float|REAL|index_t|long)\b[ *]*(?:__restrict__ )?(\w+)"
        return set(re.findall(typed, path.read_text()))
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Store):
            found.add(node.id if isinstance(node, ast.Name) else node.attr)
        elif isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, ast.FunctionDef):
            found.add(node.name)
    return found


def axes_of(name: str) -> str:
    """The letters of an array's name, without digits; empty for other names."""
    match = re.fullmatch(NAME, name.strip("_"))
    if not match or WORDS.fullmatch(match[1]) or match[1][0].isdigit() or PREFIXES.search(name):
        return ""
    return match[1] if re.search("[a-z]", match[1]) else ""


def unknown_letters(path: Path, known: dict[str, set[str]]) -> list[str]:
    return [
        f"{path.relative_to(PACKAGE)}: {name}"
        for name in sorted(names_of(path))
        if any(letter not in known and not letter.isdigit() for letter in axes_of(name))
    ]


def shapes_of(path: Path) -> Iterator[tuple[str, str]]:
    """(name, shape) as docstrings, comments behind a name, and `take` say."""
    text = path.read_text()
    names = r"(?:\b\w+_[a-z0-9]{1,4}, )*\b\w+_[a-z0-9]{1,4}"
    for found in (
        re.findall(rf"^ *({names}) : \(([^()]*)\)", text, re.MULTILINE),
        re.findall(rf"^ *({names})\b.*  # (?:out: |scratch: )?\(([^()]*)\)", text, re.MULTILINE),
        re.findall(r"\.(\w+_[a-z]{1,4})\.take\((?:\w+, )?\(([^()]*)\)", text),
    ):
        for of_names, shape in found:
            for name in of_names.split(", "):
                yield name, shape


def mismatch(name: str, shape: str, known: dict[str, set[str]]) -> str:
    """Why this cannot be the shape of an array of this name; empty if it can."""
    axes = axes_of(name)
    lengths = [length.strip() for length in shape.strip(", ").split(",")]
    if not axes or not shape:
        return ""
    if len(axes) != len(lengths):
        return f"{name} has {len(axes)} letters, its shape ({shape}) {len(lengths)} axes"
    for axis, length in zip(axes, lengths, strict=True):
        bare = re.sub(r"^\w+\.| [+] [12]$| of .*$", "", length)  # who has it, the end, which
        if "[" in bare:  # taken from another array
            continue
        allowed = {axis} if axis.isdigit() else known.get(axis, set())
        if bare not in allowed:
            return f"{name} of shape ({shape}): {bare} is not a length of axis {axis}"
    return ""


@pytest.mark.parametrize("suffix", [".py", ".cu"])
def test_names_use_the_letters_of_the_table(suffix: str) -> None:
    assert sources(suffix)
    assert [bad for path in sources(suffix) for bad in unknown_letters(path, letters(path))] == []


def test_shapes_agree_with_names() -> None:
    found = [(path, *shape) for path in sources(".py") for shape in shapes_of(path)]
    assert len(found) > 110
    bad = [(path.name, mismatch(name, shape, letters(path))) for path, name, shape in found]
    assert [(path, text) for path, text in bad if text] == []


def test_no_other_table_of_letters() -> None:
    """Letters are explained in one place."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    for path in sources(".py"):
        for node in ast.walk(ast.parse(path.read_text())):
            text = ast.get_docstring(node) if isinstance(node, documented) else None
            assert not re.search(r"(?:^|\s)_[a-z] +[a-z]", text or ""), path


@pytest.mark.parametrize(
    ("name", "shape", "said"),
    [
        ("r_pc", "n_pairs, 3", ""),
        ("first_tb", "n_types, n_b + 1", ""),
        ("r_pc", "3, n_pairs", "n_pairs is not a length of axis c|3 is not a length of axis p"),
        ("r_pc", "n_pairs,", "2 letters"),
        ("pieces_q", "n_cells,", "n_cells is not a length of axis q"),
    ],
)
def test_the_script_tells_right_from_wrong(name: str, shape: str, said: str) -> None:
    assert re.search(said, mismatch(name, shape, letters()))
    assert bool(mismatch(name, shape, letters())) == bool(said)


@pytest.mark.parametrize(
    ("folder", "bad"),
    [("model", ["x_pj", "y_w"]), ("engine", ["x_pj", "y_w"]), ("lammps", ["x_pj"])],
)
def test_the_script_sees_unknown_letters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, bad: list[str]
) -> None:
    monkeypatch.setattr(f"{__name__}.PACKAGE", tmp_path)
    path = tmp_path / folder / "one.py"
    path.parent.mkdir()
    path.write_text("x_pj = 1\nx_pc = 2\nmoved_in = 3\ncell.y_w = 4\n")
    assert unknown_letters(path, letters(path)) == [f"{folder}/one.py: {name}" for name in bad]
