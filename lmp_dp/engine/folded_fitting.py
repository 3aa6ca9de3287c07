"""A fitting net whose first layer takes the features of a model's forms in place of D."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from lmp_dp.engine import network
from lmp_dp.model.fitting import Fitting
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
    vacuum_net : Network or None
        A net on (D, p), whose value at D = 0 is subtracted.
    """

    net: Network
    parameter_weight_fo: np.ndarray
    bias: float
    vacuum_net: Network | None

    @property
    def dtype(self) -> np.dtype:
        """Precision of the net."""
        return self.net.dtype

    def vacuum(self, parameters_bf: np.ndarray) -> np.ndarray:
        """What is subtracted (eV): a value per centre, or one for all."""
        if self.vacuum_net and parameters_bf.shape[1]:
            return self._at_zero(parameters_bf)
        return self._vacuum_of_all_b

    @cached_property
    def _vacuum_of_all_b(self) -> np.ndarray:
        if not self.vacuum_net:
            return np.zeros(1, self.dtype)
        return self._at_zero(np.zeros((1, 0), self.dtype))

    def _at_zero(self, parameters_bf: np.ndarray) -> np.ndarray:
        assert self.vacuum_net is not None
        n_b, n_f = parameters_bf.shape
        zeros_bd = np.zeros((n_b, self.vacuum_net.n_in - n_f), self.dtype)
        inputs_bi = np.concatenate([zeros_bd, parameters_bf], axis=1)
        return network.forward(self.vacuum_net, inputs_bi)[0][:, 0]


def fitting_nets(fitting: Fitting, t: int, n_d: int) -> tuple[Network, Network | None]:
    """The net on (D, p) for centres of element `t`, and that of its vacuum, if that is subtracted.

    Both have plain ends. What the net is told of the element, behind the `n_d` values of D, is in
    the first layer's bias.
    """
    net = with_plain_ends(fitting.net(t))
    if fitting.is_silent(t):
        last = net.layers[-1]
        nothing = replace(last, weight_io=0 * last.weight_io, bias_o=0 * last.bias_o)
        return _told(Network((*net.layers[:-1], nothing)), n_d, fitting.type_to, t), None
    told = _told(net, n_d, fitting.type_to, t)
    if not fitting.subtract_vacuum_t[t]:
        return told, None
    if fitting.type_to is None or fitting.vacuum_is_typed:
        return told, told
    return told, _told(net, n_d, 0 * fitting.type_to, t)


def _told(net: Network, n_d: int, type_to: np.ndarray | None, t: int) -> Network:
    if type_to is None:
        return net
    first, behind = net.layers[0], n_d + type_to.shape[1]
    shift_o = type_to[t].astype(np.float64) @ first.weight_io[n_d:behind]
    layer = replace(
        first,
        weight_io=np.concatenate([first.weight_io[:n_d], first.weight_io[behind:]]),
        bias_o=(first.bias_o + shift_o).astype(net.dtype),
    )
    return Network((layer, *net.layers[1:]))


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
