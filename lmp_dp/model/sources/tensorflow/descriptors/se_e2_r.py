"""se_e2_r."""

from __future__ import annotations

from lmp_dp.model.descriptors.se_e2_r import SeE2R
from lmp_dp.model.sources.tensorflow.nets import pair_nets
from lmp_dp.model.sources.tensorflow.pieces import Piece
from lmp_dp.model.sources.tensorflow.registry import reads
from lmp_dp.model.sources.tensorflow.tables import SE_E2_R


@reads("se_e2_r", lambda piece: piece.width == 1 and piece.has(rf"matrix_1_\d+|{SE_E2_R}"))
def _(piece: Piece) -> SeE2R:
    # of pairs that are excluded s is 0 where centres share the nets, and the net itself stays
    return SeE2R(*pair_nets(piece, of_excluded=True))
