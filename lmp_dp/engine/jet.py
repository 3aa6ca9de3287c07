"""Value, first and second derivative of an embedding net along its one input (forward mode).

Per layer, with z = x W + b, h = act(z):   z' = x' W,  h' = act' z',  h'' = act' z'' + act'' z'^2.
"""

from __future__ import annotations

import numpy as np

from lmp_dp.engine.activation import curvature, value_and_slope
from lmp_dp.model.network import Network


def evaluate(net: Network, s_p: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """G, dG/ds and d2G/ds2 at each s: three (n, M) float64 arrays (weights widened exactly)."""
    x = s_p.astype(np.float64)[:, None]
    dx, ddx = np.ones_like(x), np.zeros_like(x)
    for layer in net.layers:
        weight = layer.weight_io.astype(np.float64)
        z, dz, ddz = x @ weight + layer.bias_o, dx @ weight, ddx @ weight
        h, slope = value_and_slope(layer.activation, z)
        dh, ddh = slope * dz, slope * ddz + curvature(layer.activation, z) * dz * dz
        if layer.idt_o is not None:
            h, dh, ddh = h * layer.idt_o, dh * layer.idt_o, ddh * layer.idt_o
        if layer.joins == "add":
            h, dh, ddh = x + h, dx + dh, ddx + ddh
        elif layer.joins == "double":
            h, dh, ddh = (
                np.concatenate([old, old], axis=1) + new
                for old, new in ((x, h), (dx, dh), (ddx, ddh))
            )
        x, dx, ddx = h, dh, ddh
    return x, dx, ddx
