"""The same model with its networks in another precision."""

from __future__ import annotations

import dataclasses

import numpy as np

from lmp_dp.errors import InputError
from lmp_dp.model.deep_potential import DeepPotential
from lmp_dp.model.mapped import replace_evaluated, replace_parameters
from lmp_dp.model.network import Network
from lmp_dp.model.table import Table


def cast(model: DeepPotential, precision: str) -> DeepPotential:
    """Cast the parameters of all nets to "float64" or "float32"; all else stays float64.

    Raises
    ------
    InputError
        Another precision is asked for.
    """
    if not (isinstance(precision, str) and precision in ("float64", "float32")):
        raise InputError(f"precision {precision!r} is unknown; choose float64 or float32")
    dtype = np.dtype(precision)
    return replace_evaluated(
        model,
        lambda parameters: parameters.astype(dtype),
        Table,
        lambda table: dataclasses.replace(table, dtype=dtype),
    )


def cast_network(net: Network, precision: str) -> Network:
    """A network with its parameters as "float64" or "float32"."""
    dtype = np.dtype(precision)
    return replace_parameters(net, lambda parameters: parameters.astype(dtype))
