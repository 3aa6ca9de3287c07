"""Who tabulates which kind of descriptor.

@tabulates(Kind)
class _: ...  # a `Tabulation`, whose methods take no `self`
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from lmp_dp.model.network import Network


@dataclass(frozen=True)
class Request:
    """What tables are asked for.

    Attributes
    ----------
    distance : float
        Smallest distance of two atoms (Å), where the fine part ends.
    tolerance : float
        Bound of the error of G relative to the largest |G|, for basis and pieces.
    step : float or None
        Fixed width of the pieces in place of adapting to the tolerance.
    type_map : tuple of str
        Names of the elements, for `progress`.
    progress : callable
        Called with a text and the fraction of the descriptor that is done.
    """

    distance: float
    tolerance: float
    step: float | None
    type_map: tuple[str, ...]
    progress: Callable[[str, float], None]


class Tabulation(Protocol):
    """How descriptors of one kind are tabulated; a `part` is one of them."""

    @staticmethod
    def nets(part: Any) -> tuple[Network, ...]:
        """Its nets that tables can stand for, tabulated already or not; empty without any."""
        ...

    @staticmethod
    def with_tables(part: Any, request: Request) -> Any:
        """The part with its nets tabulated; the nets are kept."""

    @staticmethod
    def without_nets(part: Any) -> Any:
        """A tabulated part without the nets that the tables stand for."""

    @staticmethod
    def smallest_distance(part: Any, tolerance: float) -> float:
        """The distance (Å) down to which tables can follow the nets."""
        ...

    @staticmethod
    def finest_distance(part: Any) -> float:
        """The distance (Å) where the fine part of a tabulated part's tables ends, or more."""
        ...


_Kind = TypeVar("_Kind", bound=type)
TABULATIONS: dict[type, type[Tabulation]] = {}


def tabulates(kind: type) -> Callable[[_Kind], _Kind]:
    """Decorator: this `Tabulation` tabulates descriptors of a kind."""

    def register(tabulation: _Kind) -> _Kind:
        TABULATIONS[kind] = tabulation
        return tabulation

    return register
