"""The Markdown files of the repository: their fenced blocks, links, and headings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "lmp_dp" / "pages"
#: Folders with Markdown; others in the root may be environments and builds.
FOLDERS = (".ci", "docker", "lammps_inputs", "lmp_dp", "tests")
_FENCE = re.compile(
    r"(?P<above>^[^\n]*\n)?^(?P<indent> *)```(?P<language>[^\n`]*)\n(?P<text>.*?)^ *```$",
    re.MULTILINE | re.DOTALL,
)
#: A comment on the line above a block: why it, or its first line, is not run here.
_NOT_RUN = re.compile(r"^<!-- (first line )?not run: (\S.*\S) -->$")
_HEADING = re.compile(r"^#{1,6} +(.*?)(?: +#+)?$", re.MULTILINE)
_LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^)\s]*)\)")
_CODE = re.compile(r"(`+)(?!`).*?(?<!`)\1(?!`)", re.DOTALL)


def documents() -> list[Path]:
    """All Markdown files of the repository."""
    found = [*ROOT.glob("*.md"), *(path for f in FOLDERS for path in (ROOT / f).rglob("*.md"))]
    return sorted(found)


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes
    ----------
    place : str
        File and line.
    language, text : str
    above : str
        The line before it.
    section : str
        File and heading.
    """

    place: str
    language: str
    text: str
    above: str
    section: str

    @property
    def reason(self) -> str:
        """Why it cannot run here, as the line above says; or empty."""
        found = _NOT_RUN.match(self.above)
        return found[2] if found else ""

    @property
    def runs(self) -> str:
        """Its text, or what of it can run here."""
        found = _NOT_RUN.match(self.above)
        if not found:
            return self.text
        return self.text.partition("\n")[2] if found[1] else ""


def blocks(path: Path) -> Iterator[Block]:
    text = path.read_text()
    for match in _FENCE.finditer(text):
        line = text.count("\n", 0, match.start("language")) + 1
        body = re.sub(rf"^{match['indent']}", "", match["text"], flags=re.MULTILINE)
        above = (match["above"] or "").strip()
        name = str(path.relative_to(ROOT))
        headings = _HEADING.findall(_FENCE.sub(above_only, text[: match.start("language")]))
        section = f"{name}: {headings[-1] if headings else ''}"
        yield Block(f"{name}:{line}", match["language"].strip(), body, above, section)


def above_only(match: re.Match[str]) -> str:
    return match["above"] or ""


def all_blocks() -> list[Block]:
    return [block for path in documents() for block in blocks(path)]


def prose(path: Path) -> str:
    """A file's text without fenced blocks."""
    return _FENCE.sub(above_only, path.read_text())


def links(path: Path) -> list[str]:
    """Targets of all links and images, but for what is code."""
    return _LINK.findall(_CODE.sub("", prose(path)))


def code(path: Path) -> list[str]:
    """All code of a file: fenced blocks line by line, and code within text."""
    found = [line for block in blocks(path) for line in block.text.splitlines()]
    return found + [match[0].strip("` \n") for match in _CODE.finditer(prose(path))]


def anchors(path: Path) -> set[str]:
    """What the headings of a file are called in links, as GitHub names them."""
    found: set[str] = set()
    for heading in _HEADING.findall(prose(path)):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        name = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        count = sum(re.fullmatch(rf"{re.escape(name)}(-\d+)?", one) is not None for one in found)
        found.add(f"{name}-{count}" if count else name)
    return found
