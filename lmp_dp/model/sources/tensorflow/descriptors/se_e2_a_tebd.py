"""se_e2_a with a type embedding."""

from __future__ import annotations

from lmp_dp.model.descriptors.se_e2_a_tebd import SeE2ATebd
from lmp_dp.model.sources.tensorflow.pieces import Piece
from lmp_dp.model.sources.tensorflow.registry import reads
from lmp_dp.model.sources.tensorflow.tables import WITH_GATE
from lmp_dp.model.sources.tensorflow.typed_nets import typed_nets


@reads(
    "se_e2_a_tebd",
    lambda piece: piece.width == 4 and not piece.mixes and piece.has(f"matrix_1|{WITH_GATE}"),
)
def _(piece: Piece) -> SeE2ATebd:
    environment = piece.environment(piece.excluded_by_mask(piece.n_types))
    return SeE2ATebd(environment, typed_nets(piece, smooth=False), piece.axis_neuron())
