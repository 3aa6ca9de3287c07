"""Tables in place of embedding nets.

Each kind of descriptor that can be tabulated has a module here that registers how (`registry`);
`pieces` makes the table of one net.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator

from lmp_dp.engine.tabulation.pieces import OUTER_LIMIT, OUTER_POWER
from lmp_dp.engine.tabulation.registry import TABULATIONS, Request, Tabulation
from lmp_dp.model.deep_potential import DeepPotential
from lmp_dp.model.descriptors.registry import Part
from lmp_dp.model.mapped import find_all, replace_all
from lmp_dp.model.network import Network
from lmp_dp.model.table import Table

__all__ = [
    "OUTER_LIMIT",
    "OUTER_POWER",
    "finest_distance",
    "smallest_distance",
    "tabulated_nets",
    "with_tables",
    "without_nets",
]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")


def tabulated_nets(model: DeepPotential) -> list[Network]:
    """The nets of a model that tables can stand for; those that are gone are not among them."""
    return [net for part, of in _parts(model) for net in of.nets(part)]


def with_tables(
    model: DeepPotential,
    distance: float,
    tolerance: float,
    step: float | None = None,
    progress: Callable[[str, float], None] = lambda stage, done: None,
) -> DeepPotential:
    """A model with its embedding nets tabulated; the nets are kept.

    Parameters
    ----------
    model : DeepPotential
    distance : float
        Smallest distance of two atoms (Å), where the fine part ends; at least
        `smallest_distance`.
    tolerance : float
        Bound of the error of G relative to the largest |G|, for basis and pieces.
    step : float, optional
        Fixed width of the pieces (of the normalised argument) in place of adapting to the
        tolerance; ten times that in the outer part.
    progress : callable
        Called with a text and the fraction done.

    Raises
    ------
    InputError
        The step makes more pieces than can be held.
    """
    n_parts = len(list(_parts(model)))
    begun = 0

    def of_part(part: Part) -> Part:
        nonlocal begun
        of = TABULATIONS[type(part)]
        if not of.nets(part):
            return part
        before, begun = begun, begun + 1
        request = Request(
            distance,
            tolerance,
            step,
            model.type_map,
            lambda stage, done: progress(stage, (before + done) / n_parts),
        )
        return of.with_tables(part, request)

    return replace_all(model, tuple(TABULATIONS), of_part)


def without_nets(model: DeepPotential) -> DeepPotential:
    """A compressed model without the nets that its tables stand for."""
    return replace_all(
        model,
        tuple(TABULATIONS),
        lambda part: TABULATIONS[type(part)].without_nets(part) if find_all(part, Table) else part,
    )


def smallest_distance(model: DeepPotential, tolerance: float) -> float:
    """The distance (Å) down to which tables can follow the nets of a model."""
    return max(of.smallest_distance(part, tolerance) for part, of in _parts(model))


def finest_distance(model: DeepPotential) -> float:
    """The distance (Å) down to which no table of a compressed model is beyond its fine part."""
    return max(
        TABULATIONS[type(part)].finest_distance(part)
        for part in model.descriptor.parts
        if find_all(part, Table)
    )


def _parts(model: DeepPotential) -> Iterator[tuple[Part, type[Tabulation]]]:
    """Parts of the descriptor that have nets to be tabulated."""
    for part in model.descriptor.parts:
        of = TABULATIONS.get(type(part))
        if of is not None and of.nets(part):
            yield part, of
