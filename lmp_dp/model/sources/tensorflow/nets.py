"""Embedding nets of a graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from lmp_dp.errors import ModelFileError
from lmp_dp.model.descriptors.environment import Environment
from lmp_dp.model.network import Layer, Network, embedding_join
from lmp_dp.model.pair_nets import PairNets
from lmp_dp.model.sources.deepmd_tables import value_at
from lmp_dp.model.sources.tensorflow.activations import activation_of
from lmp_dp.model.sources.tensorflow.graph import Graph
from lmp_dp.model.sources.tensorflow.pieces import Piece
from lmp_dp.model.sources.tensorflow.tables import tables_of
from lmp_dp.model.table import Table


def native(array: np.ndarray) -> np.ndarray:
    """float32 or float64, C order; half-precision parameters are widened to float32."""
    if array.dtype in (np.float32, np.float64):
        return np.ascontiguousarray(array)
    return np.ascontiguousarray(array, dtype=np.float32)


def embedding_net(graph: Graph, scope: str, ending: str, activation: str) -> Network:
    """The net of the layers ``<scope>/matrix_<layer><ending>``, and so on."""
    layers: list[Layer] = []
    while graph.is_const(f"{scope}/matrix_{len(layers) + 1}{ending}"):
        k = len(layers) + 1
        weight = native(graph.const(f"{scope}/matrix_{k}{ending}", 2))
        bias, idt = f"{scope}/bias_{k}{ending}", f"{scope}/idt_{k}{ending}"
        joins = embedding_join(*weight.shape)
        layers.append(
            Layer(
                weight_io=weight,
                # the nets of type embeddings may have none (use_tebd_bias)
                bias_o=native(graph.const(bias).ravel())
                if graph.is_const(bias)
                else np.zeros(weight.shape[1], weight.dtype),
                # DeePMD-kit makes a time step for every layer, but uses it only where joined
                idt_o=native(graph.const(idt).ravel())
                if graph.is_const(idt) and joins != "replace"
                else None,
                activation=activation,
                joins=joins,
            )
        )
    if not layers:
        raise ModelFileError(f"the graph has no embedding net {scope}/matrix_1{ending}")
    return Network(tuple(layers))


def activation_of_nets(piece: Piece) -> str:
    """The activation function of all embedding nets of a descriptor."""
    return activation_of(piece.graph, piece.scopes, piece.section)


def pair_nets(piece: Piece, *, of_excluded: bool = False) -> tuple[Environment, PairNets]:
    """What a piece sees, and its nets or tables of pairs [centre, neighbour].

    There is one for each pair, where an excluded one has none, or one for each neighbour, which
    centres share (``type_one_side``): `of_excluded` says whether those that do not see it do, too.
    """
    n_types = piece.n_types
    find: Callable[[Piece, str], Mapping[int, Network | Table]]
    find = tables_of if piece.has("TabulateFusion.*") else _nets_of
    if piece.is_one_sided:
        found = find(piece, piece.all_scope)
        excluded_tt = piece.excluded_by_mask(n_types)
        # the graph has nets of neighbours that nobody sees, too
        seen = [j for j in found if of_excluded or not excluded_tt[:, j].all()]
        places = {j: n for n, j in enumerate(seen)}
        net_tt = np.tile([places.get(j, -1) for j in range(n_types)], (n_types, 1))
        if not of_excluded:
            net_tt[excluded_tt] = -1
        functions: list[Network | Table] = [found[j] for j in seen]
    else:
        of_centres = [find(piece, piece.centre_scope(i)) for i in range(n_types)]
        excluded_tt = np.array([[j not in of for j in range(n_types)] for of in of_centres])
        net_tt = np.full((n_types, n_types), -1)
        net_tt[~excluded_tt] = np.arange((~excluded_tt).sum())
        functions = [of[j] for of in of_centres for j in sorted(of)]
    environment = piece.environment(excluded_tt)
    tables = tuple(table for table in functions if isinstance(table, Table))
    if not tables:
        nets = tuple(net for net in functions if isinstance(net, Network))
        return environment, PairNets(net_tt, nets)
    padding_t = -environment.davg_tk[:, 0] / environment.dstd_tk[:, 0]
    padding_ttm = np.zeros((*net_tt.shape, tables[0].n_channels))
    for i, j in np.argwhere(net_tt >= 0):
        padding_ttm[i, j] = value_at(tables[net_tt[i, j]], padding_t[i])
    return environment, PairNets(net_tt, (), tables, padding_ttm)


def _nets_of(piece: Piece, scope: str) -> dict[int, Network]:
    """The embedding nets of one scope by the element of the neighbours."""
    activation = activation_of_nets(piece)
    return {
        j: embedding_net(piece.graph, scope, f"_{j}", activation)
        for j in range(piece.n_types)
        if piece.graph.is_const(f"{scope}/matrix_1_{j}")
    }
