"""Forward and backward pass of a `lmp_dp.model.Network`, for NumPy and CuPy arrays.

Layer:     z = x W + b,  h = idt act(z),  y = h | x + h | (x, x) + h
Backward:  dz = idt act'(z) dy,  dx = dz Wᵀ [+ dy | + dy_left + dy_right]
"""

from __future__ import annotations

from lmp_dp.engine.activation import value_and_slope
from lmp_dp.engine.namespace import namespace_of
from lmp_dp.engine.neighbourhood import Array
from lmp_dp.model.network import Network


def forward(net: Network, x_pi: Array) -> tuple[Array, list[Array]]:
    """Evaluate the net on rows.

    Parameters
    ----------
    net : Network
        With parameters in the namespace and precision of `x_pi`.
    x_pi : (n_rows, n_in) array

    Returns
    -------
    y_po : (n_rows, n_out) array
    slopes : list of arrays
        Per layer dh/dz; what `backward` needs.
    """
    xp = namespace_of(x_pi)
    slopes = []
    for layer in net.layers:
        h_po, slope_po = value_and_slope(layer.activation, x_pi @ layer.weight_io + layer.bias_o)
        if layer.idt_o is not None:
            h_po, slope_po = h_po * layer.idt_o, slope_po * layer.idt_o
        slopes.append(slope_po)
        if layer.joins == "add":
            h_po = x_pi + h_po
        elif layer.joins == "double":
            h_po = xp.concatenate([x_pi, x_pi], axis=1) + h_po
        x_pi = h_po
    return x_pi, slopes


def backward(net: Network, dy_po: Array, slopes: list[Array]) -> Array:
    """Gradient with respect to the input, from the gradient with respect to the output."""
    for layer, slope_po in zip(reversed(net.layers), reversed(slopes), strict=True):
        dx_pi = (dy_po * slope_po) @ layer.weight_io.T
        if layer.joins == "add":
            dx_pi = dx_pi + dy_po
        elif layer.joins == "double":
            half = dy_po.shape[1] // 2
            dx_pi = dx_pi + dy_po[:, :half] + dy_po[:, half:]
        dy_po = dx_pi
    return dy_po
