"""Tables of descriptors with an embedding net of s per pair of elements: `PairNets`.

Range: s from beyond the cutoff to the smallest distance in the training data (the fine part), and
on to `pieces.OUTER_FACTOR` times that.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from lmp_dp.engine import jet
from lmp_dp.engine.switch import switch
from lmp_dp.engine.tabulation.pieces import CELLS, Range, rounded_up, tabulate, widest_cell
from lmp_dp.engine.tabulation.registry import Request, tabulates
from lmp_dp.model.descriptors.se_e2_a import SeE2A
from lmp_dp.model.descriptors.se_e2_r import SeE2R
from lmp_dp.model.network import Network
from lmp_dp.model.table import Table


@tabulates(SeE2R)
@tabulates(SeE2A)
class _Pairs:
    """See `Tabulation`."""

    @staticmethod
    def nets(part: SeE2A | SeE2R) -> tuple[Network, ...]:
        return part.nets.embeddings

    @staticmethod
    def with_tables(part: SeE2A | SeE2R, request: Request) -> Any:
        environment, nets, distance = part.environment, part.nets, request.distance
        davg_t, dstd_t = environment.davg_tk[:, 0], environment.dstd_tk[:, 0]
        padding_t = -davg_t / dstd_t
        switched = switch(np.float64(distance), environment.rcut_smth, environment.switch_width)[0]
        shielded = distance + environment.protection
        inner_t = (float(switched) / shielded - davg_t) / dstd_t
        tables: list[Table] = []
        padding_ttm = np.zeros((*nets.net_tt.shape, nets.n_channels))
        for n, net in enumerate(nets.embeddings):
            pairs = np.argwhere(nets.net_tt == n).tolist()
            i, j = pairs[0]
            names = f"{request.type_map[i]}-{request.type_map[j]}"
            request.progress(names, n / len(nets.embeddings))
            for i, j in pairs:
                padding_ttm[i, j] = jet.evaluate(net, padding_t[i : i + 1])[0][0]
            centres = sorted({i for i, _ in pairs})
            span = Range(float(padding_t[centres].min()), float(inner_t[centres].max()))
            exact_p = padding_t[centres]
            tables.append(tabulate(net, exact_p, span, request.tolerance, request.step))
        tabulated = dataclasses.replace(nets, tables=tuple(tables), padding_ttm=padding_ttm)
        return dataclasses.replace(part, nets=tabulated)

    @staticmethod
    def without_nets(part: SeE2A | SeE2R) -> Any:
        return dataclasses.replace(part, nets=dataclasses.replace(part.nets, embeddings=()))

    @staticmethod
    def smallest_distance(part: SeE2A | SeE2R, tolerance: float) -> float:
        environment, nets = part.environment, part.nets
        davg_t, dstd_t = environment.davg_tk[:, 0], environment.dstd_tk[:, 0]
        padding_t = -davg_t / dstd_t
        largest = math.inf  # s before it is normalised, which is 1/(r + protection)
        for n, net in enumerate(nets.embeddings):
            centres = np.unique(np.argwhere(nets.net_tt == n)[:, 0])
            inner = padding_t[centres].min() + CELLS * widest_cell(net, tolerance)
            largest = min(largest, float((davg_t + dstd_t * inner)[centres].min()))
        return rounded_up(max(1.0 / largest - environment.protection, 1e-3))

    @staticmethod
    def finest_distance(part: SeE2A | SeE2R) -> float:
        environment, nets = part.environment, part.nets
        finest = 1.0 / min(
            nets.tables[n].inner * environment.dstd_tk[t, 0] + environment.davg_tk[t, 0]
            for (t, _), n in np.ndenumerate(nets.net_tt)
            if n >= 0
        )
        return finest - environment.protection
