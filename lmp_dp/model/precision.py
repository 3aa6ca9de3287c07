"""The same model with its networks in another precision."""

from __future__ import annotations

import dataclasses

import numpy as np

from lmp_dp.errors import InputError
from lmp_dp.model.deep_potential import DeepPotential
from lmp_dp.model.mapped import replace_all
from lmp_dp.model.network import Network
from lmp_dp.model.table import Table


def cast(model: DeepPotential, precision: str) -> DeepPotential:
    """Cast embedding and fitting nets to "float64" or "float32"; all else stays float64.

    Raises
    ------
    InputError
        Another precision is asked for.
    """
    if not (isinstance(precision, str) and precision in ("float64", "float32")):
        raise InputError(f"precision {precision!r} is unknown; choose float64 or float32")

    def in_precision(part: Network | Table) -> Network | Table:
        if isinstance(part, Table):
            return dataclasses.replace(part, dtype=np.dtype(precision))
        return cast_network(part, precision)

    return replace_all(model, (Network, Table), in_precision)


def cast_network(net: Network, precision: str) -> Network:
    """A network with its parameters as "float64" or "float32"."""
    dtype = np.dtype(precision)
    return Network(
        tuple(
            dataclasses.replace(
                layer,
                weight_io=layer.weight_io.astype(dtype),
                bias_o=layer.bias_o.astype(dtype),
                idt_o=None if layer.idt_o is None else layer.idt_o.astype(dtype),
            )
            for layer in net.layers
        )
    )
