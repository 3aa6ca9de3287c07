"""The fitting net of a chunk on a device."""

from __future__ import annotations

from typing import Any

import numpy as np

from lmp_dp.engine.folded_fitting import FoldedFitting
from lmp_dp.engine.gpu import kernels
from lmp_dp.engine.gpu.chunk import ChunkArrays
from lmp_dp.engine.gpu.room import LayerRoom
from lmp_dp.engine.gpu.upload import DeviceFitting
from lmp_dp.engine.neighbourhood import Array


class FittingStage:
    """Energies of centres from their features, and back."""

    def __init__(self, device: Any, fitting: FoldedFitting, compiled: Any) -> None:
        self.device, self.net = device, DeviceFitting(device, fitting)
        self._kernels = compiled[fitting.dtype]

    def evaluate(
        self,
        chunk: ChunkArrays,
        features_bi: Array,
        parameters_bf: Array | None,
        rooms: dict[int, LayerRoom],
    ) -> Array:
        """Energies to the chunk's array; returns dE/dx."""
        net, device, xp = self.net, self.device, self.device.xp
        slopes, x_bi = [], features_bi
        for k in range(len(net.layers)):
            room = rooms.setdefault(k, LayerRoom())
            x_bi, slope_bo = self._forward(k, x_bi, parameters_bf, room)
            slopes.append(slope_bo)
        device.launch(
            self._kernels, "energies", kernels.warps(chunk.n), x_bi, np.int32(chunk.n),
            np.int32(x_bi.shape[1]), net.last_o, np.float64(net.constant), chunk.members_b,
            chunk.energies_a,
        )  # fmt: skip
        if not net.layers:
            if parameters_bf is not None:
                more_b = (parameters_bf @ net.parameter_weight_fo)[:, 0]
                chunk.energies_a[chunk.members_b] += more_b
            return xp.tile(net.last_o, (chunk.n, 1))

        dy = dx_bi = net.last_o  # of all centres, until a layer has taken it back
        for k in range(len(net.layers) - 1, -1, -1):
            layer, slope_bo = net.layers[k], slopes[k]
            size = (np.int32(slope_bo.shape[1]), np.int64(slope_bo.size))
            blocks = kernels.blocks(slope_bo.size)
            if k == len(net.layers) - 1:
                device.launch(self._kernels, "last_layer_backward", blocks, dy, *size, slope_bo)
            else:
                behind = net.layers[k + 1]
                stride = np.int32(0 if dy is net.last_o else dy.shape[1])
                device.launch(
                    self._kernels, "fitting_layer_backward", blocks, dx_bi, dy, stride,
                    behind.joins, behind.n_joined, *size, slope_bo,
                )  # fmt: skip
                dy = dx_bi
            dx_bi = rooms[k].dx_bi.take(xp, (chunk.n, layer.weight_io.shape[0]), net.dtype)
            xp.matmul(slope_bo, layer.weight_oi, out=dx_bi)
        return dx_bi  # the first layer does not join its input

    def _forward(
        self, k: int, x_bi: Array, parameters_bf: Array | None, room: LayerRoom
    ) -> tuple[Array, Array]:
        """Output and slope of hidden layer `k`."""
        net, xp = self.net, self.device.xp
        layer = net.layers[k]
        n, width = len(x_bi), layer.weight_io.shape[1]
        y_bo = room.y_bo.take(xp, (n, width), net.dtype)
        slope_bo = room.slope_bo.take(xp, (n, width), net.dtype)
        xp.matmul(x_bi, layer.weight_io, out=y_bo)
        if k == 0 and parameters_bf is not None:
            y_bo += parameters_bf @ net.parameter_weight_fo
        self.device.launch(
            self._kernels, "fitting_layer", kernels.blocks(n * width), y_bo, x_bi,
            np.int32(x_bi.shape[1]), layer.joins, layer.n_joined, np.int32(width),
            np.int64(n * width), layer.bias_o, layer.idt_o, *layer.activation, slope_bo,
        )  # fmt: skip
        return y_bo, slope_bo
