"""Who evaluates which kind of descriptor.

    @evaluates(Kind)
    def _(descriptor: Kind, t: int, rows_nsk: Array, filled_ns: Array) -> Evaluated: ...

from the normalised environment rows of centres of element `t` (empty slots are the row -davg/dstd)
and which slots are filled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from lmp_dp.engine.neighbourhood import Array


class Evaluated(NamedTuple):
    """A descriptor's values.

    Attributes
    ----------
    d_nd : (n, n_out) array
    backward : callable
        dE/dD (n, n_out) -> dE/d(normalised rows) (n, n_slots, 4).
    beyond_table : int
        Neighbours closer than a compressed model's tables were made for.
    """

    d_nd: Array
    backward: Callable[[Array], Array]
    beyond_table: int


_Function = TypeVar("_Function", bound=Callable[..., Evaluated])
FUNCTIONS: dict[type, Callable[[Any, int, Array, Array], Evaluated]] = {}


def evaluates(kind: type) -> Callable[[_Function], _Function]:
    """Decorator: this function evaluates descriptors of a kind."""

    def register(function: _Function) -> _Function:
        FUNCTIONS[kind] = function
        return function

    return register
