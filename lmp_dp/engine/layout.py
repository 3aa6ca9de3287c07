"""A model laid out for the kernels of the cpu and gpu backends, per element of the centre.

Tables are padded to whole vectors, K is folded in where that is possible, and the first fitting
layer acts on the features (`lmp_dp.engine.reduction`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lmp_dp.engine import network
from lmp_dp.engine.kernels import embedding
from lmp_dp.engine.kernels.simd import WIDTH, aligned_copy
from lmp_dp.engine.reduction import Reduction, feature_count, reduce
from lmp_dp.model.deep_potential import DeepPotential
from lmp_dp.model.network import Layer, Network
from lmp_dp.model.precision import cast_network
from lmp_dp.model.table import Table


@dataclass
class TableBlock:
    """A table of one neighbour element, laid out for `lmp_dp.engine.kernels.tables`."""

    neighbour: int
    start: int  # first column of B
    lookup: tuple[float, float, float, np.ndarray, np.ndarray]  # arguments of `locate`
    coefficients_pkr: np.ndarray
    slope_p: np.ndarray
    padding_kr: np.ndarray


@dataclass
class NetworkBlock:
    """An embedding net of one neighbour element; `packed` where its layers are tanh layers."""

    neighbour: int
    net: Network
    packed: PackedNet | None
    padding_km: np.ndarray


class PackedNet:
    """A net laid out for `lmp_dp.engine.kernels.embedding.embed`, whose arguments these are."""

    def __init__(self, net: Network) -> None:
        lanes = WIDTH // net.dtype.itemsize
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
        self.layers_lk = np.array(layers, np.int64)
        widest = max(width for _, width, *_ in layers)
        #: Elements of the kernel's working space.
        self.work = 3 * 2 * embedding.ROWS * widest + lanes


class Layout:
    """What all chunks with centres of one element share.

    Attributes
    ----------
    blocks : list of TableBlock or NetworkBlock
        One per neighbour element that the centre sees.
    tabulated : bool
        True if the blocks are tables; K then holds 1/N.
    k_qr : (n_columns, rank) array or None
        C = B K; None stands for C = B.
    n_columns, rank, n_axis, n_features : int
        Columns of B and C, see `lmp_dp.engine.reduction`.
    fitting : FoldedFitting
    bias : float
        Added to the fitting net's value (eV).
    lanes : tuple
        Its length is that of a vector of the descriptor's precision.
    """

    def __init__(self, model: DeepPotential, t: int) -> None:
        d, fitting = model.descriptor, model.fitting
        self.davg_k, self.dstd_k = d.davg_tk[t], d.dstd_tk[t]
        self.excluded_t = np.ascontiguousarray(d.excluded_tt[t])
        self.dtype = d.dtype
        self.lanes = (0,) * (WIDTH // d.dtype.itemsize)
        net = _with_plain_ends(fitting.nets[t])
        weight_do = net.layers[0].weight_io[: d.n_out]
        neighbours = [j for j in range(len(d.sel_t)) if d.sel_t[j] and not self.excluded_t[j]]
        row_k = (0.0 - self.davg_k) / self.dstd_k
        self.blocks: list[TableBlock | NetworkBlock]
        self.k_qr: np.ndarray | None = None
        self.tabulated = bool(d.tables and neighbours)
        if self.tabulated:
            assert d.padding_tjm is not None
            tables = [d.table(t, j) for j in neighbours]
            basis_qm = np.concatenate([table.basis_rm for table in tables if table is not None])
            reduction = reduce(d, basis_qm, weight_do)
            self.blocks, self.k_qr, n_columns = _table_blocks(
                neighbours, tables, reduction, d.padding_tjm[t], row_k, d.dtype
            )
            self.n_columns = n_columns
        else:
            reduction = _unreduced(d.n_channels, d.axis_neuron, weight_do)
            self.blocks = [
                NetworkBlock(
                    j,
                    net_j,
                    PackedNet(net_j) if all(x.activation == "tanh" for x in net_j.layers) else None,
                    _padding_moment(net_j, row_k, d.dtype),
                )
                for j in neighbours
                if (net_j := d.embedding(t, j)) is not None
            ]
            self.n_columns = d.n_channels
        self.rank, self.n_axis = reduction.rank, reduction.n_axis
        self.n_features = feature_count(self.rank, self.n_axis)
        weight_fo = reduction.weight_fo.astype(fitting.dtype)
        self.fitting = FoldedFitting(net, weight_fo, net.n_in - d.n_out)
        self.bias = float(fitting.bias_atom_e_t[t])
        self._net = net
        self._subtract_vacuum = bool(fitting.subtract_vacuum_t[t])
        self._vacuum_b = self._vacuum(np.zeros((1, 0), net.dtype)) if net.n_in == d.n_out else None

    def vacuum(self, parameters_bf: np.ndarray) -> np.ndarray:
        """What is subtracted from the fitting net's value (eV): its value at D = 0, or 0."""
        return self._vacuum(parameters_bf) if self._vacuum_b is None else self._vacuum_b

    def _vacuum(self, parameters_bf: np.ndarray) -> np.ndarray:
        n_b, n_f = parameters_bf.shape
        if not self._subtract_vacuum:
            return np.zeros(1, self._net.dtype)
        zeros_bd = np.zeros((n_b, self._net.n_in - n_f), self._net.dtype)
        return network.forward(self._net, np.concatenate([zeros_bd, parameters_bf], axis=1))[0][
            :, 0
        ]


def _table_blocks(
    neighbours: list[int],
    tables: list[Table | None],
    reduction: Reduction,
    padding_jm: np.ndarray,
    row_k: np.ndarray,
    dtype: np.dtype,
) -> tuple[list[TableBlock | NetworkBlock], np.ndarray | None, int]:
    """Blocks, K in `dtype` (None: it is in the coefficients) and the columns of B.

    With one neighbour element K goes into the coefficients. The number of functions per block is
    padded with zeros to whole vectors.
    """
    lanes = WIDTH // dtype.itemsize
    blocks: list[TableBlock | NetworkBlock] = []
    k_rows, start, first = [], 0, 0
    for j, table in zip(neighbours, tables, strict=True):
        assert table is not None
        k_rr = reduction.k_qr[first : first + table.rank]
        first += table.rank
        coefficients_pkr = np.concatenate([table.coefficients_pkr, table.lines()])
        padding_r = padding_jm[j] @ table.basis_rm.T
        if len(neighbours) == 1:
            coefficients_pkr, padding_r = coefficients_pkr @ k_rr, padding_r @ k_rr
        width = -(-coefficients_pkr.shape[2] // lanes) * lanes
        extra = (0, width - coefficients_pkr.shape[2])
        k_rows.append(np.pad(k_rr, ((0, width - len(k_rr)), (0, 0))))
        first_q = np.concatenate([[0], np.cumsum(table.pieces_q)])
        slope_p = np.repeat(table.pieces_q, table.pieces_q) / table.cell_width
        slope_p = np.concatenate([slope_p, [1.0 / table.cell_width] * 2])
        blocks.append(
            TableBlock(
                neighbour=j,
                start=start,
                lookup=(
                    table.lower,
                    table.inner,
                    table.cell_width,
                    table.pieces_q.astype(np.int64),
                    first_q.astype(np.int64),
                ),
                coefficients_pkr=aligned_copy(
                    np.pad(coefficients_pkr, ((0, 0), (0, 0), extra)), dtype
                ),
                slope_p=slope_p.astype(dtype),
                padding_kr=np.pad(row_k[:, None] * padding_r, ((0, 0), extra)).astype(dtype),
            )
        )
        start += width
    if len(neighbours) == 1:
        return blocks, None, start
    return blocks, np.concatenate(k_rows).astype(dtype), start


def _unreduced(n_channels: int, axis: int, weight_do: np.ndarray) -> Reduction:
    """K = P = 1: the features are D without its symmetric duplicates; 1/N is done on B."""
    weight_mxo = weight_do.astype(np.float64).reshape(n_channels, axis, -1)
    blocks = []
    for b in range(axis):
        block_mo = weight_mxo[b:, b].copy()
        block_mo[1 : axis - b] += weight_mxo[b, b + 1 : axis]
        blocks.append(block_mo)
    return Reduction(np.eye(n_channels), axis, np.concatenate(blocks))


def _padding_moment(net: Network, row_k: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """R_k G_m of one padded slot, R = -davg/dstd.

    Evaluated in float64 also for float32 nets: the same constant enters every atom many times,
    so that its rounding would not average out.
    """
    row_k = row_k.astype(dtype).astype(np.float64)
    moment_km = row_k[:, None] * network.forward(cast_network(net, "float64"), row_k[None, :1])[0]
    return moment_km.astype(dtype)


@dataclass
class FittingLayer:
    """A hidden layer, padded; `joined`: the parts of its output that its input is added to.

    Of the input, the first `n_joined` columns are meant.
    """

    activation: str
    joined: list[slice]
    n_joined: int
    weight_io: np.ndarray
    bias_o: np.ndarray
    idt_o: np.ndarray


class FoldedFitting:
    """A fitting net with its first layer folded onto the features.

    Hidden layers are padded with zero weights to whole vectors; the padding does not reach the
    energy, whatever the activation.

    Attributes
    ----------
    layers : list of FittingLayer
        The first one does not join its input.
    last_o, last_bias : array, float
        The last layer: one number, linear.
    """

    def __init__(self, net: Network, weight_fo: np.ndarray, n_parameters: int) -> None:
        self.dtype = net.dtype
        self.lanes = (0,) * (WIDTH // net.dtype.itemsize)
        *hidden, last = net.layers
        self.layers: list[FittingLayer] = []
        n_in = len(weight_fo)
        for k, layer in enumerate(hidden):
            weight_io = weight_fo if k == 0 else layer.weight_io
            n_joined, n_out = weight_io.shape
            width = -(-n_out // len(self.lanes)) * len(self.lanes)
            joined = {
                "replace": [],
                "add": [slice(0, width)],
                "double": [slice(0, n_joined), slice(n_joined, n_out)],
            }[layer.joins]
            extra = (0, width - n_out)
            idt_o = np.ones(n_out) if layer.idt_o is None else layer.idt_o
            self.layers.append(
                FittingLayer(
                    layer.activation,
                    joined,
                    width if layer.joins == "add" else n_joined,
                    aligned_copy(np.pad(weight_io, ((0, n_in - len(weight_io)), extra)), net.dtype),
                    aligned_copy(np.pad(layer.bias_o, extra), net.dtype),
                    aligned_copy(np.pad(idt_o, extra), net.dtype),
                )
            )
            n_in = width
        of_parameters_fo = net.layers[0].weight_io[net.n_in - n_parameters :]
        extra = (0, (len(self.layers[0].bias_o) if hidden else 1) - of_parameters_fo.shape[1])
        self.parameter_weight_fo = np.pad(of_parameters_fo, ((0, 0), extra))
        # a linear net's last layer takes the features
        last_o = last.weight_io[:, 0] if hidden else weight_fo[:, 0]
        self.last_o = aligned_copy(np.pad(last_o, (0, n_in - len(last_o))), net.dtype)
        self.last_bias = last.bias_o[0]


def _with_plain_ends(net: Network) -> Network:
    """The same function, with a first layer that can be folded and a last one that is linear.

    A first layer that joins its input, the descriptor, which the features do not hold as such, gets
    the identity in front of it; a last one that is more than linear gets it behind.
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
