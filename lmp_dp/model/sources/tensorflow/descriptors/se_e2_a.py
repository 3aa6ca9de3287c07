"""se_e2_a."""

from __future__ import annotations

from lmp_dp.model.descriptors.se_e2_a import SeE2A
from lmp_dp.model.sources.tensorflow.nets import pair_nets
from lmp_dp.model.sources.tensorflow.pieces import Piece
from lmp_dp.model.sources.tensorflow.registry import reads
from lmp_dp.model.sources.tensorflow.tables import SE_E2_A


@reads("se_e2_a", lambda piece: piece.width == 4 and piece.has(rf"matrix_1_\d+|{SE_E2_A}"))
def _(piece: Piece) -> SeE2A:
    return SeE2A(*pair_nets(piece), piece.axis_neuron())
