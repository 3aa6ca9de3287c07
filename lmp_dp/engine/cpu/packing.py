"""Forms laid out for the kernels: padded to whole vectors, aligned, in the precision of evaluation.

Padding is zeros, so that it does not reach the results.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass

import numpy as np

from lmp_dp.engine.cpu.kernels import embedding
from lmp_dp.engine.cpu.kernels.simd import WIDTH, aligned_copy
from lmp_dp.engine.folded_fitting import FoldedFitting
from lmp_dp.engine.forms import Block, Moment, Splines
from lmp_dp.model.network import Layer, Network


@dataclass(frozen=True)
class SplineBlock:
    """Splines of one neighbour element, for `kernels.tables`."""

    neighbour: int
    start: int  # first column of B
    lookup: tuple[float, float, float, np.ndarray, np.ndarray]  # arguments of `locate`
    coefficients_veq: np.ndarray
    slope_v: np.ndarray
    padding_kq: np.ndarray
    fades: bool


@dataclass(frozen=True)
class EmptyBlock:
    """Empty slots alone, of one neighbour element or of all."""

    neighbour: int
    start: int
    padding_kq: np.ndarray


@dataclass(frozen=True)
class NetworkBlock:
    """An embedding net of one neighbour element; `packed` where its layers are tanh layers."""

    neighbour: int
    net: Network
    packed: PackedNet | None
    padding_kq: np.ndarray
    gate_m: np.ndarray | None
    start: int = 0  # nets fill all columns of B


class PackedNet:
    """A net for `kernels.embedding.embed`, whose arguments these are."""

    def __init__(self, net: Network) -> None:
        lanes = len(lanes_of(net.dtype))
        parts = [np.zeros(embedding.PANEL * lanes)]
        layers, at = [], parts[0].size
        for layer in net.layers:
            n_in, n_out = layer.weight_io.shape
            # a panel has at least four vectors
            width = max(embedding.SMALLEST_PANEL, -(-n_out // lanes)) * lanes
            extra = (0, width - n_out)
            idt_o = np.ones(n_out) if layer.idt_o is None else layer.idt_o
            bias, idt = at + n_in * width, at + (n_in + 1) * width
            joins = ("replace", "add", "double").index(layer.joins)
            layers.append((n_in, width, joins, at, bias, idt))
            parts.append(np.pad(layer.weight_io, ((0, 0), extra)).ravel())
            parts += [np.pad(layer.bias_o, extra), np.pad(idt_o, extra)]
            at = idt + width
        self.parameters = aligned_copy(np.concatenate(parts), net.dtype)
        self.layers_lu = np.array(layers, np.int64)
        widest = max(width for _, width, *_ in layers)
        #: Elements of the kernel's working space.
        self.work = 3 * 2 * embedding.ROWS * widest + lanes


def packed_net(net: Network) -> PackedNet | None:
    """The net for its kernel, if all layers are tanh layers."""
    only_tanh = all(layer.activation == "tanh" for layer in net.layers)
    return PackedNet(net) if only_tanh else None


class PackedMoment:
    """A `Moment`.

    Attributes
    ----------
    blocks : list of SplineBlock, NetworkBlock or EmptyBlock
    k_qr : (n_columns, rank) array or None
        K, with rows of zeros for the padding.
    k_rq : (rank, n_columns) array or None
        The same transposed.
    n_columns : int
        Columns of B.
    lanes : tuple
        Its length is that of a vector.
    """

    def __init__(self, moment: Moment) -> None:
        dtype = moment.dtype
        self.lanes = lanes_of(dtype)
        self.blocks: list[SplineBlock | NetworkBlock | EmptyBlock] = []
        k_rows, start, first = [], 0, 0
        for block in moment.blocks:
            if isinstance(block.functions, Network):
                self.blocks.append(network_block(block, dtype))
                continue
            if block.functions is None:
                padding_kq = _padding(block, (0, 0), dtype)
                self.blocks.append(EmptyBlock(block.neighbour, start, padding_kq))
            else:
                self.blocks.append(_spline_block(block.functions, block, start, dtype))
            if not moment.tabulated:
                continue
            n = block.n_columns // (1 + block.fades)
            width = _whole_vectors(n, dtype)
            for _ in range(1 + block.fades):
                if moment.k_qr is not None:
                    k_rows.append(np.pad(moment.k_qr[first : first + n], ((0, width - n), (0, 0))))
                first += n
                start += width
        self.k_qr = self.k_rq = None
        if k_rows:
            self.k_qr = aligned_copy(np.concatenate(k_rows), dtype)
            self.k_rq = aligned_copy(self.k_qr.T, dtype)
        self.n_columns = start if moment.tabulated else moment.rank
        self.zeros = _zeros(max(self.n_columns, moment.rank), dtype)


def network_block(block: Block, dtype: np.dtype) -> NetworkBlock:
    """A block of a net."""
    net = block.functions
    assert isinstance(net, Network)
    return NetworkBlock(
        neighbour=block.neighbour,
        net=net,
        packed=packed_net(net),
        padding_kq=_padding(block, (0, 0), dtype),
        gate_m=None if block.gate_m is None else block.gate_m.astype(dtype),
    )


def _padding(block: Block, extra: tuple[int, int], dtype: np.dtype) -> np.ndarray:
    return np.ascontiguousarray(np.pad(block.padding_kq, ((0, 0), extra)).astype(dtype))


def _spline_block(splines: Splines, block: Block, start: int, dtype: np.dtype) -> SplineBlock:
    of = packed_splines(splines, dtype)
    return SplineBlock(
        neighbour=block.neighbour,
        start=start,
        lookup=of.lookup,
        coefficients_veq=of.coefficients_veq,
        slope_v=of.slope_v,
        padding_kq=_padding(block, (0, of.n_columns - splines.n_functions), dtype),
        fades=block.fades,
    )


class PackedSplines:
    """Splines with whole vectors of functions, for `kernels.tables`.

    Attributes
    ----------
    n_columns : int
        Functions, and zeros behind them.
    lookup : tuple
        Arguments of `locate`.
    coefficients_veq : (n_pieces + 2, 6, n_columns) array
    slope_v : (n_pieces + 2,) array
    """

    def __init__(self, splines: Splines, dtype: np.dtype) -> None:
        n = splines.n_functions
        self.n_columns = _whole_vectors(n, dtype)
        extra = (0, self.n_columns - n)
        self.lookup = (
            splines.lower, splines.inner, splines.cell_width, splines.pieces_h, splines.first_h,
        )  # fmt: skip
        self.coefficients_veq = aligned_copy(
            np.pad(splines.coefficients_veq, ((0, 0), (0, 0), extra)), dtype
        )
        self.slope_v = splines.slope_v.astype(dtype)


_PACKED: dict[tuple[int, np.dtype], PackedSplines] = {}


def packed_splines(splines: Splines, dtype: np.dtype) -> PackedSplines:
    """Packed once for all blocks that have the same splines, as long as these live."""
    key = (id(splines), dtype)
    if key not in _PACKED:
        _PACKED[key] = PackedSplines(splines, dtype)
        weakref.finalize(splines, _PACKED.pop, key)
    return _PACKED[key]


@dataclass(frozen=True)
class PackedLayer:
    """A hidden layer of a fitting net.

    Attributes
    ----------
    joined : list of slice
        The parts of its output that the first `n_joined` columns of its input are added to.
    """

    activation: str
    joined: list[slice]
    n_joined: int
    weight_io: np.ndarray
    weight_oi: np.ndarray
    bias_o: np.ndarray
    idt_o: np.ndarray


class PackedFitting:
    """A `FoldedFitting`.

    Attributes
    ----------
    layers : list of PackedLayer
        The hidden ones; the first one does not join its input.
    parameter_weight_fo : (n_parameters, padded width) array
        Of the first layer, or of the last one where that is the only one.
    last_o, last_bias : array, float
        The last layer: one number, linear.
    """

    def __init__(self, fitting: FoldedFitting) -> None:
        self.dtype = fitting.dtype
        self.lanes = lanes_of(self.dtype)
        self.vacuum, self.bias = fitting.vacuum, fitting.bias
        *hidden, last = fitting.net.layers
        self.layers: list[PackedLayer] = []
        n_in = fitting.net.n_in
        for layer in hidden:
            self.layers.append(self._packed(layer, n_in))
            n_in = len(self.layers[-1].bias_o)
        width = len(self.layers[0].bias_o) if hidden else 1
        weight_io = fitting.parameter_weight_fo
        self.parameter_weight_fo = np.pad(weight_io, ((0, 0), (0, width - weight_io.shape[1])))
        last_o = last.weight_io[:, 0]
        self.last_o = aligned_copy(np.pad(last_o, (0, n_in - len(last_o))), self.dtype)
        self.last_bias = last.bias_o[0]
        widths = [max(of.weight_io.shape) for of in self.layers]
        self.zeros = _zeros(max(widths, default=0), self.dtype)

    def _packed(self, layer: Layer, n_in: int) -> PackedLayer:
        """A layer whose input was padded to `n_in` columns."""
        n_joined, n_out = layer.weight_io.shape
        width = _whole_vectors(n_out, self.dtype)
        joined = {
            "replace": [],
            "add": [slice(0, width)],
            "double": [slice(0, n_joined), slice(n_joined, n_out)],
        }[layer.joins]
        extra = (0, width - n_out)
        idt_o = np.ones(n_out) if layer.idt_o is None else layer.idt_o
        weight_io = np.pad(layer.weight_io, ((0, n_in - n_joined), extra))
        return PackedLayer(
            layer.activation,
            joined,
            width if layer.joins == "add" else n_joined,
            aligned_copy(weight_io, self.dtype),
            aligned_copy(weight_io.T, self.dtype),
            aligned_copy(np.pad(layer.bias_o, extra), self.dtype),
            aligned_copy(np.pad(idt_o, extra), self.dtype),
        )


def _zeros(n: int, dtype: np.dtype) -> np.ndarray:
    """What sums of products with up to `n` columns start from."""
    return aligned_copy(np.zeros(n + WIDTH), dtype)


def lanes_of(dtype: np.dtype) -> tuple[int, ...]:
    """A tuple as long as a vector: kernels take their width from its type."""
    return (0,) * (WIDTH // dtype.itemsize)


def _whole_vectors(n: int, dtype: np.dtype) -> int:
    lanes = WIDTH // dtype.itemsize
    return -(-n // lanes) * lanes
