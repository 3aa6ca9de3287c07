"""Layers of the embedding and fitting nets: their parameters and how a layer joins its input.

A layer maps ``x_i`` to ``h_o = act(x_i W_io + b_o)``, times the time step ``idt_o`` where the
layer has one, and then joins its input in one of three ways (`Layer.joins`):

=========  =================================  ==================================
joins      output                             where DeePMD-kit does so
=========  =================================  ==================================
"replace"  ``h``                              widths differ; first fitting layer
"add"      ``x + h``                          equal widths
"double"   ``(x, x) + h``                     embedding net, width doubles
=========  =================================  ==================================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from lmp_dp.errors import ModelFileError
from lmp_dp.model import bounds
from lmp_dp.model.arrays import Parameters

Join = Literal["replace", "add", "double"]

#: Activation functions that DeePMD-kit has, by the name used here (`canonical_activation`).
ACTIVATIONS = (
    "tanh",
    "relu",
    "relu6",
    "softplus",
    "sigmoid",
    "gelu",
    "gelu_tf",
    "silu",
    "silut",
    "linear",
)

#: silu itself is 0 or the identity to double precision beyond.
SILUT_THRESHOLDS = (-100.0, 100.0)


def canonical_activation(name: str | None) -> str:
    """Return the one spelling of an activation name that lmp_dp uses.

    ``none`` is ``linear``, the identity; ``silut`` becomes ``silut:T`` with its threshold
    (3 if it is not given).

    Raises
    ------
    ModelFileError
        The name is none of DeePMD-kit's activation functions, or the threshold is out of range.
    """
    lowered = "none" if name is None else name.strip().lower()
    shown = str(name)[:40]
    if lowered in ("none", ""):
        return "linear"
    kind, _, threshold = lowered.partition(":")
    if kind == "silut":
        try:
            number = float(threshold or 3.0)
        except ValueError:
            raise ModelFileError(
                f"activation '{shown}': '{threshold[:40]}' is not a number"
            ) from None
        bounds.check_number(f"activation '{shown}': the threshold", number, *SILUT_THRESHOLDS)
        return f"silut:{number!r}"
    if lowered not in ACTIVATIONS:
        raise ModelFileError(
            f"unknown activation function '{shown}'; known are {', '.join(ACTIVATIONS)}"
        )
    return lowered


@dataclass(frozen=True)
class Layer:
    """One dense layer.

    Attributes
    ----------
    weight_io : (n_in, n_out) array, float32 or float64
    bias_o : (n_out,) array
    idt_o : (n_out,) array or None
        ResNet time step (``resnet_dt``), multiplied onto the activation.
    activation : str
        A name as `canonical_activation` gives it.
    joins : {"replace", "add", "double"}
        What happens to the layer's input, see the module's table.
    """

    weight_io: Parameters
    bias_o: Parameters
    idt_o: Parameters | None
    activation: str
    joins: Join

    def __post_init__(self) -> None:
        if self.weight_io.ndim != 2 or 0 in self.weight_io.shape:
            raise ModelFileError(f"weights have shape {self.weight_io.shape}, expected two widths")
        n_in, n_out = self.weight_io.shape
        bounds.check("weight", self.weight_io, (n_in, n_out))
        bounds.check("bias", self.bias_o, (n_out,))
        if self.idt_o is not None:
            bounds.check("idt", self.idt_o, (n_out,))
        fits = {"replace": True, "add": n_out == n_in, "double": n_out == 2 * n_in}
        if not fits.get(self.joins, True):
            raise ModelFileError(f"a layer {n_in} -> {n_out} cannot join its input '{self.joins}'")
        if self.joins not in ("replace", "add", "double"):
            raise ModelFileError(f"unknown way to join a layer's input: '{self.joins}'")
        if self.activation != (name := canonical_activation(self.activation)):
            raise ModelFileError(f"activation {self.activation[:40]!r} is spelled '{name}' here")


@dataclass(frozen=True)
class Network:
    """A stack of layers; the output of one is the input of the next."""

    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        if not self.layers:
            raise ModelFileError("a network has no layers")
        for k, (one, two) in enumerate(zip(self.layers, self.layers[1:], strict=False)):
            if one.weight_io.shape[1] != two.weight_io.shape[0]:
                raise ModelFileError(
                    f"layer {k} gives {one.weight_io.shape[1]} values, "
                    f"layer {k + 1} takes {two.weight_io.shape[0]}"
                )
        dtypes = {array.dtype for layer in self.layers for array in _arrays(layer)}
        if len(dtypes) != 1:
            raise ModelFileError(f"a network mixes precisions: {' and '.join(map(str, dtypes))}")

    @property
    def n_in(self) -> int:
        return self.layers[0].weight_io.shape[0]

    @property
    def n_out(self) -> int:
        return self.layers[-1].weight_io.shape[1]

    @property
    def n_channels(self) -> int:
        """Outputs, as an embedding net's."""
        return self.n_out

    @property
    def widths(self) -> tuple[int, ...]:
        return tuple(layer.weight_io.shape[1] for layer in self.layers)

    @property
    def dtype(self) -> np.dtype:
        return self.layers[0].weight_io.dtype


def _arrays(layer: Layer) -> list[np.ndarray]:
    return [a for a in (layer.weight_io, layer.bias_o, layer.idt_o) if a is not None]


def embedding_join(n_in: int, n_out: int) -> Join:
    """How a layer of an embedding net joins its input: by its widths alone."""
    if n_out == n_in:
        return "add"
    return "double" if n_out == 2 * n_in else "replace"


def fitting_join(index: int, n_in: int, n_out: int) -> Join:
    """How hidden layer `index` of a fitting net joins its input: the first one never does."""
    return "add" if index > 0 and n_out == n_in else "replace"
