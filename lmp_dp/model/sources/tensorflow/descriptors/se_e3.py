"""se_e3."""

from __future__ import annotations

import numpy as np

from lmp_dp.errors import ModelFileError
from lmp_dp.model.descriptors.se_e3 import SeE3
from lmp_dp.model.pair_nets import PairNets
from lmp_dp.model.sources.tensorflow.nets import activation_of_nets, embedding_net
from lmp_dp.model.sources.tensorflow.pieces import Piece
from lmp_dp.model.sources.tensorflow.registry import reads
from lmp_dp.model.sources.tensorflow.tables import SE_E3, operations, table_of


@reads("se_e3", lambda piece: piece.width == 4 and piece.has(rf"matrix_1_\d+_\d+|{SE_E3}"))
def _(piece: Piece) -> SeE3:
    """Nets of two neighbours' elements, ``matrix_<layer>_<a>_<b>`` with a <= b."""
    n_types, graph = piece.n_types, piece.graph
    pairs = [(a, b) for a in range(n_types) for b in range(a, n_types)]
    net_tt = np.empty((n_types, n_types), dtype=np.int64)
    for n, (a, b) in enumerate(pairs):
        net_tt[a, b] = net_tt[b, a] = n
    names = operations(graph, piece.all_scope, SE_E3)
    if names:
        if len(names) != len(pairs):
            raise ModelFileError(f"found {len(names)} tables of se_e3, expected {len(pairs)}")
        tables = tuple(table_of(graph, name, both_sides=True) for name in names)
        return SeE3(piece.environment(), PairNets(net_tt, (), tables))
    activation = activation_of_nets(piece)
    nets = tuple(embedding_net(graph, piece.all_scope, f"_{a}_{b}", activation) for a, b in pairs)
    return SeE3(piece.environment(), PairNets(net_tt, nets))
