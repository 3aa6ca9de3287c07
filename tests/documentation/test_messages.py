"""Troubleshooting by error message: the page has every message of the package, and no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from documentation import plugin_messages, python_messages
from documentation.python_messages import UNKNOWN, Message, Package
from lmp_dp import Potential
from lmp_dp.lammps.arguments import read_arguments
from lmp_dp.lammps.type_table import model_types
from lmp_dp.model import load
from lmp_dp.threads import threads_per_rank
from lmp_dp.tools.convert import convert
from lmp_dp.tools.data_file import reduced

PAGE = python_messages.ROOT / "pages" / "troubleshooting.md"
#: A message is an item of a list, as code.
ENTRY = re.compile(r"^\* (?:`` (?P<quoted>.+) ``|`(?P<plain>[^`]+)`)$", re.MULTILINE)


def explained() -> list[str]:
    return [match["quoted"] or match["plain"] for match in ENTRY.finditer(PAGE.read_text())]


def said() -> list[Message]:
    return [*python_messages.messages(), *plugin_messages.messages()]


def test_every_message_is_explained() -> None:
    on_the_page = set(explained())
    missing = [f"{one.place}: {one.text}" for one in said() if one.text not in on_the_page]
    assert not missing, f"put into {PAGE.name}, where it is met, as * `text`:\n" + "\n".join(
        missing
    )


def test_nothing_else_is_explained() -> None:
    in_the_source = {one.text for one in said()}
    gone = [text for text in explained() if text not in in_the_source]
    assert not gone, f"no source says this any more, so remove it from {PAGE.name}:\n" + "\n".join(
        gone
    )


def test_messages_are_named_once() -> None:
    texts = explained()
    assert len(texts) > 500
    assert len(set(texts)) == len(texts)


def test_every_list_of_messages_is_introduced() -> None:
    """Causes and remedies come before the messages that they are for."""
    for part in re.split(r"^## .*\n", PAGE.read_text(), flags=re.MULTILINE)[1:]:
        first = ENTRY.search(part)
        assert first, part
        assert len(part[: first.start()].split()) >= 10, part


# ---------------------------------------------------------------- what is really said, as an oracle


def says(text: str, entry: str) -> bool:
    """Whether a text has the parts of an entry between its …, in their order."""
    place = 0
    for part in entry.split(UNKNOWN):
        place = text.find(part, place)
        if place < 0:
            return False
        place += len(part)
    return True


def a_file(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


REALLY_SAID: dict[str, Callable[[Path, Path], object]] = {
    "keyword": lambda at, _: read_arguments(["a.h5", "speling", "1"]),
    "no value": lambda at, _: read_arguments(["a.h5", "sel"]),
    "yes or no": lambda at, _: read_arguments(["a.h5", "timing", "maybe"]),
    "level": lambda at, _: read_arguments(["a.h5", "relative", "-1"]),
    "elements": lambda at, _: model_types(["Xx"], ["O", "H"], 1),
    "too many names": lambda at, _: model_types(["O", "H", "H"], ["O", "H"], 2),
    "no model file": lambda at, _: load(at / "none.h5"),
    "damaged": lambda at, water: load(a_file(at, "cut.h5", water.read_bytes()[:9999])),
    "no model": lambda at, _: load(a_file(at, "text.h5", b"text")),
    "no source": lambda at, _: convert(at / "none.pb", at / "to.h5"),
    "no graph": lambda at, _: convert(a_file(at, "some.pb", b"\xff\xff"), at / "to.h5"),
    "folder": lambda at, _: convert(at, at / "to.h5"),
    "json": lambda at, _: convert(a_file(at, "input.json", b"{}"), at / "to.h5"),
    "archive": lambda at, _: convert(a_file(at, "some.pth", b"PK\x03\x04"), at / "to.h5"),
    "backend": lambda at, water: Potential(water, "quantum"),
    "watch": lambda at, water: Potential(water, "reference", sel="maybe"),
    "threads": lambda at, water: Potential(water, "cpu", threads=-1),
    "element": lambda at, water: Potential(water, "reference").evaluate([[0, 0, 0]], ["Xx"]),
    "shape": lambda at, water: Potential(water, "reference").evaluate([[0, 0]], ["O"]),
    "cell": lambda at, water: Potential(water, "reference").evaluate([[0, 0, 0]], ["O"], [0, 1, 1]),
    "coinciding": lambda at, water: Potential(water, "reference").evaluate(
        [[0, 0, 0]] * 2, ["O"] * 2
    ),
    "not finite": lambda at, water: Potential(water, "reference").evaluate([[0, 0, 1e300]], ["O"]),
    "data": lambda at, _: reduced(a_file(at, "in.data", b"first line\n\n2 atoms\n"), at / "to"),
    "OpenMP": lambda at, _: threads_per_rank(1, 1),
}


@pytest.mark.parametrize("call", REALLY_SAID.values(), ids=REALLY_SAID)
def test_what_is_really_said_is_explained(
    call: Callable[[Path, Path], object],
    tmp_path: Path,
    water_model: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    with pytest.raises(Exception, match=r".") as caught:
        call(tmp_path, water_model)
    text = str(caught.value)
    assert any(says(text, entry) for entry in explained()), text


# ---------------------------------------------------------------------------------- the two readers

EXAMPLE = """
ADVICE = "do this"

def check(path, names, wrong):
    text = f"{path} has {len(names)} names"
    if wrong:
        text += ", all wrong"
    if not names:
        raise ModelFileError(text + f": {ADVICE} now")
    refuse(f"this is {path!r} " "indeed" if wrong else "that is not so")
    yield Finding("topic", OK, "all is well")
    yield Finding("topic", WARNING, "all is bad", "do something else")

def refuse(text):
    raise InputError(f"{place}: {text}")

class NotAnError:
    pass
"""


def test_python_is_read_as_it_is_said(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(EXAMPLE)
    found = {python_messages.normalised(text) for _, _, text in Package(tmp_path).read()}
    assert found == {
        "… has … names: do this now",
        "… has … names, all wrong: do this now",
        "this is … indeed",
        "that is not so",
        "all is bad",
    }


def test_every_error_that_is_raised_is_read() -> None:
    """Each `raise` of an error of ours that has text of its own gives a message."""
    read = {(module.path, node.lineno) for module, node, _ in python_messages.read()}
    unread = [
        f"{module.path.relative_to(python_messages.ROOT)}:{node.lineno}"
        for module in python_messages.package().modules
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Raise)
        and isinstance(node.exc, ast.Call)
        and re.fullmatch(r"[A-Z]\w*(Error|Refused|Exit)", python_messages.called(node.exc))
        and any(own_text(part) for part in ast.walk(node.exc))
        and not any(
            (module.path, line) in read for line in range(node.lineno, (node.end_lineno or 0) + 1)
        )
        and python_messages.called(node.exc) not in python_messages.PRIVATE_ERRORS
    ]
    assert not unread


def own_text(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and python_messages.says_something(node.value)
    )


def test_cpp_is_read_as_it_is_said(tmp_path: Path) -> None:
    source = tmp_path / "some.cpp"
    source.write_text(
        "void f() {\n"
        '  if (no) refuse(std::string("fix ") + id + " is of " "style " + (a ? "b" : "c"));\n'
        '  error->all(FLERR, "pair_style dp: not {} here; (or there)", k);\n'
        '  message = "Python says (" + (x ? y + " z" : w) + ")" + advice;\n'
        '  fprintf(stderr, "\\nERROR: %s of %d\\n", a, b); // refuse("a comment") \n}\n'
    )
    texts = [
        (line, text)
        for line, found in plugin_messages.cpp(source)
        if python_messages.says_something(text := python_messages.normalised(found))
    ]
    assert texts == [
        (2, "fix … is of style …"),
        (3, "not … here; (or there)"),
        (4, "Python says (…)…"),
    ]
