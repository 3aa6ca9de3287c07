"""Neighbour lists and reverse lists of the gpu backend, against lists by all distances."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import numpy as np
import pytest

from cuda_emulation.emulated_device import EmulatedDevice
from lmp_dp.engine.gpu import kernels, lists
from lmp_dp.engine.gpu.lists import DeviceLists
from lmp_dp.engine.gpu.room import Buffer, ListRoom, with_headroom
from lmp_dp.errors import BackendError

CUTOFF = 2.0
#: Centres of element 2 do not see element 0, those of element 0 not their own.
EXCLUDED_TT = np.array([[1, 0, 0], [0, 0, 0], [1, 0, 0]], bool)


def cluster(n_all: int, width: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Positions and types (-1: not seen) of atoms in a cube."""
    rng = np.random.default_rng(seed)
    return rng.uniform(0, width, (n_all, 3)), rng.integers(-1, 3, n_all).astype(np.int32)


def built(
    positions_ac: np.ndarray,
    types_a: np.ndarray,
    n_local: int,
    seed: int | None = None,
    room: ListRoom | None = None,
    chunk: int = 40,
) -> DeviceLists:
    device = EmulatedDevice(seed=seed)
    return lists.build(
        device, device.compile(REAL="double"), room or ListRoom(), device.upload(positions_ac),
        types_a, n_local, CUTOFF, EXCLUDED_TT, lambda longest_t, _: [chunk] * len(longest_t),
    )  # fmt: skip


def on_host(found: DeviceLists) -> DeviceLists:
    arrays = {of.name: getattr(found, of.name) for of in dataclasses.fields(found)}
    del arrays["chunks"]
    return dataclasses.replace(found, **{name: array.get() for name, array in arrays.items()})


def centres_of(found: DeviceLists) -> np.ndarray:
    """The centre of each slot."""
    n_types = len(EXCLUDED_TT)
    members_g = np.concatenate(
        [np.tile(found.members_n[c.first : c.first + c.n], n_types) for c in found.chunks]
    )
    return np.repeat(members_g, np.diff(found.offsets_g))


@pytest.mark.parametrize("seed", [None, 1, 2])
@pytest.mark.parametrize("width", [9.0, 2.5], ids=["some", "hundreds"])
def test_who_is_whose_neighbour(width, seed) -> None:
    n_all, n_local = 450, 300
    positions_ac, types_a = cluster(n_all, width)
    found = on_host(built(positions_ac, types_a, n_local, seed))
    lengths = np.linalg.norm(positions_ac[:, None] - positions_ac, axis=2)
    sees = (lengths <= CUTOFF) & (types_a[:, None] >= 0) & (types_a >= 0)
    sees &= ~EXCLUDED_TT[types_a[:, None], types_a] & ~np.eye(n_all, dtype=bool)
    centres, neighbours = np.nonzero(sees[:n_local])
    assert len(found.chunks) > 6
    assert (np.diff(found.reverse_offsets_a).max() > 100) == (width < 5)
    pairs = np.stack([centres_of(found), found.neighbours_p])
    np.testing.assert_array_equal(
        pairs[:, np.lexsort(pairs[::-1])], np.stack([centres, neighbours])
    )
    np.testing.assert_array_equal(
        np.diff(found.reverse_offsets_a), np.bincount(neighbours, minlength=n_all)
    )
    # by atom, then by slot, in whichever order threads have run
    np.testing.assert_array_equal(found.reverse_p, np.argsort(found.neighbours_p, kind="stable"))


@pytest.mark.parametrize("n_all", [0, 1])
def test_nobody_has_neighbours(n_all) -> None:
    found = on_host(built(np.zeros((n_all, 3)), np.ones(n_all, np.int32), n_all))
    assert len(found.neighbours_p) == len(found.reverse_p) == 0
    np.testing.assert_array_equal(found.reverse_offsets_a, np.zeros(n_all + 1))


@pytest.mark.parametrize("seed", [0, 1])
def test_slots_of_any_number_are_sorted(seed) -> None:
    """Of 32 bits without a sign, lists of all lengths."""
    rng = np.random.default_rng(8)
    offsets_a = np.cumsum([0, *range(70), 127, 128, 129, 1000])
    slots_p = rng.integers(0, lists.MOST_SLOTS, offsets_a[-1], np.uint32, endpoint=True)
    expected = [np.sort(slots_p[a:b]) for a, b in pairwise(offsets_a)]
    device = EmulatedDevice(seed=seed)
    n, sorted_p = len(offsets_a) - 1, device.upload(slots_p)
    device.launch(
        device.compile(REAL="double"), "sort_reverse", kernels.warps(n), np.int32(n),
        device.upload(offsets_a), sorted_p,
    )  # fmt: skip
    np.testing.assert_array_equal(device.download(sorted_p), np.concatenate(expected))
    assert slots_p.max() > 2**31


def test_too_many_slots_are_refused(monkeypatch) -> None:
    system = *cluster(100, 4.0), 100
    n_slots = len(built(*system).neighbours_p)
    monkeypatch.setattr(lists, "MOST_SLOTS", n_slots)
    built(*system)
    monkeypatch.setattr(lists, "MOST_SLOTS", n_slots - 1)
    with pytest.raises(BackendError, match=f"lists of {n_slots} entries .* takes {n_slots - 1}:"):
        built(*system)


def test_lists_keep_their_places() -> None:
    """Those that grow a little, or shrink, are where the first ones were."""
    room, places = ListRoom(), set()
    positions_ac, types_a = cluster(400, 6.0)
    sizes = []
    for factor in (1.0, 0.99, 1.01):
        found = built(positions_ac * factor, types_a, 400, room=room)
        places.add((found.neighbours_p.ctypes.data, found.reverse_p.ctypes.data))
        sizes.append(len(found.neighbours_p))
    assert sizes[1] > sizes[0] > sizes[2]
    assert len(places) == 1


def test_headroom() -> None:
    buffer = Buffer()
    first = buffer.take(np, (1600,), np.float64)
    assert 1.05 * first.nbytes <= buffer.nbytes == 8 * with_headroom(1600) <= 1.1 * first.nbytes
    for n in (1500, 1700):
        again = buffer.take(np, (n // 10, 10), np.float64)
        assert again.ctypes.data == first.ctypes.data
    assert buffer.take(np, (1701,), np.float64).ctypes.data != first.ctypes.data
