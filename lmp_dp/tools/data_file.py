"""LAMMPS data files reduced to what a configuration is: atoms, box, masses and type labels.

Data files of other potentials also hold bonds, coefficients of styles that are not used here,
sections of fixes, velocities. LAMMPS refuses what the input script does not prepare for, and bonds
would take neighbours away from the model (special_bonds). A copy without them can be read always.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from lmp_dp.errors import InputError
from lmp_dp.lammps.type_table import STANDARD_MASSES

#: Lines of the header that are kept end thus; the others count bonds, their types and the like.
HEADER = (
    *(" atoms", " atom types", " xlo xhi", " ylo yhi", " zlo zhi", " xy xz yz"),
    *(" avec", " bvec", " cvec", " abc origin"),
)
SECTIONS = ("Atom Type Labels", "Masses", "Atoms")
#: Units with lengths in Å and masses in g/mol; nothing else is taken from the file.
UNITS = ("metal", "real")
#: Words in a row of `Atoms` in atom style atomic, without and with image flags.
ATOMIC_COLUMNS = (5, 8)
_OPENERS: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
_TEXT: dict[str, Any] = {"encoding": "utf-8", "errors": "surrogateescape"}


@dataclass(frozen=True)
class DataFile:
    """What a data file says beside the numbers.

    Attributes
    ----------
    path : Path
    atom_style : str
    style_named : bool
        False if the file names no atom style, so that `atomic` was assumed.
    masses : bool
        The file has a section Masses.
    labels : dict
        Atom type labels by LAMMPS type, from 1.
    """

    path: Path
    atom_style: str
    style_named: bool
    masses: bool
    labels: dict[int, str]

    def notes(self, elements: Sequence[str]) -> list[str]:
        """What should be known when the types are taken as these elements (or NULL)."""
        found = []
        if not self.style_named:
            found.append(
                f"{self.path.name} names no atom style after its section header Atoms; its rows "
                "are read as those of atomic"
            )
        for number, element in enumerate(elements, start=1):
            label = self.labels.get(number, element)
            # labels of a force field (CT, HW) that are no elements say nothing
            if label != element != "NULL" and (label in STANDARD_MASSES or label in elements):
                found.append(
                    f"{self.path.name} labels LAMMPS type {number} as {label}, but it is taken as "
                    f"{element}: is the order of the elements right (--elements)?"
                )
        return found


def reduced(path: Path, destination: Path) -> DataFile:
    """Copy a data file (plain, .gz, .bz2 or .xz) to `destination` without what is not needed.

    Raises
    ------
    InputError
        The file cannot be read, is no data file, has no atoms, is in units other than metal and
        real, or does not tell its atom style.
    """
    title, headings, hint, columns = "", [], [], 0
    labels: dict[int, str] = {}
    with _opened(path) as lines, destination.open("w", **_TEXT) as copy:
        title = lines.readline()
        copy.write("reduced by lmp-dp\n\n")
        section = ""
        for line in lines:
            text, _, comment = line.partition("#")
            words = text.split()
            if not words:
                continue
            if all(word[0].isalpha() for word in words):
                section = " ".join(words)
                headings.append(section)
                if section == "Atoms":
                    hint = comment.split()
                if section in SECTIONS:
                    copy.write(f"\n{section}\n\n")
            elif section in SECTIONS or (not section and text.rstrip().endswith(HEADER)):
                copy.write(" ".join(words) + "\n")
                if section == "Atom Type Labels" and len(words) > 1 and words[0].isdecimal():
                    labels[int(words[0])] = words[1]
                if section == "Atoms":
                    columns = columns or len(words)
    if "Atoms" not in headings:
        raise InputError(f"{path} is no LAMMPS data file: it has no section Atoms")
    if not columns:
        raise InputError(f"{path} has no atoms: its section Atoms is empty")
    written_in = re.search(r"\bunits\s*=\s*(\w+)", title)
    if written_in and written_in.group(1) not in UNITS:
        raise InputError(
            f"{path} is in units {written_in.group(1)} by its first line, but must be in "
            f"{' or '.join(UNITS)}: write it in these units"
        )
    style = _atom_style(path, hint, columns)
    return DataFile(path, style, bool(hint), "Masses" in headings, labels)


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    try:
        with _OPENERS.get(path.suffix, open)(path, "rt", **_TEXT) as lines:
            yield lines
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise InputError(f"the data file cannot be read: {path}: {error}") from None


def _atom_style(path: Path, hint: Sequence[str], columns: int) -> str:
    """Arguments of the command atom_style, from the comment after the section header `Atoms`."""
    if hint and hint[0] == "hybrid":
        if len(hint) == 1:
            raise InputError(
                f"{path} has atom style hybrid, but not of which styles: write them after the "
                "section header, as in `Atoms  # hybrid full sphere`"
            )
        return " ".join(hint)
    if hint:
        return hint[0]
    if columns not in ATOMIC_COLUMNS:
        raise InputError(
            f"{path} names no atom style after its section header Atoms, and its rows have "
            f"{columns} columns, where atomic has {' or '.join(map(str, ATOMIC_COLUMNS))}: write "
            "the style there, as in `Atoms  # full`"
        )
    return "atomic"
