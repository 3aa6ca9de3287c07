"""The same model with its networks in another precision."""

from __future__ import annotations

import dataclasses

import numpy as np

from lmp_dp.errors import InputError
from lmp_dp.model.deep_potential import DeepPotential
from lmp_dp.model.network import Network


def cast(model: DeepPotential, precision: str) -> DeepPotential:
    """Cast embedding and fitting nets to "float64" or "float32"; all else stays float64.

    Raises
    ------
    InputError
        Another precision is asked for.
    """
    if not (isinstance(precision, str) and precision in ("float64", "float32")):
        raise InputError(f"precision {precision!r} is unknown; choose float64 or float32")
    d, fitting = model.descriptor, model.fitting
    dtype = np.dtype(precision)
    return dataclasses.replace(
        model,
        descriptor=dataclasses.replace(
            d,
            embeddings=tuple(cast_network(net, precision) for net in d.embeddings),
            tables=tuple(dataclasses.replace(table, dtype=dtype) for table in d.tables),
        ),
        fitting=dataclasses.replace(
            fitting, nets=tuple(cast_network(net, precision) for net in fitting.nets)
        ),
    )


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
