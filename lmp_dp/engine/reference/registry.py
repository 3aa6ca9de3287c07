"""Who evaluates which kind of descriptor.

    @evaluates(Kind)
    def _(descriptor: Kind, t: int, rows: Rows) -> Evaluated: ...

from the environment rows of centres of element `t`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from lmp_dp.engine.neighbourhood import Array


class Rows(NamedTuple):
    """Environment rows of centres of one element, a slot each.

    Attributes
    ----------
    normalised_nsk : (n, n_slots, 4) array
        (R - davg)/dstd in the descriptor's precision; empty slots are the row -davg/dstd, slots of
        neighbours that the centre does not see (`Environment.excluded_take_slots`) the row 0.
    filled_ns : (n, n_slots) bool array
        Where there is a neighbour.
    hidden_ns : (n, n_slots) bool array
        Where there is one that the centre does not see.
    types_ns : (n, n_slots) int array
        Elements of the neighbours, -1 in empty slots.
    slots_ns : (n, n_slots) int array
        Indices of the neighbours, -1 in empty slots.
    r_nsc : (n, n_slots, 3) array
        r_j - r_i (Å).
    slopes_nskc : (n, n_slots, 4, 3) array
        dR_k/dr_c, 0 of neighbours that the centre does not see.
    """

    normalised_nsk: Array
    filled_ns: Array
    hidden_ns: Array
    types_ns: Array
    slots_ns: Array
    r_nsc: Array
    slopes_nskc: Array


class Evaluated(NamedTuple):
    """A descriptor's values.

    Attributes
    ----------
    d_nd : (n, n_out) array
    backward : callable
        dE/dD (n, n_out) -> dE/d(normalised rows) (n, n_slots, 4). Where D depends on the
        displacements in other ways too, that and their dE/dr (n, n_slots, 3).
    beyond_table : int
        Neighbours closer than a compressed model's tables were made for.
    """

    d_nd: Array
    backward: Callable[[Array], Array | tuple[Array, Array]]
    beyond_table: int


_Function = TypeVar("_Function", bound=Callable[..., Evaluated])
FUNCTIONS: dict[type, Callable[[Any, int, Rows], Evaluated]] = {}
#: How many inputs embedding nets have around one centre, which memory goes with.
N_EMBEDDED: dict[type, Callable[[Any], int]] = {}


def evaluates(
    kind: type, n_embedded: Callable[[Any], int] = lambda part: part.environment.n_slots
) -> Callable[[_Function], _Function]:
    """Decorator: this function evaluates descriptors of a kind."""

    def register(function: _Function) -> _Function:
        FUNCTIONS[kind], N_EMBEDDED[kind] = function, n_embedded
        return function

    return register
