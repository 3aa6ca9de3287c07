"""What the C++ plugin and its CMake project can say to a user, read from their source."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from pathlib import Path

from documentation.python_messages import ROOT, UNKNOWN, Message, normalised, says_something

PLUGIN = ROOT / "lammps" / "plugin"
#: Functions whose arguments end a run, warn, or are printed, and what errors are put together in.
SINKS = re.compile(
    r"\b(?P<call>refuse|error->(?:all|one|warning)|fprintf)\s*\("
    r"|\b(?:message|text|what|reason|problem)\s*\+?=\s*"
)
_TOKENS = re.compile(
    r'(?P<text>(?:"(?:\\.|[^"\\])*"\s*)+)|(?P<comment>//[^\n]*|/\*.*?\*/)|(?P<open>[({\[])'
    r"|(?P<close>[)}\]])|(?P<end>;)|(?P<comma>,)|(?P<plus>\+)|(?P<space>\s+)|(?P<other>[^\s\"(){}\[\];,+]+)",
    re.DOTALL,
)
_FORMATS = re.compile(r"%[-+ #0-9.]*(?:[lhz]*[a-zA-Z])|\{[^{}]*\}")
_ESCAPES = {r"\n": "\n", r"\t": "\t", r"\"": '"', r"\\": "\\"}


def arguments(source: str, start: int, call: bool) -> list[str]:
    """The arguments of a call, or the right side of an assignment, as texts with ….

    What is chosen or made in parentheses of its own is unknown.
    """
    depth, found, current = 0, [], ""
    for token in _TOKENS.finditer(source, start):
        kind = token.lastgroup
        if kind in ("space", "comment", "plus"):
            continue
        if (kind == "close" and depth == 0 and call) or (kind == "end" and depth == 0):
            break
        if kind == "close":
            depth -= 1
        elif kind == "open":
            depth += 1
            current += UNKNOWN
        elif depth == 0 and kind == "comma":
            found.append(current)
            current = ""
        elif depth == 0 and kind == "text":
            current += "".join(re.findall(r'"((?:\\.|[^"\\])*)"', token["text"]))
        elif depth == 0:
            current += UNKNOWN
    return [*found, current]


def readable(text: str) -> str:
    """`text` without what C++ and its formats need."""
    text = _FORMATS.sub(UNKNOWN, text)
    return re.sub(r"\\.", lambda match: _ESCAPES.get(match[0], match[0]), text)


def cpp(path: Path) -> Iterator[tuple[int, str]]:
    source = re.sub(r'std::string\(("(?:\\.|[^"\\])*")\)', r"\1", path.read_text())
    for match in SINKS.finditer(source):
        for text in arguments(source, match.end(), bool(match["call"])):
            yield source.count("\n", 0, match.start()) + 1, readable(text)


def cmake(path: Path) -> Iterator[tuple[int, str]]:
    source = path.read_text()
    pattern = r'message\((?:FATAL_ERROR|WARNING|SEND_ERROR)\s+((?:"(?:\\.|[^"\\])*"\s*)+)\)'
    for match in re.finditer(pattern, source):
        text = "".join(re.findall(r'"((?:\\.|[^"\\])*)"', match[1]))
        yield source.count("\n", 0, match.start()) + 1, re.sub(r"\$\{\w+\}", UNKNOWN, text)


@functools.cache
def messages() -> list[Message]:
    """Every message of the plugin, with the first place of each."""
    found: dict[str, str] = {}
    for path in sorted(PLUGIN.iterdir()):
        reader = cpp if path.suffix in (".cpp", ".h") else cmake
        if reader is cmake and path.name != "CMakeLists.txt" and path.suffix != ".cmake":
            continue
        for line, text in reader(path):
            if says_something(text := normalised(text)):
                found.setdefault(text, f"{path.relative_to(ROOT.parent)}:{line}")
    return sorted(Message(text, place) for text, place in found.items())


if __name__ == "__main__":
    for message in messages():
        print(f"{message.place}: {message.text}")
