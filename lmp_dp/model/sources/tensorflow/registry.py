"""Who reads which kind of descriptor.

    @reads("what it is called", lambda piece: ...)
    def _(piece: Piece) -> Part: ...

from what the graph shows: exactly one reader knows a piece.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

from lmp_dp.model.descriptors.registry import Part
from lmp_dp.model.sources.tensorflow.pieces import Piece


class Reader(NamedTuple):
    """How a kind is known, and how it is read."""

    name: str
    knows: Callable[[Piece], bool]
    read: Callable[[Piece], Part]


READERS: list[Reader] = []
_Read = TypeVar("_Read", bound=Callable[[Piece], Part])


def reads(name: str, knows: Callable[[Piece], bool]) -> Callable[[_Read], _Read]:
    """Decorator: this function reads the pieces that `knows` is true of."""

    def register(function: _Read) -> _Read:
        READERS.append(Reader(name, knows, function))
        return function

    return register
