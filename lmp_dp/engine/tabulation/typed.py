"""Tables of descriptors with one embedding net for all pairs of elements and a gate: `TypedNets`.

A gate leaves the net a function of s alone, so that there is one table for all pairs.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from lmp_dp.engine import jet
from lmp_dp.engine.switch import switch
from lmp_dp.engine.tabulation.pieces import CELLS, Range, rounded_up, tabulate, widest_cell
from lmp_dp.engine.tabulation.registry import Request, tabulates
from lmp_dp.model.descriptors.se_atten import SeAtten
from lmp_dp.model.descriptors.se_e2_a_tebd import SeE2ATebd
from lmp_dp.model.network import Network


@tabulates(SeE2ATebd)
@tabulates(SeAtten)
class _Typed:
    """See `Tabulation`."""

    @staticmethod
    def nets(part: SeE2ATebd | SeAtten) -> tuple[Network, ...]:
        attends = isinstance(part, SeAtten) and part.attention is not None
        net = part.nets.embedding
        return (net,) if net and part.nets.gated and not attends else ()

    @staticmethod
    def with_tables(part: SeE2ATebd | SeAtten, request: Request) -> Any:
        environment, net, distance = part.environment, part.nets.embedding, request.distance
        assert net is not None
        request.progress("all pairs", 0.0)
        davg_t, dstd_t = environment.davg_tk[:, 0], environment.dstd_tk[:, 0]
        padding_t = -davg_t / dstd_t
        switched = switch(np.float64(distance), environment.rcut_smth, environment.switch_width)[0]
        inner_t = (float(switched) / (distance + environment.protection) - davg_t) / dstd_t
        span = Range(float(padding_t.min()), float(inner_t.max()))
        # what empty slots add has a place of its own: nothing need be exact for them
        table = tabulate(net, padding_t[:1], span, request.tolerance, request.step)
        tabulated = dataclasses.replace(
            part.nets, tables=(table,), padding_tm=jet.evaluate(net, padding_t)[0]
        )
        return dataclasses.replace(part, nets=tabulated)

    @staticmethod
    def without_nets(part: SeE2ATebd | SeAtten) -> Any:
        return dataclasses.replace(part, nets=dataclasses.replace(part.nets, embedding=None))

    @staticmethod
    def smallest_distance(part: SeE2ATebd | SeAtten, tolerance: float) -> float:
        environment, net = part.environment, part.nets.embedding
        assert net is not None
        davg_t, dstd_t = environment.davg_tk[:, 0], environment.dstd_tk[:, 0]
        inner = float((-davg_t / dstd_t).min()) + CELLS * widest_cell(net, tolerance)
        return rounded_up(1.0 / float((davg_t + dstd_t * inner).min()))

    @staticmethod
    def finest_distance(part: SeE2ATebd | SeAtten) -> float:
        davg_t, dstd_t = part.environment.davg_tk[:, 0], part.environment.dstd_tk[:, 0]
        return 1.0 / float((part.nets.tables[0].inner * dstd_t + davg_t).min())
