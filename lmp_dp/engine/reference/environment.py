r"""Neighbour selection and the environment matrix.

Row of neighbour j of centre i, with r = r_j - r_i (Zhang et al., NeurIPS 2018):

    R_k = (s, s x/r, s y/r, s z/r),   s = sw(r)/r       (sw: `lmp_dp.engine.switch`)

rcut and rcut_smth are float32 in DeePMD-kit. The normalised row is (R - davg)/dstd; a slot without
a neighbour is the row R = 0, that is -davg/dstd.
"""

from __future__ import annotations

import numpy as np

from lmp_dp.engine.namespace import namespace_of, repeat
from lmp_dp.engine.neighbourhood import Array
from lmp_dp.engine.switch import switch
from lmp_dp.model.descriptors.environment import Environment


def select_neighbours(
    positions_ac: Array,
    types_a: Array,
    centres_n: Array,
    offsets_n: Array,
    neighbours_p: Array,
    environment: Environment,
) -> tuple[Array, int]:
    """Fill the ``sel``-padded slots: per element the nearest neighbours within the cutoff.

    DeePMD-kit's order: by element, then by r^2 rounded to float32, then by index.

    Parameters
    ----------
    centres_n, offsets_n : arrays
        A chunk of centres and their (n + 1) offsets into `neighbours_p`.
    environment : Environment
        Cutoff and slots; neighbours of excluded elements get none.

    Returns
    -------
    slots_ns : (n, sum(sel)) int64 array
        Neighbour indices, -1 where a slot is empty.
    dropped : int
        Neighbours that the centre should have seen, and for which there was no slot.
    """
    xp = namespace_of(positions_ac)
    sel_t, rcut = environment.sel_t, environment.rcut
    n_slots = int(sel_t.sum())
    slots_ns = xp.full((len(centres_n), n_slots), -1, dtype=xp.int64)
    centre_p = repeat(xp.arange(len(centres_n)), xp.diff(offsets_n))
    j_p = neighbours_p[int(offsets_n[0]) : int(offsets_n[-1])].astype(xp.int64)
    r_pc = positions_ac[j_p] - positions_ac[centres_n[centre_p]]
    r2_p = (r_pc * r_pc).sum(axis=1).astype(xp.float32)
    seen_p = (r2_p <= np.float32(rcut) * np.float32(rcut)) & (types_a[j_p] >= 0)
    seen_p &= types_a[centres_n[centre_p]] >= 0
    # of types -1 is the last row or column, which `seen_p` leaves out already
    excluded_tt = xp.asarray(environment.excluded_tt)
    seen_p &= ~excluded_tt[types_a[centres_n[centre_p]], types_a[j_p]]
    centre_p, j_p, r2_p = centre_p[seen_p], j_p[seen_p], r2_p[seen_p]
    type_p = types_a[j_p].astype(xp.int64)

    # float64 holds all four keys exactly; lexsort's last key is the first in rank
    order_p = xp.lexsort(
        xp.stack([key.astype(xp.float64) for key in (j_p, r2_p, type_p, centre_p)])
    )
    centre_p, j_p, type_p = centre_p[order_p], j_p[order_p], type_p[order_p]
    group_p = centre_p * len(sel_t) + type_p
    rank_p = xp.arange(len(group_p)) - xp.searchsorted(group_p, group_p)
    kept_p = rank_p < xp.asarray(sel_t)[type_p]
    first_slot_t = xp.asarray(np.concatenate([[0], np.cumsum(sel_t)[:-1]]))
    slots_ns[centre_p[kept_p], (first_slot_t[type_p] + rank_p)[kept_p]] = j_p[kept_p]
    return slots_ns, int((~kept_p).sum())


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
    r_nsc = xp.where(
        filled_ns[:, :, None], positions_ac[slots_ns] - positions_ac[centres_n][:, None, :], 0.0
    )
    r_ns = xp.where(filled_ns, xp.sqrt((r_nsc * r_nsc).sum(axis=2)), rcut)  # no division by zero
    sw_ns, dsw_ns = switch(r_ns, rcut, environment.rcut_smth)
    inside_ns = filled_ns & (r_ns < rcut)
    s_ns = xp.where(inside_ns, sw_ns / r_ns, 0.0)
    ds_ns = xp.where(inside_ns, (dsw_ns - sw_ns / r_ns) / r_ns, 0.0)

    unit_nsc = r_nsc / r_ns[:, :, None]
    rows_nsk = xp.concatenate([s_ns[:, :, None], s_ns[:, :, None] * unit_nsc], axis=2)
    # d(s)/dr_c = s' x_c/r ;  d(s x_a/r)/dr_c = s' x_a x_c/r^2 + (s/r)(delta_ac - x_a x_c/r^2)
    ds_nsc = ds_ns[:, :, None] * unit_nsc
    s_over_r_ns = s_ns / r_ns
    outer_nscc = unit_nsc[:, :, :, None] * unit_nsc[:, :, None, :]
    radial_ns = (ds_ns - s_over_r_ns)[:, :, None, None]
    vector_nscc = radial_ns * outer_nscc + s_over_r_ns[:, :, None, None] * xp.eye(3)
    return r_nsc, rows_nsk, xp.concatenate([ds_nsc[:, :, None, :], vector_nscc], axis=2)


def backward(drows_nsk: Array, slopes_nskc: Array) -> Array:
    """dE/dr_c of every slot from dE/dR_k: (n, n_slots, 3)."""
    return (drows_nsk[:, :, :, None] * slopes_nskc).sum(axis=2)
