"""A model on a device: `lmp_dp.engine.layout` uploaded, in the form that `kernels/cuda` reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lmp_dp.engine.activation import GELU_CUBIC, GELU_SCALE, silut_constants
from lmp_dp.engine.layout import FittingLayer, Layout, NetworkBlock, TableBlock
from lmp_dp.engine.neighbourhood import Array
from lmp_dp.model.network import Layer, Network

#: As `enum Activation` of kernels/cuda/fitting.cu.
_ACTIVATIONS = (
    "tanh",
    "relu",
    "relu6",
    "softplus",
    "sigmoid",
    "gelu",
    "silu",
    "silut",
    "linear",
)


@dataclass(frozen=True)
class DeviceLayer:
    """A layer on the device.

    `joins` counts how often its input is added, of which the first `n_joined` columns are meant.
    """

    activation: tuple[np.int32, Array]
    joins: np.int32
    n_joined: np.int32
    weight_io: Array
    weight_oi: Array
    bias_o: Array
    idt_o: Array


@dataclass(frozen=True)
class DeviceNet:
    """The embedding net of one neighbour element."""

    neighbour: int
    layers: list[DeviceLayer]
    padding_km: Array


class DeviceLayout:
    """`lmp_dp.engine.layout.Layout` of one element on the device."""

    def __init__(self, device: Any, layout: Layout, n_types: int) -> None:
        upload = device.upload
        self.tabulated = layout.tabulated
        self.shift_k = upload(layout.davg_k / layout.dstd_k)
        self.scale_k = upload(1.0 / layout.dstd_k)
        self.n_columns, self.rank, self.n_axis = layout.n_columns, layout.rank, layout.n_axis
        self.n_features = layout.n_features
        self.k_qr = self.k_rq = None
        if layout.k_qr is not None:
            self.k_qr = upload(layout.k_qr)
            self.k_rq = upload(np.ascontiguousarray(layout.k_qr.T))
        self._upload_tables(device, layout, n_types)
        self.nets = [
            DeviceNet(
                block.neighbour,
                [_network_layer(device, block.net, k) for k in range(len(block.net.layers))],
                upload(block.padding_km),
            )
            for block in layout.blocks
            if isinstance(block, NetworkBlock)
        ]
        fitting = layout.fitting
        self.layers = [
            _layer(device, layer, len(layer.joined), layer.n_joined, layer.idt_o)
            for layer in fitting.layers
        ]
        self.last_o = upload(fitting.last_o)
        self.parameter_weight_fo = upload(fitting.parameter_weight_fo)
        self.vacuum = layout.vacuum
        self.constant = float(fitting.last_bias) + layout.bias

    def _upload_tables(self, device: Any, layout: Layout, n_types: int) -> None:
        """Tables of all neighbour elements, one behind the other."""
        lookup_tx, cells_tx = np.zeros((n_types, 3)), np.zeros((n_types, 2), np.int32)
        blocks_tx = np.zeros((n_types, 2), np.int32)
        starts_tx = np.zeros((n_types, 3), np.int64)
        arrays: list[list[np.ndarray]] = [[], [], [], [], []]
        for block in layout.blocks:
            if not isinstance(block, TableBlock):
                continue
            t = block.neighbour
            lower, inner, cell_width, pieces_q, first_q = block.lookup
            lookup_tx[t] = lower, inner, cell_width
            cells_tx[t] = len(pieces_q), sum(map(len, arrays[0]))
            blocks_tx[t] = block.coefficients_pkr.shape[2], block.start
            starts_tx[t] = [sum(part.size for part in arrays[k]) for k in (2, 3, 4)]
            parts = (
                pieces_q.astype(np.int32), first_q[:-1].astype(np.int32),
                block.coefficients_pkr.ravel(), block.slope_p, block.padding_kr.ravel(),
            )  # fmt: skip
            for array, part in zip(arrays, parts, strict=True):
                array.append(part)
        self.lookup_tx, self.cells_tx = device.upload(lookup_tx), device.upload(cells_tx)
        self.blocks_tx, self.starts_tx = device.upload(blocks_tx), device.upload(starts_tx)
        dtype = layout.dtype
        empty: tuple[Any, ...] = (np.int32, np.int32, dtype, dtype, dtype)
        self.pieces_q, self.first_q, self.coefficients, self.slopes, self.padding = (
            device.upload(np.concatenate([np.zeros(0, of), *array]).astype(of))
            for of, array in zip(empty, arrays, strict=True)
        )

    def bytes_per_centre(self, slots: int, n_channels: int) -> int:
        """Working memory of one centre with `slots` neighbours."""
        per_slot = 4 + 4 * 8 + 4 + 8
        if self.nets:
            widths = [layer.weight_io.shape[1] for layer in self.nets[0].layers]
            per_slot += 2 * 8 * (n_channels + 3 * max(widths))
        widths = [layer.weight_io.shape[1] for layer in self.layers]
        return slots * per_slot + 8 * (
            2 * self.n_features + 3 * sum(widths) + 16 * max(self.n_columns, self.rank)
        )


def _network_layer(device: Any, net: Network, k: int) -> DeviceLayer:
    layer = net.layers[k]
    joins = ("replace", "add", "double").index(layer.joins)
    idt_o = np.ones_like(layer.bias_o) if layer.idt_o is None else layer.idt_o
    return _layer(device, layer, joins, len(layer.weight_io), idt_o)


def _layer(
    device: Any, layer: Layer | FittingLayer, joins: int, n_joined: int, idt_o: np.ndarray
) -> DeviceLayer:
    kind, _, threshold = layer.activation.partition(":")
    constant_x = np.zeros(3)
    if kind in GELU_CUBIC:
        constant_x[:2] = GELU_SCALE, GELU_CUBIC[kind]
        kind = "gelu"
    elif kind == "silut":
        constant_x[:] = float(threshold), *silut_constants(float(threshold))
    return DeviceLayer(
        activation=(np.int32(_ACTIVATIONS.index(kind)), device.upload(constant_x)),
        joins=np.int32(joins),
        n_joined=np.int32(n_joined),
        weight_io=device.upload(np.ascontiguousarray(layer.weight_io)),
        weight_oi=device.upload(np.ascontiguousarray(layer.weight_io.T)),
        bias_o=device.upload(layer.bias_o),
        idt_o=device.upload(idt_o),
    )
