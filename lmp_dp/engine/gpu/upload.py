"""Forms and fitting nets on a device, as the kernels read them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lmp_dp.engine.activation import GELU_CUBIC, GELU_SCALE, silut_constants
from lmp_dp.engine.folded_fitting import FoldedFitting
from lmp_dp.engine.forms import Block, Moment
from lmp_dp.engine.gpu.device import Device
from lmp_dp.engine.neighbourhood import Array
from lmp_dp.model.network import Layer, Network

#: As `enum Activation` of fitting.cu.
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
#: Bytes of a sector of memory: columns of B are counted in them.
_SECTOR = 32
#: Functions whose coefficients lie together: `HALF_PASS` of functions.cu.
_TILE = 32


@dataclass(frozen=True)
class DeviceLayer:
    """A layer on the device; `joins` counts how often its input is added."""

    activation: tuple[np.int32, Array]
    joins: np.int32
    weight_io: Array
    weight_oi: Array
    bias_o: Array
    idt_o: Array


@dataclass(frozen=True)
class DeviceNet:
    """The embedding net of one neighbour element; without layers there are empty slots alone.

    What it gives is multiplied by `factor_m`, if there is one, or by 1 + `fading_gate_m` f with the
    fade f of a neighbour.
    """

    neighbour: int
    layers: list[DeviceLayer]
    padding_km: Array
    factor_m: Array | None
    fading_gate_m: Array | None


class DeviceMoment:
    """A `Moment`; elements of neighbours are counted in ``_t``, tables lie one behind the other.

    Attributes
    ----------
    lookup_tu : (n_types, 3) float64
        `Splines.lower`, `inner` and `cell_width`.
    cells_tu : (n_types, 2) int32
        Number of cells, and the first one.
    blocks_tu : (n_types, 2) int32
        Number of functions, first column of B.
    starts_tu : (n_types, 3) int64
        First coefficient, slope and padding.
    empty_blocks : (n, 4) int64
        Of blocks of empty slots alone: element or -1, columns, the first one of B, first padding.
    """

    def __init__(self, device: Device, moment: Moment) -> None:
        upload = device.upload
        selection = moment.selection
        self.selection, self.dtype = selection, moment.dtype
        self.n_sel = len(selection.sel_t)
        real = np.float32 if selection.in_float32 else np.float64
        #: How neighbours are chosen, as `environment` takes it.
        self.selects = (
            upload(selection.sel_t.astype(np.int32)),
            np.int32(self.n_sel),
            upload(selection.fate_t.astype(np.int32)),
            np.int32(selection.n_nearest),
            np.int32(selection.in_float32),
            np.float64(real(selection.rcut) * real(selection.rcut)),
        )
        self.switch = (
            np.float64(selection.rcut_smth),
            np.float64(selection.width),
            np.float64(selection.protection),
        )
        fades = any(block.fades for block in moment.blocks)
        of_s = moment.fade_radius is not None
        #: Whether neighbours fade out, and how: `enum Fading` of environment.cu, and a radius.
        self.fading = np.int32(fades * (1 + of_s))
        self.fade_radius = np.float64(moment.fade_radius or 0.0)
        self.shift_k = upload(moment.davg_k / moment.dstd_k)
        self.scale_k = upload(1.0 / moment.dstd_k)
        self.divisor = moment.divisor
        self.tabulated = moment.tabulated
        self.rank, self.n_axis, self.n_features = moment.rank, moment.n_axis, moment.n_features
        self.n_columns, k_qr = self._upload_splines(device, moment)
        self.k_qr = self.k_rq = None
        if k_qr is not None:
            self.k_qr, self.k_rq = upload(k_qr), upload(np.ascontiguousarray(k_qr.T))
        self.nets = (
            [] if moment.tabulated else [_net(device, of, moment.dtype) for of in moment.blocks]
        )

    def _upload_splines(self, device: Device, moment: Moment) -> tuple[int, np.ndarray | None]:
        """Splines of all neighbour elements; returns the columns of B, and K with rows for all."""
        n_types, dtype = len(moment.selection.fate_t), moment.dtype
        lookup_tu, cells_tu = np.zeros((n_types, 3)), np.zeros((n_types, 2), np.int32)
        blocks_tu = np.zeros((n_types, 2), np.int32)
        starts_tu = np.zeros((n_types, 3), np.int64)
        empty: list[list[int]] = []
        arrays: list[list[np.ndarray]] = [[], [], [], [], []]
        k_rows, column, first = [], 0, 0
        for block in moment.blocks:
            splines, t = block.functions, block.neighbour
            if isinstance(splines, Network):
                continue
            n = block.padding_kq.shape[1]
            width = -(-n * dtype.itemsize // _SECTOR) * _SECTOR // dtype.itemsize
            extra = (0, width - n)
            starts = [sum(part.size for part in arrays[k]) for k in (2, 3, 4)]
            arrays[4].append(np.pad(block.padding_kq, ((0, 0), extra)).ravel())
            if splines is None:
                empty.append([t, width, column, starts[2]])
            else:
                blocks_tu[t], starts_tu[t] = (width, column), starts
                lookup_tu[t] = splines.lower, splines.inner, splines.cell_width
                cells_tu[t] = len(splines.pieces_h), sum(map(len, arrays[0]))
                parts = (
                    splines.pieces_h, splines.first_h[:-1],
                    _tiled(splines.coefficients_veq).ravel(),
                    splines.slope_v,
                )  # fmt: skip
                for array, part in zip(arrays, parts, strict=False):
                    array.append(part)
            for _ in range(1 + block.fades):
                if moment.k_qr is not None:
                    k_rows.append(np.pad(moment.k_qr[first : first + n], (extra, (0, 0))))
                first, column = first + n, column + width
        self.lookup_tu, self.cells_tu = device.upload(lookup_tu), device.upload(cells_tu)
        self.blocks_tu, self.starts_tu = device.upload(blocks_tu), device.upload(starts_tu)
        self.empty_blocks = device.upload(np.array(empty, np.int64).reshape(-1, 4))
        types: tuple[Any, ...] = (np.int32, np.int32, dtype, dtype, dtype)
        self.pieces_h, self.first_h, self.coefficients, self.slopes, self.padding = (
            device.upload(np.concatenate([np.zeros(0), *array]).astype(of))
            for of, array in zip(types, arrays, strict=True)
        )
        k_qr = np.concatenate(k_rows).astype(dtype) if k_rows else None
        return (column if moment.tabulated else moment.rank), k_qr

    def bytes_per_centre(self, slots: int) -> int:
        """Working memory of one centre with `slots` neighbours."""
        per_slot = 4 + 4 * 8 + 4 + 8 + (2 * 8 if self.fading else 0)
        if self.nets:
            widths = [layer.weight_io.shape[1] for net in self.nets for layer in net.layers]
            per_slot += 2 * 8 * (self.rank + 3 * max(widths, default=0))
        return slots * per_slot + 8 * (2 * self.n_features + 16 * max(self.n_columns, self.rank))


def _tiled(coefficients_veq: np.ndarray) -> np.ndarray:
    """Coefficients in tiles of functions, (pieces, tiles, exponents, functions of a tile)."""
    n_pieces, n_exponents, n = coefficients_veq.shape
    padded_veq = np.pad(coefficients_veq, ((0, 0), (0, 0), (0, -n % _TILE)))
    return padded_veq.reshape(n_pieces, n_exponents, -1, _TILE).swapaxes(1, 2)


def _net(device: Device, block: Block, dtype: np.dtype) -> DeviceNet:
    net, gate_m = block.functions, block.gate_m
    return DeviceNet(
        block.neighbour,
        [_uploaded(device, layer) for layer in net.layers] if isinstance(net, Network) else [],
        device.upload(np.ascontiguousarray(block.padding_kq.astype(dtype))),
        None if gate_m is None or block.fades else device.upload((1.0 + gate_m).astype(dtype)),
        None if gate_m is None or not block.fades else device.upload(gate_m.astype(dtype)),
    )


class DeviceFitting:
    """A `FoldedFitting`: hidden layers, and the linear last one.

    Where there is no hidden layer the last one takes that place, with 1 behind it.

    Attributes
    ----------
    constant : float
        Bias of the last layer and of the element, less the vacuum's energy if all atoms have the
        same (eV).
    vacuum : callable or None
        `FoldedFitting.vacuum`, where that takes parameters.
    """

    def __init__(self, device: Device, fitting: FoldedFitting) -> None:
        *hidden, last = fitting.net.layers
        last_o = last.weight_io[:, 0]
        if not hidden:
            hidden, last_o = [replace(last, bias_o=0 * last.bias_o)], np.ones(1, fitting.dtype)
        self.dtype = fitting.dtype
        n_parameters = len(fitting.parameter_weight_fo)
        self.layers = [_uploaded(device, layer) for layer in hidden]
        self.parameter_weight_fo = device.upload(np.ascontiguousarray(fitting.parameter_weight_fo))
        self.last_o = device.upload(np.ascontiguousarray(last_o))
        self.constant = float(last.bias_o[0]) + fitting.bias
        self.vacuum = fitting.vacuum if fitting.vacuum_net and n_parameters else None
        if not n_parameters:
            self.constant -= float(fitting.vacuum(np.zeros((1, 0)))[0])
        # y, slope and dE/dy of all but the last one, which has y only
        widths = [layer.weight_io.shape[1] for layer in hidden]
        self.bytes_per_centre = 8 * (3 * sum(widths) - 2 * widths[-1])


def _uploaded(device: Device, layer: Layer) -> DeviceLayer:
    kind, _, threshold = layer.activation.partition(":")
    constant_u = np.zeros(3)
    if kind in GELU_CUBIC:
        constant_u[:2] = GELU_SCALE, GELU_CUBIC[kind]
        kind = "gelu"
    elif kind == "silut":
        constant_u[:] = float(threshold), *silut_constants(float(threshold))
    return DeviceLayer(
        activation=(np.int32(_ACTIVATIONS.index(kind)), device.upload(constant_u)),
        joins=np.int32(("replace", "add", "double").index(layer.joins)),
        weight_io=device.upload(np.ascontiguousarray(layer.weight_io)),
        weight_oi=device.upload(np.ascontiguousarray(layer.weight_io.T)),
        bias_o=device.upload(layer.bias_o),
        idt_o=device.upload(np.ones_like(layer.bias_o) if layer.idt_o is None else layer.idt_o),
    )
