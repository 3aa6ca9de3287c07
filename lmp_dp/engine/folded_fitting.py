"""A fitting net whose first layer takes the features of a model's forms in place of D."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lmp_dp.engine import network
from lmp_dp.model.network import Layer, Network


class FoldedLayer(Layer):
    """A layer whose weights follow from a model's: what is true of those need not be of them."""

    def __post_init__(self) -> None:
        pass


@dataclass(frozen=True)
class FoldedFitting:
    """E = net(x, p) - vacuum(p) + bias, for features x and parameters p.

    Attributes
    ----------
    net : Network
        Hidden layers and a linear last one. The first layer has one input per feature and joins
        nothing; of its own weights `net` holds those of the features only.
    parameter_weight_fo : (n_parameters, n_out of the first layer) array
        Weights of the parameters.
    bias : float
        eV.
    original : Network
        The net on (D, p).
    subtract_vacuum : bool
        Whether the original's value at D = 0 is subtracted.
    """

    net: Network
    parameter_weight_fo: np.ndarray
    bias: float
    original: Network
    subtract_vacuum: bool

    @property
    def dtype(self) -> np.dtype:
        """Precision of the net."""
        return self.net.dtype

    def vacuum(self, parameters_bf: np.ndarray) -> np.ndarray:
        """What is subtracted (eV): a value per centre, or one for all."""
        if self.subtract_vacuum and parameters_bf.shape[1]:
            return self._at_zero(parameters_bf)
        return self._vacuum_of_all_b

    @cached_property
    def _vacuum_of_all_b(self) -> np.ndarray:
        if not self.subtract_vacuum:
            return np.zeros(1, self.dtype)
        return self._at_zero(np.zeros((1, 0), self.dtype))

    def _at_zero(self, parameters_bf: np.ndarray) -> np.ndarray:
        n_b, n_f = parameters_bf.shape
        zeros_bd = np.zeros((n_b, self.original.n_in - n_f), self.dtype)
        inputs_bi = np.concatenate([zeros_bd, parameters_bf], axis=1)
        return network.forward(self.original, inputs_bi)[0][:, 0]


def with_plain_ends(net: Network) -> Network:
    """The same function, with a first layer that can be folded and a last one that is linear.

    A first layer that joins its input (the descriptor, which the features do not hold as it is)
    gets the identity in front of it; a last one that is more than linear gets it behind.
    """
    layers = list(net.layers)
    if layers[0].joins != "replace":
        layers.insert(0, _identity(net.n_in, net.dtype))
    last = layers[-1]
    if last.activation != "linear" or last.idt_o is not None or last.joins != "replace":
        layers.append(_identity(1, net.dtype))
    return Network(tuple(layers))


def _identity(width: int, dtype: np.dtype) -> Layer:
    return Layer(np.eye(width, dtype=dtype), np.zeros(width, dtype), None, "linear", "replace")
