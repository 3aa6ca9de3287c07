r"""The loc_frame descriptor of centres of one element (`lmp_dp.model.descriptors.loc_frame`).

With the displacements r_1, r_2 of two neighbours the frame is

    x = r_1/|r_1|,   y = w/|w|,  w = r_2 - (x . r_2) x,   z = x X y

and D lists, element by element and from the nearest on, (1/r, z.r/r^2, x.r/r^2, y.r/r^2) of angular
neighbours, then 1/r of radial ones; 0 in empty slots; normalised to (D - davg)/dstd. All of it is a
function of displacements, so that forces follow from dE/dr of each, those of the axes included.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lmp_dp.engine.namespace import namespace_of
from lmp_dp.engine.neighbourhood import Array
from lmp_dp.errors import InputError
from lmp_dp.model.descriptors.loc_frame import LocFrame

#: Axes that are antiparallel to this make no frame: the second one's successor is taken.
_ANTIPARALLEL = 1e-4
#: Of each element only so many of the nearest may be axes, where an axis may be of several.
_CANDIDATES = 3


def evaluate(
    descriptor: LocFrame, t: int, r_nsc: Array, filled_ns: Array
) -> tuple[Array, Callable[[Array], Array]]:
    """D (n, n_out) of centres of element `t`, and the way from dE/dD to dE/dr (n, n_slots, 3).

    Parameters
    ----------
    descriptor : LocFrame
    t : int
    r_nsc : (n, n_slots, 3) array
        r_j - r_i (Å) of slots, those of an element side by side.
    filled_ns : (n, n_slots) bool array
    """
    xp = namespace_of(r_nsc)
    order_ns = _order(descriptor, r_nsc, filled_ns)
    r_nsc = xp.take_along_axis(r_nsc, order_ns[:, :, None], axis=1)
    filled_ns = xp.take_along_axis(filled_ns, order_ns, axis=1)
    angular, radial = _columns(descriptor)
    axes = _axes(descriptor, t, r_nsc, filled_ns)
    rows_n = xp.arange(len(r_nsc))
    one_nc, two_nc = (r_nsc[rows_n, axis_n] for axis_n in axes)
    frame = _frame(one_nc, two_nc)
    zxy_nkc = xp.stack([frame[2], frame[0], frame[1]], axis=1)
    inverse_ns = xp.where(filled_ns, 1.0, 0.0) / xp.where(
        filled_ns, xp.sqrt((r_nsc * r_nsc).sum(axis=2)), 1.0
    )
    u_nsc, inverse_ns1 = r_nsc[:, angular], inverse_ns[:, angular, None]
    along_nsk = xp.matmul(u_nsc, zxy_nkc.transpose(0, 2, 1)) * inverse_ns1**2
    of_angular_nsk = xp.concatenate([inverse_ns1, along_nsk], axis=2)
    d_nd = xp.concatenate([of_angular_nsk.reshape(len(r_nsc), -1), inverse_ns[:, radial]], axis=1)
    davg_d, dstd_d = xp.asarray(descriptor.davg_td[t]), xp.asarray(descriptor.dstd_td[t])

    def backward(dd_nd: Array) -> Array:
        dd_nd = dd_nd / dstd_d
        n_angular = 4 * len(angular)
        dd_nsk = dd_nd[:, :n_angular].reshape(len(dd_nd), -1, 4)
        g_nsc = xp.zeros_like(r_nsc)
        g_nsc[:, radial] = (-dd_nd[:, n_angular:] * inverse_ns[:, radial] ** 3)[:, :, None] * r_nsc[
            :, radial
        ]
        v_nsc = xp.matmul(dd_nsk[:, :, 1:], zxy_nkc)
        radially_ns1 = (
            2.0 * (v_nsc * u_nsc).sum(axis=2, keepdims=True) * inverse_ns1 + dd_nsk[:, :, :1]
        ) * inverse_ns1**3
        g_nsc[:, angular] = v_nsc * inverse_ns1**2 - radially_ns1 * u_nsc
        # dE/d(z, x, y)
        dframe_nkc = xp.matmul((dd_nsk[:, :, 1:] * inverse_ns1**2).transpose(0, 2, 1), u_nsc)
        of_axes = _frame_backward(one_nc, two_nc, frame, dframe_nkc)
        for axis_n, g_nc in zip(axes, of_axes, strict=True):
            g_nsc[rows_n, axis_n] += g_nc
        found_nsc = xp.empty_like(g_nsc)
        found_nsc[rows_n[:, None], order_ns] = g_nsc
        return found_nsc

    return (d_nd - davg_d) / dstd_d, backward


def _order(descriptor: LocFrame, r_nsc: Array, filled_ns: Array) -> Array:
    """Slots of each element from the nearest on, empty ones last."""
    xp = namespace_of(r_nsc)
    r2_ns = xp.where(filled_ns, (r_nsc * r_nsc).sum(axis=2), np.inf)
    parts, start = [], 0
    for count in descriptor.environment.sel_t.tolist():
        parts.append(start + xp.argsort(r2_ns[:, start : start + count], axis=1, kind="stable"))
        start += count
    return xp.concatenate(parts, axis=1)


def _columns(descriptor: LocFrame) -> tuple[np.ndarray, np.ndarray]:
    """Slots of angular neighbours, and of radial ones."""
    sel_t, angular_t = descriptor.environment.sel_t, descriptor.angular_t
    first_t = np.cumsum(sel_t) - sel_t
    blocks = [np.arange(f, f + n) for f, n in zip(first_t, sel_t, strict=True)]
    return (
        np.concatenate([s[:n] for s, n in zip(blocks, angular_t, strict=True)]),
        np.concatenate([s[n:] for s, n in zip(blocks, angular_t, strict=True)]),
    )


def _axes(descriptor: LocFrame, t: int, r_nsc: Array, filled_ns: Array) -> list[Array]:
    """Slots of the two neighbours that the frame of each centre is made of."""
    xp = namespace_of(r_nsc)
    (kind_1, type_1, place_1), (kind_2, type_2, place_2) = descriptor.axes_tuu[t].tolist()
    one_n = _axis(descriptor, kind_1, type_1, place_1, r_nsc, filled_ns)
    two_n, next_n = (
        _axis(descriptor, kind_2, type_2, place_2 + more, r_nsc, filled_ns) for more in (0, 1)
    )
    rows_n = xp.arange(len(r_nsc))
    one_nc, two_nc = r_nsc[rows_n, one_n], r_nsc[rows_n, two_n]
    lengths_n = xp.sqrt((one_nc**2).sum(axis=1) * (two_nc**2).sum(axis=1))
    opposed_n = xp.abs((one_nc * two_nc).sum(axis=1) + lengths_n) < _ANTIPARALLEL * lengths_n
    axes = [one_n, xp.where(opposed_n, next_n, two_n)]
    for axis_n in axes:
        if not bool(filled_ns[rows_n, axis_n].all()):
            raise InputError(
                f"{int((~filled_ns[rows_n, axis_n]).sum())} atoms of element {t} have too few "
                f"neighbours within {descriptor.environment.rcut:g} Å for a local frame, which "
                "this model (descriptor loc_frame) needs"
            )
    return axes


def _axis(
    descriptor: LocFrame, kind: int, element: int, place: int, r_nsc: Array, filled_ns: Array
) -> Array:
    """One axis' slot of each centre: its place may be beyond the last, or empty."""
    xp = namespace_of(r_nsc)
    columns = _columns(descriptor)[kind]
    sel_t = descriptor.environment.sel_t
    counts_t = (descriptor.angular_t, sel_t - descriptor.angular_t)[kind]
    first_t = np.cumsum(counts_t) - counts_t
    if element >= 0:
        at = min(int(first_t[element]) + place, len(columns) - 1)
        return xp.full(len(r_nsc), columns[at])
    excluded = -element if kind else -(element + 1)
    candidates = np.concatenate(
        [
            columns[first : first + min(int(count), _CANDIDATES)]
            for e, (first, count) in enumerate(zip(first_t, counts_t, strict=True))
            if e != excluded
        ]
    )
    of_candidates = r_nsc[:, candidates]
    r2_ns = xp.where(filled_ns[:, candidates], (of_candidates**2).sum(axis=2), np.inf)
    order_ns = xp.argsort(r2_ns, axis=1, kind="stable")
    return xp.asarray(candidates)[order_ns[:, min(place, len(candidates) - 1)]]


def _frame(one_nc: Array, two_nc: Array) -> tuple[Array, Array, Array]:
    """x, y and z."""
    xp = namespace_of(one_nc)
    x_nc = one_nc / xp.sqrt((one_nc**2).sum(axis=1, keepdims=True))
    w_nc = two_nc - (x_nc * two_nc).sum(axis=1, keepdims=True) * x_nc
    y_nc = w_nc / xp.sqrt((w_nc**2).sum(axis=1, keepdims=True))
    return x_nc, y_nc, xp.cross(x_nc, y_nc)


def _frame_backward(
    one_nc: Array,
    two_nc: Array,
    frame: tuple[Array, Array, Array],
    dframe_nkc: Array,
) -> tuple[Array, Array]:
    """dE/dr_1 and dE/dr_2 from dE/d(z, x, y)."""
    xp = namespace_of(one_nc)

    def dot(a_nc: Array, b_nc: Array) -> Array:
        return (a_nc * b_nc).sum(axis=1, keepdims=True)

    x_nc, y_nc, _ = frame
    dz_nc, dx_nc, dy_nc = (dframe_nkc[:, k] for k in range(3))
    dx_nc = dx_nc + xp.cross(y_nc, dz_nc)
    dy_nc = dy_nc + xp.cross(dz_nc, x_nc)
    along_n1 = dot(x_nc, two_nc)
    w_nc = two_nc - along_n1 * x_nc
    dw_nc = (dy_nc - dot(dy_nc, y_nc) * y_nc) / xp.sqrt(dot(w_nc, w_nc))
    dx_nc = dx_nc - dot(dw_nc, x_nc) * two_nc - along_n1 * dw_nc
    done_nc = (dx_nc - dot(dx_nc, x_nc) * x_nc) / xp.sqrt(dot(one_nc, one_nc))
    return done_nc, dw_nc - dot(dw_nc, x_nc) * x_nc
