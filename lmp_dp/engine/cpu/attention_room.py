"""Memory of the attention stage."""

from __future__ import annotations

from dataclasses import dataclass, field

from lmp_dp.engine.cpu.room import Buffer, RowsRoom


@dataclass(frozen=True)
class AttentionLayerRoom:
    """What a layer of attention keeps for the way back (`kernels.attention.Kept`)."""

    qkv: Buffer = field(default_factory=Buffer)
    inverse: Buffer = field(default_factory=Buffer)
    logits: Buffer = field(default_factory=Buffer)
    soft: Buffer = field(default_factory=Buffer)
    normal: Buffer = field(default_factory=Buffer)
    deviation: Buffer = field(default_factory=Buffer)


@dataclass(frozen=True)
class AttentionRoom:
    """A chunk on its way through an `Attention`."""

    rows: RowsRoom = field(default_factory=RowsRoom)
    layers: list[AttentionLayerRoom] = field(default_factory=list)
    # of each neighbour element, made when one is met
    g_tpm: dict[int, Buffer] = field(default_factory=dict)  # of each (rows, M)
    dg_tpm: dict[int, Buffer] = field(default_factory=dict)  # of each (rows, M)
    work: Buffer = field(default_factory=Buffer)
    fade_p: Buffer = field(default_factory=Buffer)  # (P,)
    fade_slope_p: Buffer = field(default_factory=Buffer)  # (P,)
    # in the order of centres; capacity is a vector more than P
    place_p: Buffer = field(default_factory=Buffer)  # (P,) int64, of rows in their own order
    first_b: Buffer = field(default_factory=Buffer)  # (n_b + 1,) int64
    arranged_kp: Buffer = field(default_factory=Buffer)  # (4, P)
    darranged_kp: Buffer = field(default_factory=Buffer)  # (4, P)
    unit_cp: Buffer = field(default_factory=Buffer)  # (3, capacity)
    dunit_cp: Buffer = field(default_factory=Buffer)  # (3, capacity)
    inverse_p: Buffer = field(default_factory=Buffer)  # (P,)
    arranged_p: Buffer = field(default_factory=Buffer)  # (capacity,)
    dfade_p: Buffer = field(default_factory=Buffer)  # (capacity,)
    g_pm: Buffer = field(default_factory=Buffer)  # (P, M)
    dg_pm: Buffer = field(default_factory=Buffer)  # (P, M)
    # of one centre (`kernels.attention.Work`)
    turned: Buffer = field(default_factory=Buffer)
    weight: Buffer = field(default_factory=Buffer)
    dweight: Buffer = field(default_factory=Buffer)
    o: Buffer = field(default_factory=Buffer)
    dqkv: Buffer = field(default_factory=Buffer)
    y: Buffer = field(default_factory=Buffer)
    # of all centres
    c_bkr: Buffer = field(default_factory=Buffer)  # (n_b, 4, rank)
    cast_bkr: Buffer = field(default_factory=Buffer)  # C in the fitting net's precision
    features_bi: Buffer = field(default_factory=Buffer)
    dc_bkr: Buffer = field(default_factory=Buffer)

    def layer(self, k: int) -> AttentionLayerRoom:
        """The room of layer `k`."""
        while len(self.layers) <= k:
            self.layers.append(AttentionLayerRoom())
        return self.layers[k]
