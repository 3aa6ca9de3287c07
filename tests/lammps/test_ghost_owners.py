"""Ghost values go back to their owners (one rank; several ranks: test_fix_external.py)."""

from __future__ import annotations

import numpy as np

from lmp_dp.lammps.ghost_owners import GhostOwners


def test_ghosts_are_added_to_their_owners() -> None:
    tags_a = np.array([7, 3, 5, 3, 3, 7])  # three local atoms, then ghosts of the atoms 3, 3 and 7
    owners = GhostOwners(tags_a, 3)
    assert owners.orphans.tolist() == []
    values_au = np.arange(12.0).reshape(6, 2)
    assert owners.fold(values_au).tolist() == [[10.0, 12.0], [16.0, 19.0], [4.0, 5.0]]
    assert values_au[0].tolist() == [0.0, 1.0]  # the input is left alone


def test_orphans_are_named_and_left_out() -> None:
    owners = GhostOwners(np.array([1, 2, 9, 1]), 2)
    assert owners.orphans.tolist() == [9]
    assert owners.fold(np.ones((4, 1))).tolist() == [[2.0], [1.0]]


def test_no_atoms() -> None:
    owners = GhostOwners(np.empty(0, np.int32), 0)
    assert owners.fold(np.empty((0, 3))).shape == (0, 3)
