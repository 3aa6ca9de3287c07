"""What a model cannot represent is counted, and reported as the user wants.

Two things go unnoticed otherwise: more neighbours of an element within the cutoff than ``sel``
has slots (the farthest are dropped), and atoms closer than a compressed model's tables were made
for (the tables go on coarser, then as straight lines).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from lmp_dp.engine.neighbourhood import Result
from lmp_dp.errors import InputError, RangeError

POLICIES = ("warn", "error", "ignore")
_MEANING = {
    "sel": (
        "neighbours within the cutoff exceed the model's sel; the farthest are left out, as in "
        "DeePMD-kit"
    ),
    "table": "pairs of atoms are closer than the model's tables were made for",
}


@dataclass
class Watch:
    """Counts over all evaluations, and what to do about them.

    Attributes
    ----------
    sel, table : {"warn", "error", "ignore"}
        What to do when neighbours are dropped, and when pairs lie outside of the tables.
    totals : dict
        Neighbours dropped and pairs outside, summed over all evaluations.
    said : set of str
        What `warning` has spoken of.
    """

    sel: str = "warn"
    table: str = "warn"
    totals: dict[str, int] = field(default_factory=lambda: {"sel": 0, "table": 0})
    said: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        for name in ("sel", "table"):
            policy = getattr(self, name)
            if not (isinstance(policy, str) and policy in POLICIES):
                raise InputError(f"{name} {policy!r} is unknown; choose {', '.join(POLICIES)}")

    @property
    def silent(self) -> bool:
        """True if `warning` has nothing left to say, whatever is counted."""
        return all(getattr(self, name) != "warn" or name in self.said for name in self.totals)

    def note(self, result: Result) -> None:
        """Add a result's counts.

        Raises
        ------
        RangeError
            Something is found whose policy is "error".
        """
        for name, count in (("sel", result.dropped), ("table", result.beyond_table)):
            if not count:
                continue
            if getattr(self, name) == "error":
                text = f"{count} {_MEANING[name]}"
                raise RangeError(f"{text} (stopped since '{name} error' is set)")
            self.totals[name] += count

    def warning(self, totals: Iterable[int]) -> str | None:
        """What is found for the first time, in words.

        Parameters
        ----------
        totals : (2,) ints
            Neighbours dropped and pairs outside; from `totals`, or summed over several processes.
        """
        texts = []
        for name, count in zip(self.totals, totals, strict=True):
            if count and getattr(self, name) == "warn" and name not in self.said:
                self.said.add(name)
                texts.append(f"{count} {_MEANING[name]}")
        return "; ".join(texts) or None
