r"""Neighbour selection and the environment matrix.

Row of neighbour j of centre i, with r = r_j - r_i (Zhang et al., NeurIPS 2018):

    R_k = (s, s x/q, s y/q, s z/q),   s = sw(r)/q       (sw: `lmp_dp.engine.switch`)

with q = r + protection, which is 0 in most models. The normalised row is (R - davg)/dstd; a slot
without a neighbour is the row R = 0, that is -davg/dstd.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lmp_dp.engine.namespace import namespace_of, repeat
from lmp_dp.engine.neighbourhood import Array
from lmp_dp.engine.reference.registry import Rows
from lmp_dp.engine.switch import switch
from lmp_dp.model.descriptors.environment import Environment


class Slots(NamedTuple):
    """Neighbours of a chunk of centres.

    Attributes
    ----------
    neighbour_ns : (n, n_slots) int64 array
        Indices of neighbours, -1 where a slot is empty.
    hidden_ns : (n, n_slots) bool array
        Where a neighbour takes a slot, but the centre does not see it.
    dropped : int
        Neighbours that the centre should have seen, and for which there was no slot.
    """

    neighbour_ns: Array
    hidden_ns: Array
    dropped: int = 0

    def around(self, members_n: Array) -> Slots:
        """The slots of some centres."""
        return Slots(self.neighbour_ns[members_n], self.hidden_ns[members_n])

    def types_ns(self, types_a: Array) -> Array:
        """Elements of the neighbours, -1 in empty slots."""
        xp = namespace_of(self.neighbour_ns)
        return xp.where(self.neighbour_ns >= 0, types_a[self.neighbour_ns], -1)


def select_neighbours(
    positions_ac: Array,
    types_a: Array,
    centres_n: Array,
    offsets_n: Array,
    neighbours_p: Array,
    environment: Environment,
) -> Slots:
    """Fill the ``sel``-padded slots with the nearest neighbours within the cutoff.

    In DeePMD-kit's order: by block of slots (an element each, or one for all), then by r^2 (TF:
    rounded to float32), then by index. The nearest `Environment.n_candidates` of all elements come
    into question, the nearest of each block stay, and then pairs are taken out (`unseen_tt`).

    Parameters
    ----------
    centres_n, offsets_n : arrays
        A chunk of centres and their (n + 1) offsets into `neighbours_p`.
    environment : Environment
        Cutoff and slots.
    """
    xp = namespace_of(positions_ac)
    sel_t, n_slots = environment.sel_t, environment.n_slots
    real = xp.float32 if environment.rules == "TF" else xp.float64
    centre_p = repeat(xp.arange(len(centres_n)), xp.diff(offsets_n))
    j_p = neighbours_p[int(offsets_n[0]) : int(offsets_n[-1])].astype(xp.int64)
    r_pc = positions_ac[j_p] - positions_ac[centres_n[centre_p]]
    r2_p = (r_pc * r_pc).sum(axis=1).astype(real)
    reach = real(environment.reach or environment.rcut)
    seen_p = (r2_p <= reach * reach) & (types_a[j_p] >= 0)
    seen_p &= types_a[centres_n[centre_p]] >= 0
    # of types -1 is the last row or column, which `seen_p` leaves out already
    excluded_tt = xp.asarray(environment.excluded_tt)
    if not environment.excluded_take_slots:
        seen_p &= ~excluded_tt[types_a[centres_n[centre_p]], types_a[j_p]]
    centre_p, j_p, r2_p = centre_p[seen_p], j_p[seen_p], r2_p[seen_p]
    type_p = types_a[j_p].astype(xp.int64)
    pairs = (types_a[centres_n[centre_p]], type_p)
    taken_out_p = xp.zeros(len(j_p), bool)
    if environment.unseen_tt is not None:
        taken_out_p = xp.asarray(environment.unseen_tt)[pairs]
    hidden_p = excluded_tt[pairs] & ~taken_out_p

    block_p = xp.zeros_like(type_p) if environment.one_block else type_p
    kept_p = xp.ones(len(j_p), bool)
    if environment.n_candidates:
        kept_p = _ranks(centre_p, (j_p, r2_p)) < environment.n_candidates
    # those that are out already come last in their block
    rank_p = _ranks(centre_p * len(sel_t) + block_p, (j_p, r2_p, ~kept_p))
    kept_p &= rank_p < xp.asarray(sel_t)[block_p]
    dropped = int((~kept_p & ~hidden_p & ~taken_out_p).sum())

    first_slot_t = xp.asarray(np.concatenate([[0], np.cumsum(sel_t)[:-1]]))
    places = (centre_p[kept_p], (first_slot_t[block_p] + rank_p)[kept_p])
    neighbour_ns = xp.full((len(centres_n), n_slots), -1, dtype=xp.int64)
    neighbour_ns[places] = xp.where(taken_out_p, -1, j_p)[kept_p]
    hidden_ns = xp.zeros((len(centres_n), n_slots), bool)
    hidden_ns[places] = hidden_p[kept_p]
    return Slots(neighbour_ns, hidden_ns, dropped)


def _ranks(group_p: Array, keys: tuple[Array, ...]) -> Array:
    """Of each pair in its group, by keys of which the last one is the first in rank."""
    xp = namespace_of(group_p)
    # float64 holds all keys exactly
    order_p = xp.lexsort(xp.stack([key.astype(xp.float64) for key in (*keys, group_p)]))
    sorted_p = group_p[order_p]
    rank_p = xp.empty_like(order_p)
    rank_p[order_p] = xp.arange(len(order_p)) - xp.searchsorted(sorted_p, sorted_p)
    return rank_p


def rows(
    environment: Environment,
    dtype: np.dtype,
    t: int,
    positions_ac: Array,
    types_a: Array,
    centres_n: Array,
    slots: Slots,
) -> Rows:
    """Rows around centres of element `t`, in a descriptor's precision."""
    xp, slots_ns = namespace_of(positions_ac), slots.neighbour_ns
    davg_k, dstd_k = xp.asarray(environment.davg_tk[t]), xp.asarray(environment.dstd_tk[t])
    r_nsc, rows_nsk, slopes_nskc = forward(positions_ac, centres_n, slots_ns, environment)
    shown_ns1 = ~slots.hidden_ns[:, :, None]
    return Rows(
        normalised_nsk=((rows_nsk - davg_k) / dstd_k * shown_ns1).astype(dtype),
        filled_ns=slots_ns >= 0,
        hidden_ns=slots.hidden_ns,
        types_ns=slots.types_ns(types_a),
        slots_ns=slots_ns,
        r_nsc=r_nsc,
        slopes_nskc=slopes_nskc * shown_ns1[:, :, :, None],
    )


def forward(
    positions_ac: Array, centres_n: Array, slots_ns: Array, environment: Environment
) -> tuple[Array, Array, Array]:
    """Environment rows and their derivatives (float64).

    Returns
    -------
    r_nsc : (n, n_slots, 3)
        r_j - r_i (Å), zero in empty slots.
    rows_nsk : (n, n_slots, 4)
        R_k, zero in empty slots (1/Å).
    slopes_nskc : (n, n_slots, 4, 3)
        dR_k/dr_c (1/Å^2).
    """
    xp = namespace_of(positions_ac)
    rcut = environment.rcut
    filled_ns = slots_ns >= 0
    r_nsc = displacements(positions_ac, centres_n, slots_ns)
    r_ns = xp.where(filled_ns, xp.sqrt((r_nsc * r_nsc).sum(axis=2)), rcut)  # no division by zero
    sw_ns, dsw_ns = switch(r_ns, environment.rcut_smth, environment.switch_width)
    inside_ns = filled_ns & (r_ns < rcut)
    q_ns = r_ns + environment.protection
    s_ns = xp.where(inside_ns, sw_ns / q_ns, 0.0)
    ds_ns = xp.where(inside_ns, (dsw_ns - sw_ns / q_ns) / q_ns, 0.0)

    over_q_nsc = r_nsc / q_ns[:, :, None]
    rows_nsk = xp.concatenate([s_ns[:, :, None], s_ns[:, :, None] * over_q_nsc], axis=2)
    # d(s)/dr_c = s' x_c/r ;  d(s x_a/q)/dr_c = (s' - s/q) x_a x_c/(q r) + (s/q) delta_ac
    unit_nsc = r_nsc / r_ns[:, :, None]
    ds_nsc = ds_ns[:, :, None] * unit_nsc
    s_over_q_ns = s_ns / q_ns
    outer_nscc = over_q_nsc[:, :, :, None] * unit_nsc[:, :, None, :]
    radial_ns = (ds_ns - s_over_q_ns)[:, :, None, None]
    vector_nscc = radial_ns * outer_nscc + s_over_q_ns[:, :, None, None] * xp.eye(3)
    return r_nsc, rows_nsk, xp.concatenate([ds_nsc[:, :, None, :], vector_nscc], axis=2)


def displacements(positions_ac: Array, centres_n: Array, slots_ns: Array) -> Array:
    """r_j - r_i (Å) of each slot, zero in empty ones: (n, n_slots, 3)."""
    r_nsc = positions_ac[slots_ns] - positions_ac[centres_n][:, None, :]
    return namespace_of(positions_ac).where(slots_ns[:, :, None] >= 0, r_nsc, 0.0)


def backward(drows_nsk: Array, slopes_nskc: Array) -> Array:
    """dE/dr_c of every slot from dE/dR_k: (n, n_slots, 3)."""
    return (drows_nsk[:, :, :, None] * slopes_nskc).sum(axis=2)
