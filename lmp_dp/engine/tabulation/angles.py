"""Tables of se_e3: nets of e_jk, the product of the rows of two neighbours.

Range: |e| <= |R_j| |R_k|, up to that of two neighbours at the smallest distance in the training
data (the fine part), and on to `pieces.OUTER_FACTOR` times that, on both sides of 0.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from lmp_dp.engine.switch import switch
from lmp_dp.engine.tabulation.pieces import (
    CELLS,
    OUTER_POWER,
    Range,
    rounded_up,
    tabulate,
    widest_cell,
)
from lmp_dp.engine.tabulation.registry import Request, tabulates
from lmp_dp.model.descriptors.environment import Environment
from lmp_dp.model.descriptors.se_e3 import SeE3
from lmp_dp.model.network import Network

#: Cells of the fine part, where the pieces adapt: e goes far beyond where nets bend.
_MAX_CELLS = 1024


@tabulates(SeE3)
class _Angles:
    """See `Tabulation`."""

    @staticmethod
    def nets(part: SeE3) -> tuple[Network, ...]:
        return part.nets.embeddings

    @staticmethod
    def with_tables(part: SeE3, request: Request) -> SeE3:
        environment, nets, distance = part.environment, part.nets, request.distance
        switched = switch(np.float64(distance), environment.rcut_smth, environment.switch_width)[0]
        inner = float(_largest(environment, float(switched) / distance).max())
        # e goes with s^2
        span = Range(0.0, inner, two_sided=True, power=OUTER_POWER // 2)
        tables = []
        for n, net in enumerate(nets.embeddings):
            names = "-".join(request.type_map[a] for a in np.argwhere(nets.net_tt == n)[0])
            request.progress(names, n / len(nets.embeddings))
            n_cells = max(CELLS, math.ceil(inner / widest_cell(net, request.tolerance)) * 2)
            tables.append(
                tabulate(net, np.zeros(1), span, request.tolerance, request.step, n_cells)
            )
        return dataclasses.replace(part, nets=dataclasses.replace(nets, tables=tuple(tables)))

    @staticmethod
    def without_nets(part: SeE3) -> SeE3:
        return dataclasses.replace(part, nets=dataclasses.replace(part.nets, embeddings=()))

    @staticmethod
    def smallest_distance(part: SeE3, tolerance: float) -> float:
        narrowest = min(widest_cell(net, tolerance) for net in part.nets.embeddings)
        s = _s_of(part.environment, _MAX_CELLS / 2 * narrowest)
        # where the mean of the rows alone is beyond that there is no such distance
        return rounded_up(1.0 / max(s, 1.0 / part.environment.rcut))

    @staticmethod
    def finest_distance(part: SeE3) -> float:
        return 1.0 / _s_of(part.environment, min(table.inner for table in part.nets.tables))


def _largest(environment: Environment, s: float) -> Any:
    """The largest |R|^2 of a row of length s around centres of each element, (n_types,)."""
    of_mean_t = np.linalg.norm(environment.davg_tk[:, 1:] / environment.dstd_tk[:, 1:], axis=1)
    return (s / environment.dstd_tk[:, 1:].min(axis=1) + of_mean_t) ** 2


def _s_of(environment: Environment, e: float) -> float:
    """The s for which `_largest` is nowhere larger than e."""
    of_mean_t = np.linalg.norm(environment.davg_tk[:, 1:] / environment.dstd_tk[:, 1:], axis=1)
    return float(((math.sqrt(e) - of_mean_t) * environment.dstd_tk[:, 1:].min(axis=1)).min())
