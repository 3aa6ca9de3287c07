"""Who lowers which kind of descriptor.

    @lowers(Kind)
    def _(descriptor: Kind, t: int, weight_do: np.ndarray) -> Lowered: ...

`weight_do` are the weights of the first fitting layer for the descriptor's values, around centres
of element `t`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np

from lmp_dp.engine.forms import Form


class Lowered(NamedTuple):
    """A descriptor around centres of one element.

    Attributes
    ----------
    forms : tuple of Form
    weight_io : (n_features, n_out) float64 array
        The first fitting layer's weights, folded onto the features.
    """

    forms: tuple[Form, ...]
    weight_io: np.ndarray


_Lowering = TypeVar("_Lowering", bound=Callable[[Any, int, np.ndarray], Lowered])
LOWERINGS: dict[type, Callable[[Any, int, np.ndarray], Lowered]] = {}


def lowers(kind: type) -> Callable[[_Lowering], _Lowering]:
    """Decorator: this function lowers descriptors of a kind."""

    def register(function: _Lowering) -> _Lowering:
        LOWERINGS[kind] = function
        return function

    return register
