"""Type embedding: the numbers by which nets are told an element."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lmp_dp.errors import UnsupportedModelError
from lmp_dp.model.network import Network

_ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "linear": lambda z: z,
    "tanh": np.tanh,
    "relu": lambda z: np.maximum(z, 0),
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
}


def of_elements(net: Network) -> np.ndarray:
    """te of each element, (n_types, Y): what `net` gives for one-hot rows, in its precision.

    Raises
    ------
    UnsupportedModelError
        The net has another activation function than those that type embeddings come with.
    """
    x_ti = np.eye(net.n_in, dtype=net.dtype)
    for layer in net.layers:
        if layer.activation not in _ACTIVATIONS:
            raise UnsupportedModelError(
                f"a type embedding with the activation function {layer.activation} is not "
                f"supported, only {', '.join(_ACTIVATIONS)}"
            )
        h_to = _ACTIVATIONS[layer.activation](x_ti @ layer.weight_io + layer.bias_o)
        if layer.idt_o is not None:
            h_to = h_to * layer.idt_o
        if layer.joins == "add":
            h_to = h_to + x_ti
        elif layer.joins == "double":
            h_to = h_to + np.concatenate([x_ti, x_ti], axis=1)
        x_ti = h_to
    return x_ti
