"""The fitting net of a chunk on a device."""

from __future__ import annotations

from typing import Any

import numpy as np

from lmp_dp.engine.folded_fitting import FoldedFitting
from lmp_dp.engine.gpu import kernels
from lmp_dp.engine.gpu.chunk import ChunkArrays
from lmp_dp.engine.gpu.device import Device
from lmp_dp.engine.gpu.room import LayerRoom
from lmp_dp.engine.gpu.upload import DeviceFitting
from lmp_dp.engine.neighbourhood import Array


class FittingStage:
    """Energies of centres from their features, and back."""

    def __init__(self, device: Device, fitting: FoldedFitting, compiled: Any) -> None:
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
        net, xp = self.net, self.device.xp
        x_bi = features_bi
        for k in range(len(net.layers)):
            room = rooms.setdefault(k, LayerRoom())
            x_bi = self._forward(k, x_bi, parameters_bf, room, chunk)
        dz_bo, dy, stride = x_bi, net.last_o, 0  # the same dE/dy for all centres
        for k in range(len(net.layers) - 1, -1, -1):
            layer = net.layers[k]
            n_in = width = len(layer.weight_io)  # that of the layer in front
            dx_bi = rooms[k].dx_bi.take(xp, (chunk.n, n_in), net.dtype)
            self.device.multiply(dz_bo, layer.weight_oi, dx_bi)
            if k > 0:
                dz_bo = rooms[k - 1].slope_bo.take(xp, (chunk.n, width), net.dtype)
                self.device.launch(
                    self._kernels, "fitting_layer_backward", kernels.warps(chunk.n), dx_bi, dy,
                    np.int32(stride), layer.joins, np.int32(net.layers[k - 1].joins > 0),
                    np.int32(chunk.n), np.int32(width), dz_bo,
                )  # fmt: skip
                dy, stride = dx_bi, width
        return dx_bi  # the first layer does not join its input

    def _forward(
        self,
        k: int,
        x_bi: Array,
        parameters_bf: Array | None,
        room: LayerRoom,
        chunk: ChunkArrays,
    ) -> Array:
        """Output of hidden layer `k`, or of the last one dE/dz, with the energies."""
        net, xp = self.net, self.device.xp
        layer = net.layers[k]
        n, width = len(x_bi), layer.weight_io.shape[1]
        y_bo = room.y_bo.take(xp, (n, width), net.dtype)
        self.device.multiply(x_bi, layer.weight_io, y_bo)
        if k == 0 and parameters_bf is not None:
            added_bo = xp.empty((n, width), net.dtype)
            self.device.multiply(parameters_bf, net.parameter_weight_fo, added_bo)
            y_bo += added_bo
        arguments = (
            y_bo, x_bi, np.int32(n), layer.joins, np.int32(x_bi.shape[1]), np.int32(width),
            layer.bias_o, layer.idt_o, *layer.activation,
        )  # fmt: skip
        if k < len(net.layers) - 1:
            slope_bo = room.slope_bo.take(xp, (n, width), net.dtype)
            self.device.launch(
                self._kernels, "fitting_layer", kernels.warps(n), *arguments, slope_bo
            )
        else:
            self.device.launch(
                self._kernels, "last_fitting_layer", kernels.warps(n), *arguments, net.last_o,
                np.float64(net.constant), chunk.members_b, chunk.energies_a,
            )  # fmt: skip
        return y_bo
