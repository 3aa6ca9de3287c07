"""loc_frame."""

from __future__ import annotations

import numpy as np

from lmp_dp.errors import UnsupportedModelError
from lmp_dp.model.descriptors.environment import Environment
from lmp_dp.model.descriptors.loc_frame import LocFrame
from lmp_dp.model.sources.tensorflow.pieces import Piece
from lmp_dp.model.sources.tensorflow.registry import reads


@reads("loc_frame", lambda piece: piece.op == "Descrpt")
def _(piece: Piece) -> LocFrame:
    graph, node, n_types = piece.graph, piece.node, piece.n_types
    angular_t, radial_t = (
        np.array(graph.attr(node, name), dtype=np.int64) for name in ("sel_a", "sel_r")
    )
    rule = graph.attr(node, "axis_rule")
    kind = 0 if angular_t.sum() > 1 else 1
    axes_tuu = np.array(rule or _default_axes(kind, (angular_t, radial_t)[kind]) * n_types)
    # its derivatives of radial neighbours go to axes of the same number, whatever their kind
    if radial_t.any() and (axes_tuu.reshape(-1, 3)[:, 0] == 0).any():
        raise UnsupportedModelError(
            "descriptor loc_frame with radial neighbours (sel_r) beside axes among angular ones is "
            "not supported: DeePMD-kit's forces are not the derivative of its energy there"
        )
    davg_td, dstd_td = piece.statistics()
    return LocFrame(
        environment=Environment(
            rules="TF",
            rcut=float(graph.attr(node, "rcut_r")),
            rcut_smth=0.0,
            sel_t=angular_t + radial_t,
            n_norm=int((angular_t + radial_t).sum()),
            davg_tk=np.zeros((n_types, 4)),
            dstd_tk=np.ones((n_types, 4)),
            excluded_tt=np.zeros((n_types, n_types), dtype=bool),
        ),
        angular_t=angular_t,
        axes_tuu=axes_tuu.reshape(n_types, 2, 3).astype(np.int64),
        davg_td=davg_td,
        dstd_td=dstd_td,
    )


def _default_axes(kind: int, counts_t: np.ndarray) -> list[int]:
    """The first two of the list, whatever element they are of."""
    of_slots = np.repeat(np.arange(len(counts_t)), counts_t)[:2].tolist()
    places = [of_slots[:k].count(element) for k, element in enumerate(of_slots)]
    return [n for e, place in zip(of_slots, places, strict=True) for n in (kind, e, place)]
