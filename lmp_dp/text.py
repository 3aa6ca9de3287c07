"""Text on its way out: what comes from files and paths cannot steer a terminal or forge a line."""

from __future__ import annotations

import codecs
import io
from typing import TextIO

#: Characters of our own texts, for terminals that only have ASCII.
_IN_ASCII = {"Å": "A", "µ": "u", "–": "-", "×": "x", "…": "...", "→": "->"}


def printable(text: object) -> str:
    r"""`text` in one line, with escapes (``\x1b``) for everything that cannot be seen.

    These are control characters, line breaks, marks that change the direction of writing, and the
    bytes of a path that are not UTF-8.

    Examples
    --------
    >>> print(printable("a\x1b[31m\nb"))
    a\x1b[31m\nb
    """
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode()
        for char in str(text)
    )


def write_anything(stream: TextIO | None) -> None:
    """Have `stream` replace characters that its encoding lacks, where it would raise."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="lmp_dp.text")


def _replace(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    found = error.object[error.start : error.end]
    replaced = (
        _IN_ASCII.get(char) or char.encode("ascii", "backslashreplace").decode() for char in found
    )
    return "".join(replaced), error.end


codecs.register_error("lmp_dp.text", _replace)
