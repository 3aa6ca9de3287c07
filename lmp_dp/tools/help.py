"""``lmp-dp help``: the package's pages, in the terminal and without a network.

At the top this module needs the standard library only, as does who has a broken installation.
"""

from __future__ import annotations

import argparse
import difflib
import os
import posixpath
import re
import sys
from collections.abc import Sequence
from importlib import resources

WIDEST = 100  # columns; longer lines are hard to read
_FENCED = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"!?\[([^\]]+)\]\(([^)\s]+)\)")
#: What of TeX our equations have, and how it is read in a terminal; inner braces first.
_TEX = (
    (r"\\mathrm\{([^{}]*)\}", r"\1"),
    (r"_\{([\w,]*)\}", r"_\1"),
    (r"([_^])\{([^{}]*)\}", r"\1(\2)"),
    (r"\\sqrt\{([^{}]*)\}", r"√(\1)"),
    (r" *\\quad *", "   "),
    (r" *\\; *", " "),
    (r"\\tanh", "tanh"),
)


def main(argv: Sequence[str]) -> int:
    """Entry point.

    Returns
    -------
    int
        Exit code: 2 where there is no such page, or no such section.
    """
    parser = argparse.ArgumentParser(
        prog="lmp-dp help",
        description="Show a page of the documentation; without TOPIC, which there are.",
    )
    parser.add_argument("topic", nargs="?", metavar="TOPIC")
    parser.add_argument(
        "words", nargs="*", metavar="WORD", help="only sections with these words, of a message, say"
    )
    args = parser.parse_args(argv)
    topic, texts = args.topic, pages()
    if topic is None:
        print(_contents(texts), end="")
        return 0
    name = topic.lower().replace("-", "_").removesuffix(".md")
    if name not in texts:
        guesses = ", ".join(_guesses(name, texts))
        print(f"lmp-dp help: there is no page {topic!r}; perhaps {guesses}\n", file=sys.stderr)
        sys.stderr.write(_contents(texts))
        return 2
    text = with_words(texts[name], args.words)
    if not text:
        words = " ".join(args.words)
        print(f"lmp-dp help: the page {name} has no section with {words!r}", file=sys.stderr)
        return 2
    if sys.stdout.isatty():
        _show(text)
    else:
        print(text, end="")
    return 0


def pages() -> dict[str, str]:
    """Markdown of all pages by topic."""
    folder = resources.files("lmp_dp").joinpath("pages")
    return {
        page.name.removesuffix(".md"): page.read_text(encoding="utf-8")
        for page in sorted(folder.iterdir(), key=lambda page: page.name)
        if page.name.endswith(".md")
    }


def summary(text: str) -> str:
    """The paragraph below the title of a page, in one line."""
    return " ".join(text.split("\n\n", 2)[1].split())


def with_words(text: str, words: Sequence[str]) -> str:
    """The sections of a page that have all words in their titles, or else in their text."""
    if not words:
        return text
    sections = re.split(r"^(?=## )", text, flags=re.MULTILINE)[1:]
    titled = [section for section in sections if _has(section.partition("\n")[0], words)]
    return "".join(titled or [section for section in sections if _has(section, words)])


def _has(text: str, words: Sequence[str]) -> bool:
    flat = " ".join(text.lower().split())
    return all(" ".join(word.lower().split()) in flat for word in words)


def for_terminal(text: str) -> str:
    """A page whose links say what to type, or where a file lies in the repository; without TeX."""
    parts = _FENCED.split(text)
    parts[::2] = [_LINK.sub(_said, part) for part in parts[::2]]
    parts[1::2] = [_equation(part) if part.startswith("```math") else part for part in parts[1::2]]
    return "".join(parts)


def _equation(block: str) -> str:
    for tex, shown in _TEX:
        block = re.sub(tex, shown, block)
    return block


def _said(link: re.Match[str]) -> str:
    text, target = link.groups()
    path = target.partition("#")[0]
    if "://" in target:
        return link[0]
    if not path:  # on this page
        return text
    if path.endswith(".md") and "/" not in path:
        said = f"`lmp-dp help {path.removesuffix('.md')}`"
    else:
        said = posixpath.normpath(f"lmp_dp/pages/{path}")
    same = text.strip("`") in (path.removesuffix(".md"), posixpath.basename(path), said)
    return said if same else f"{text} ({said})"


def _contents(texts: dict[str, str]) -> str:
    width = max(map(len, texts))
    lines = [f"  {name:{width}}  {summary(text)}\n" for name, text in texts.items()]
    usage = (
        "lmp-dp help TOPIC shows a page; lmp-dp help TOPIC WORD ..., sections with these words;\n"
        "lmp-dp COMMAND --help, the options of a command.\n\n"
    )
    return usage + "".join(lines)


def _guesses(name: str, texts: dict[str, str]) -> list[str]:
    """Topics with a name like this one, or else those that mention it."""
    mention = [topic for topic, text in texts.items() if name in text.lower()]
    return difflib.get_close_matches(name, texts) or mention or ["one of these"]


def _show(text: str) -> None:
    from rich.markdown import Markdown

    from lmp_dp.tools.terminal import Terminal

    console = Terminal()
    console.width = min(console.width, WIDEST)
    os.environ.setdefault("LESS", "-FRX")  # colours; no waiting where the page fits
    with console.pager(styles=True):
        console.print(Markdown(for_terminal(text), hyperlinks=False))
