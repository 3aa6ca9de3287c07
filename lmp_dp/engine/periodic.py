"""The engine's own neighbour search: wrapping, periodic images, cell list.

Works for any triclinic cell, cells smaller than the cutoff, and open boundaries; NumPy and CuPy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lmp_dp.engine.namespace import namespace_of, repeat
from lmp_dp.engine.neighbourhood import Array, Neighbourhood
from lmp_dp.errors import InputError

#: Candidate pairs that are examined at a time (bounds the memory of the search).
_CANDIDATES = 4_000_000
#: Ten times what the densest solids have within 12 Å (1 atom/Å^3), and lists of 100 MB per thousand
#: atoms; choosing the nearest of so many takes 0.05 s per atom.
MOST_NEIGHBOURS = 20_000


@dataclass
class PeriodicNeighbourhood:
    """A neighbourhood with the owner of every atom, to fold ghost values back."""

    neighbourhood: Neighbourhood
    owners_a: Array

    def fold(self, values_a: Array) -> Array:
        """Sum per-atom values of ghosts onto their owners: (n_all, ...) -> (n_local, ...)."""
        n_local = self.neighbourhood.n_local
        folded = values_a[:n_local].copy()
        np.add.at(folded, self.owners_a[n_local:], values_a[n_local:])
        return folded


def build(
    positions_ac: Array,
    types_a: Array,
    cell_cc: np.ndarray | None,
    rcut: float,
    pbc: tuple[bool, bool, bool] = (True, True, True),
    lists: bool = True,
) -> PeriodicNeighbourhood:
    """All atoms with the images that they see, and neighbour lists within `rcut`.

    Parameters
    ----------
    positions_ac : (n, 3) float64
        Positions (Å), inside the cell or not.
    types_a : (n,) int32
    cell_cc : (3, 3) float64 or None
        Rows are lattice vectors (Å); None means open boundaries.
    rcut : float
    pbc : three bools
        Which lattice vectors are periodic.
    lists : bool
        False for an engine that finds neighbours itself.

    Raises
    ------
    InputError
        An atom would have more than `MOST_NEIGHBOURS`, counted before anything is made.
    """
    xp = namespace_of(positions_ac)
    n_local = len(positions_ac)
    owners_a = xp.arange(n_local)
    if cell_cc is not None and any(pbc):
        positions_ac, owners_a = _with_images(positions_ac, owners_a, cell_cc, rcut, pbc)
    offsets_n = neighbours_p = None
    if lists:
        offsets_n, neighbours_p = neighbour_lists(positions_ac, n_local, rcut)
    return PeriodicNeighbourhood(
        Neighbourhood(
            positions_ac=positions_ac,
            types_a=types_a[owners_a],
            n_local=n_local,
            centres_n=xp.arange(n_local, dtype=xp.int32),
            offsets_n=offsets_n,
            neighbours_p=neighbours_p,
        ),
        owners_a,
    )


def _with_images(
    positions_ac: Array,
    owners_a: Array,
    cell_cc: np.ndarray,
    rcut: float,
    pbc: tuple[bool, bool, bool],
) -> tuple[Array, Array]:
    """Wrap into the cell, then append images, axis after axis, up to `rcut` outside of it."""
    xp = namespace_of(positions_ac)
    inverse_cc = np.linalg.inv(cell_cc)
    heights_c = 1.0 / np.linalg.norm(inverse_cc, axis=0)  # distances of opposite faces
    cell, inverse = xp.asarray(cell_cc), xp.asarray(inverse_cc)
    fractional_ac = positions_ac @ inverse
    for axis in range(3):
        if pbc[axis]:
            fractional_ac[:, axis] -= xp.floor(fractional_ac[:, axis])
    _refuse_tiny_cells(fractional_ac, heights_c, rcut, pbc)
    for axis in range(3):
        if not pbc[axis]:
            continue
        margin = rcut / heights_c[axis]
        parts, owners = [fractional_ac], [owners_a]
        for shift in range(-int(np.ceil(margin)), int(np.ceil(margin)) + 1):
            if shift == 0:
                continue
            moved_a = fractional_ac[:, axis] + shift
            near_a = (moved_a >= -margin) & (moved_a <= 1.0 + margin)
            image_ac = fractional_ac[near_a]
            image_ac[:, axis] = moved_a[near_a]
            parts.append(image_ac)
            owners.append(owners_a[near_a])
        fractional_ac, owners_a = xp.concatenate(parts), xp.concatenate(owners)
    return fractional_ac @ cell, owners_a


def _refuse_tiny_cells(
    fractional_ac: Array, heights_c: np.ndarray, rcut: float, pbc: tuple[bool, bool, bool]
) -> None:
    """An error if atoms and images are too many in the volume from -rcut to rcut around an atom.

    They are counted as if they filled the cell evenly; in open directions, the space they take up.
    """
    count = float(len(fractional_ac))
    for axis in range(3):
        if pbc[axis]:
            count *= 2.0 * rcut / heights_c[axis]
        elif count:
            extent = float(np.ptp(fractional_ac[:, axis])) * heights_c[axis]
            count *= min(1.0, 2.0 * rcut / max(extent, rcut))
    if count > MOST_NEIGHBOURS:
        faces = " ".join(f"{height:.3g}" for height in heights_c)
        raise InputError(
            f"the cell is too small for a cutoff of {rcut:g} Å: {count:.0f} atoms and periodic "
            f"images around each atom, the limit is {MOST_NEIGHBOURS}; opposite faces are {faces} "
            f"Å apart: are cell and positions in Å, or is there a less oblique cell?"
        )


def neighbour_lists(positions_ac: Array, n_local: int, rcut: float) -> tuple[Array, Array]:
    """Neighbour lists of the first `n_local` atoms among all given atoms (cell list, no images).

    Parameters
    ----------
    positions_ac : (n_all, 3) float64
        Positions (Å); atoms at the same place are neighbours.
    n_local : int
    rcut : float
        Å.

    Returns
    -------
    offsets_n : (n_local + 1,) int64
        Neighbours of atom ``n`` are ``neighbours_p[offsets_n[n]:offsets_n[n + 1]]``.
    neighbours_p : (n_pairs,) int32
        Indices into `positions_ac`.
    """
    xp = namespace_of(positions_ac)
    if n_local == 0:
        return xp.zeros(1, dtype=xp.int64), xp.zeros(0, dtype=xp.int32)
    low_c = positions_ac.min(axis=0)
    extent_c = positions_ac.max(axis=0) - low_c
    # bins not smaller than rcut, and not many more than atoms (sparse clusters)
    edge_c = xp.maximum(rcut, extent_c / max(1.0, (8.0 * len(positions_ac)) ** (1 / 3)))
    bin_ac = xp.floor((positions_ac - low_c) / edge_c).astype(xp.int64) + 1
    n_bins = [int(b) + 2 for b in bin_ac.max(axis=0)]  # one empty layer on each side
    id_a = (bin_ac[:, 0] * n_bins[1] + bin_ac[:, 1]) * n_bins[2] + bin_ac[:, 2]
    order_a = xp.argsort(id_a, kind="stable")
    first_h = xp.searchsorted(id_a[order_a], xp.arange(int(np.prod(n_bins)) + 1))
    # the three bins along z are contiguous: nine runs of bins per centre
    runs = xp.asarray([(dx * n_bins[1] + dy) * n_bins[2] for dx in (-1, 0, 1) for dy in (-1, 0, 1)])
    begin_ng = first_h[id_a[:n_local, None] + runs - 1]
    count_ng = first_h[id_a[:n_local, None] + runs + 2] - begin_ng

    total_n = xp.concatenate([xp.zeros(1, dtype=xp.int64), xp.cumsum(count_ng.sum(axis=1))])
    counts, lists = [], []
    first = 0
    while first < n_local:
        last = int(xp.searchsorted(total_n, total_n[first] + _CANDIDATES, side="right")) - 1
        last = min(max(last, first + 1), n_local)
        begin_g, count_g = begin_ng[first:last].ravel(), count_ng[first:last].ravel()
        ends_g = xp.cumsum(count_g)
        within_p = xp.arange(int(ends_g[-1])) - repeat(ends_g - count_g, count_g)
        j_p = order_a[repeat(begin_g, count_g) + within_p]
        i_p = repeat(xp.arange(first, last), count_ng[first:last].sum(axis=1))
        r_pc = positions_ac[j_p] - positions_ac[i_p]
        near_p = ((r_pc * r_pc).sum(axis=1) <= rcut * rcut) & (i_p != j_p)
        counts.append(xp.bincount(i_p[near_p] - first, minlength=last - first))
        lists.append(j_p[near_p].astype(xp.int32))
        first = last
    offsets_n = xp.concatenate([xp.zeros(1, dtype=xp.int64), xp.cumsum(xp.concatenate(counts))])
    return offsets_n, xp.concatenate(lists)
