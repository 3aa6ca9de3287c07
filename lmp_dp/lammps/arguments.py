"""The words of `pair_style dp MODEL [MODEL ...] [keywords]`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from lmp_dp.errors import InputError

USAGE = (
    "pair_style dp MODEL [MODEL ...] [compress yes|no] "
    "[backend auto|cpu|gpu|reference|gpu-reference] [precision float64|float32] "
    "[threads N] [sel warn|error|ignore] [table warn|error|ignore] [timing yes|no] "
    "[out_file FILE] [out_freq N] [atomic] [relative L] [relative_v L] "
    "[fparam F ...] [fparam_from_compute ID] [fparam_from_fix ID [INDEX]] "
    "[aparam A ...] [aparam_from_compute ID] [ttm ID]"
)


@dataclass
class Arguments:
    """What `pair_style dp` was told.

    Attributes
    ----------
    models : list of str
        Model files, or files that can be converted; the first one drives the atoms.
    compress : bool
        Tabulate the embedding nets of models that have no tables, as ``lmp-dp compress`` does.
        Default is no: the numbers are those of the model as it is, as with pair style deepmd.
    engine : dict
        Arguments of `Potential`.
    timing : bool
        Print the time per stage after each run.
    out_file, out_freq, atomic, relative, relative_v
        Model deviation, as in pair style deepmd: the file, every how many steps it gets a row
        (0: never), whether a row has the deviation of each atom, and the levels of relative
        deviations in LAMMPS units (None: absolute ones).
    fparam, aparam : list of float
        Parameters of the frame, and of every atom, that do not change.
    fparam_from_compute, fparam_from_fix, aparam_from_compute, ttm : str
        IDs of what gives them on each step; empty: nothing.
    fparam_index : int
        Where they begin in the fix's vector, from 0; -1 for its scalar.
    """

    models: list[str] = field(default_factory=list)
    compress: bool = False
    engine: dict[str, Any] = field(default_factory=dict)
    timing: bool = False
    out_file: str = "model_devi.out"
    out_freq: int = 100
    atomic: bool = False
    relative: float | None = None
    relative_v: float | None = None
    fparam: list[float] = field(default_factory=list)
    aparam: list[float] = field(default_factory=list)
    fparam_from_compute: str = ""
    fparam_from_fix: str = ""
    fparam_index: int = -1
    aparam_from_compute: str = ""
    ttm: str = ""


def read_arguments(words: Sequence[str]) -> Arguments:
    """The model files and the keywords of `pair_style dp`.

    Raises
    ------
    InputError
        If there is no model, or a keyword is unknown or has no or an unusable value.
    """
    found = Arguments()
    rest = list(words)
    while rest and rest[0] not in _KEYWORDS:
        if found.models and not _looks_like_a_file(rest[0]):
            raise InputError(f"unknown keyword {rest[0]}: write {USAGE}")
        found.models.append(rest.pop(0))
    if not found.models:
        raise InputError(f"no model file is named: write {USAGE}")
    while rest:
        keyword = rest.pop(0)
        if keyword == "atomic":
            found.atomic = True
            continue
        if keyword not in _KEYWORDS:
            raise InputError(f"unknown keyword {keyword}: write {USAGE}")
        if not rest or rest[0] in _KEYWORDS:
            raise InputError(f"keyword {keyword} has no value: write {USAGE}")
        value = _KEYWORDS[keyword](keyword, rest.pop(0))
        if keyword in ("fparam", "aparam"):
            value = [value]
            while rest and rest[0] not in _KEYWORDS:
                value.append(_number(keyword, rest.pop(0)))
        elif keyword == "fparam_from_fix" and rest and rest[0] not in _KEYWORDS:
            found.fparam_index = _positive("fparam_from_fix: index", rest.pop(0)) - 1
        if keyword in _OF_THE_ENGINE:
            found.engine[keyword] = value
        else:
            setattr(found, keyword, value)
    return found


def _looks_like_a_file(word: str) -> bool:
    """A misspelt keyword in place of the second model should not become a missing file."""
    return "." in word or "/" in word


def _word(keyword: str, value: str) -> str:
    return value


def _yes(keyword: str, value: str) -> bool:
    if value not in ("yes", "no"):
        raise InputError(f"{keyword} {value} is unknown: write {keyword} yes or {keyword} no")
    return value == "yes"


def _positive(keyword: str, value: str) -> int:
    if not (value.isdecimal() and int(value) > 0):
        raise InputError(f"{keyword} {value} is not a positive whole number")
    return int(value)


def _not_negative(keyword: str, value: str) -> int:
    if not value.isdecimal():
        raise InputError(f"{keyword} {value} is not a whole number, 0 or more")
    return int(value)


def _number(keyword: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"{keyword} {value} is not a number")
    return number


def _level(keyword: str, value: str) -> float:
    level = _number(keyword, value)
    if level < 0.0:
        raise InputError(f"{keyword} {value} is negative, expected 0 or more")
    return level


_OF_THE_ENGINE = ("backend", "precision", "threads", "sel", "table")
_KEYWORDS: dict[str, Callable[[str, str], Any]] = {
    "compress": _yes,
    "backend": _word,
    "precision": _word,
    "threads": _positive,
    "sel": _word,
    "table": _word,
    "timing": _yes,
    "out_file": _word,
    "out_freq": _not_negative,
    "atomic": _word,  # takes no value
    "relative": _level,
    "relative_v": _level,
    "fparam": _number,
    "fparam_from_compute": _word,
    "fparam_from_fix": _word,
    "aparam": _number,
    "aparam_from_compute": _word,
    "ttm": _word,
}
