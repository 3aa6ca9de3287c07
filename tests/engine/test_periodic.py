"""The engine's neighbour search against brute force over all images."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from lmp_dp.engine import periodic


def brute_force(positions, cell, rcut, pbc) -> list[tuple[int, int, tuple[float, ...]]]:
    reach = [
        int(np.ceil(rcut * np.linalg.norm(np.linalg.inv(cell)[:, k]))) + 4 if pbc[k] else 0
        for k in range(3)
    ]
    pairs = []
    for shift in itertools.product(*(range(-n, n + 1) for n in reach)):
        r = positions[None] + np.array(shift) @ cell - positions[:, None]
        distance = np.linalg.norm(r, axis=2)
        for i, j in zip(*np.nonzero((distance < rcut) & (distance > 1e-9)), strict=True):
            pairs.append((int(i), int(j), tuple(np.round(r[i, j], 9) + 0.0)))
    return sorted(pairs)


CELLS = {
    "cubic": np.eye(3) * 9.0,
    "tilted": np.array([[7.0, 0, 0], [5.0, 6.0, 0], [-4.0, 3.0, 6.5]]),
    "left-handed": np.array([[0, 5.0, 1.0], [6.0, 0, 0.5], [0.3, 0.2, 7.0]]),
    "flat": np.array([[2.13, 0, 0], [0.4, 2.3, 0], [0, 0, 15.0]]),
}


@pytest.mark.parametrize("pbc", [(True, True, True), (True, False, True), (False, False, True)])
@pytest.mark.parametrize("shape", CELLS)
def test_finds_the_pairs_of_brute_force(shape: str, pbc) -> None:
    rng = np.random.default_rng(11)
    cell, rcut = CELLS[shape], 4.2
    positions = rng.uniform(-0.8, 1.7, (9, 3)) @ cell
    lists = periodic.build(positions, np.zeros(9, np.int32), cell, rcut, pbc)
    nb = lists.neighbourhood
    centre = np.repeat(nb.centres_n, np.diff(nb.offsets_n))
    r = nb.positions_ac[nb.neighbours_p] - nb.positions_ac[centre]
    found = sorted(
        (int(i), int(lists.owners_a[j]), tuple(np.round(v, 9) + 0.0))
        for i, j, v in zip(centre, nb.neighbours_p, r, strict=True)
    )
    wrapped = nb.positions_ac[:9]
    expected = brute_force(wrapped, cell, rcut, pbc)
    assert len(found) == len(expected) > 0
    for one, two in zip(found, expected, strict=True):
        assert one[:2] == two[:2]
        np.testing.assert_allclose(one[2], two[2], atol=1e-8)


def test_open_boundaries_and_sparse_clusters() -> None:
    rng = np.random.default_rng(12)
    positions = np.concatenate([rng.uniform(0, 6, (20, 3)), rng.uniform(0, 6, (20, 3)) + 5e6])
    nb = periodic.build(positions, np.zeros(40, np.int32), None, 3.0).neighbourhood
    assert len(nb.positions_ac) == 40
    distance = np.linalg.norm(positions[None] - positions[:, None], axis=2)
    assert len(nb.neighbours_p) == ((distance < 3.0) & (distance > 0)).sum() > 0


def test_no_atoms() -> None:
    nb = periodic.build(np.zeros((0, 3)), np.zeros(0, np.int32), np.eye(3), 3.0).neighbourhood
    assert len(nb.neighbours_p) == 0
    assert nb.offsets_n.tolist() == [0]
