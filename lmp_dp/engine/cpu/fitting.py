"""The fitting net of a chunk: products, and a kernel or NumPy between them."""

from __future__ import annotations

import numpy as np

from lmp_dp.engine.activation import value_and_slope
from lmp_dp.engine.cpu.kernels import nets
from lmp_dp.engine.cpu.kernels.products import multiply
from lmp_dp.engine.cpu.packing import PackedFitting
from lmp_dp.engine.cpu.room import LayerRoom


class FittingStage:
    """Energies of centres from their features, and back."""

    def __init__(self, fitting: PackedFitting) -> None:
        self._fitting = fitting

    @property
    def n_layers(self) -> int:
        """Hidden layers: how many rooms `evaluate` takes."""
        return len(self._fitting.layers)

    def evaluate(
        self, features_bi: np.ndarray, parameters_bf: np.ndarray, rooms: list[LayerRoom]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Energies (float64, eV) and dE/dx."""
        fitting = self._fitting
        slopes, x_bi = [], features_bi
        for k, room in zip(range(self.n_layers), rooms, strict=False):
            x_bi, slope_bo = self._forward(k, x_bi, parameters_bf, room)
            slopes.append(slope_bo)
        energies_b = x_bi @ fitting.last_o + fitting.last_bias
        if not fitting.layers:
            energies_b += (parameters_bf @ fitting.parameter_weight_fo)[:, 0]
        energies_b -= fitting.vacuum(parameters_bf)

        dy_bo = fitting.last_o  # of every centre, until a layer has taken it back
        for k in range(self.n_layers - 1, -1, -1):
            layer = fitting.layers[k]
            dz_bo = np.multiply(dy_bo, slopes[k], out=slopes[k])
            dx_bi = rooms[k].dx_bi.take((len(features_bi), len(layer.weight_io)), fitting.dtype)
            multiply(dz_bo, layer.weight_oi, fitting.zeros, fitting.lanes, dx_bi)
            for part in layer.joined:
                dx_bi[:, : layer.n_joined] += dy_bo[..., part]
            dy_bo = dx_bi
        if not fitting.layers:
            dy_bo = np.tile(fitting.last_o, (len(features_bi), 1))
        return energies_b.astype(np.float64) + fitting.bias, dy_bo

    def _forward(
        self, k: int, x_bi: np.ndarray, parameters_bf: np.ndarray, room: LayerRoom
    ) -> tuple[np.ndarray, np.ndarray]:
        """Output and slope of hidden layer `k`."""
        fitting = self._fitting
        layer, dtype = fitting.layers[k], fitting.dtype
        bias_o, idt_o, joined = layer.bias_o, layer.idt_o, layer.joined
        shape = (len(x_bi), len(bias_o))
        y_bo = room.y_bo.take(shape, dtype)
        multiply(x_bi, layer.weight_io, fitting.zeros, fitting.lanes, y_bo)
        if k == 0 and parameters_bf.shape[1]:
            y_bo += parameters_bf @ fitting.parameter_weight_fo
        if layer.activation == "tanh":
            slope_bo = room.slope_bo.take(shape, dtype)
            adds = len(joined) == 1
            nets.tanh_layer(
                y_bo, bias_o, idt_o, x_bi if adds else y_bo, adds, fitting.lanes, slope_bo
            )
            if adds:
                joined = []
        else:
            y_bo += bias_o
            y_bo, slope_bo = value_and_slope(layer.activation, y_bo)
            y_bo, slope_bo = y_bo * idt_o, slope_bo * idt_o
        for part in joined:
            y_bo[:, part] += x_bi[:, : layer.n_joined]
        return y_bo, slope_bo
