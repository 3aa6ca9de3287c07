"""Compression: a model with its embedding nets tabulated (`tabulation`)."""

from __future__ import annotations

from collections.abc import Callable

from lmp_dp.engine import tabulation
from lmp_dp.engine.process import one_blas_thread
from lmp_dp.errors import InputError
from lmp_dp.model import DeepPotential

#: Default bound of the tables' error, relative to the largest |G|.
TOLERANCE = 1e-9


def compress(
    model: DeepPotential,
    *,
    tolerance: float = TOLERANCE,
    step: float | None = None,
    min_distance: float | None = None,
    drop_networks: bool = False,
    progress: Callable[[str, float], None] = lambda stage, done: None,
) -> DeepPotential:
    """A model with its embedding nets tabulated.

    Parameters
    ----------
    model : DeepPotential
        Uncompressed, or compressed with its nets kept.
    tolerance : float
        Bound of the error of G relative to the largest |G|, for basis and pieces.
    step : float, optional
        Fixed width of the pieces (normalised s) in place of adapting to the tolerance; ten times
        that in the outer part.
    min_distance : float, optional
        Smallest distance of two atoms (Å), where the fine part ends; default is the smallest of
        the training data.
    drop_networks : bool
        Leave the nets out of the result.
    progress : callable
        Called with a text and the fraction done.

    Raises
    ------
    InputError
        The nets are gone already, the smallest distance is unknown, or an option is unusable.
    """
    distance = _smallest_distance(model, min_distance, tolerance, step)
    with one_blas_thread:  # whose number the last digits of the tables depend on
        tabulated = tabulation.with_tables(model, distance, tolerance, step, progress)
    if not drop_networks:
        return tabulated
    return tabulation.without_nets(tabulated)


def _smallest_distance(
    model: DeepPotential, asked: float | None, tolerance: float, step: float | None
) -> float:
    """The smallest distance of two atoms (Å), when all arguments can be used."""
    if not tabulation.tabulated_nets(model):
        if model.tables:
            raise InputError(
                "this model is compressed by its source, which has no networks any more: compress "
                "the model that it was made from"
                if model.provenance.source_tables
                else "this model keeps only tables: compress the file that has its networks"
            )
        raise InputError(
            f"descriptor {model.descriptor.kind} has no embedding nets that could be tabulated"
        )
    distance = asked if asked is not None else model.provenance.min_nbor_dist
    if distance is None:
        raise InputError(
            "the model does not say the smallest distance of its training data: give "
            "--min-distance (Å) of lmp-dp compress"
        )
    if not 0.0 < distance < model.rcut:
        raise InputError(f"the smallest distance is {distance} Å, expected 0 < d < {model.rcut}")
    if not 1e-15 <= tolerance < 1.0:
        raise InputError(f"tolerance is {tolerance}, expected 1e-15 <= tolerance < 1")
    if step is not None and not 1e-4 <= step <= 1.0:
        raise InputError(f"step is {step}, expected 1e-4 <= step <= 1")
    smallest = tabulation.smallest_distance(model, tolerance)
    if distance < smallest:
        raise InputError(
            f"the smallest distance is {distance} Å, but tables can follow the nets of this model "
            f"down to {smallest:.2g} Å only: give a larger --min-distance"
        )
    return distance


def doubts_of_tables(model: DeepPotential) -> str:
    """What tables of the model's nets cannot follow; "" if nothing."""
    kinked = {
        layer.activation
        for net in tabulation.tabulated_nets(model)
        for layer in net.layers
        if layer.activation in ("relu", "relu6")
    }
    if not kinked:
        return ""
    return (
        f"{' and '.join(sorted(kinked))} has kinks, which tables round off: compare forces with "
        "lmp-dp check before you use this model compressed"
    )
