"""Kernels of rows against plain NumPy: selection, environment, padding, forces and virials."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from lmp_dp.engine.cpu.kernels import rows
from lmp_dp.engine.selection import Fate, Selection
from lmp_dp.engine.switch import switch

RCUT, RCUT_SMTH = 3.0, 0.5
#: Rounding of a few operations on numbers of order 1 to 10.
ROUND_OFF = 50 * np.finfo(np.float64).eps


def crowd(seed: int, grid: bool) -> SimpleNamespace:
    """Atoms with lists of everything nearer than 1.3 cutoffs; on a grid, many are equally far."""
    rng = np.random.default_rng(seed)
    n_all, n_types = 80, 3
    positions_ac = rng.uniform(0.0, 7.0, (n_all, 3))
    if grid:
        places = np.stack(np.meshgrid(*[np.arange(5)] * 3, indexing="ij"), -1).reshape(-1, 3)
        positions_ac = 1.5 * places[rng.permutation(len(places))[:n_all]].astype(float)
    centres_n = rng.permutation(n_all)[:30].astype(np.int32)
    lists = []
    for i in centres_n:
        distance_a = np.linalg.norm(positions_ac - positions_ac[i], axis=1)
        near = np.flatnonzero((distance_a < 1.3 * RCUT) & (distance_a > 0))
        lists.append(rng.permutation(near))  # as LAMMPS has them: in no order
    return SimpleNamespace(
        positions_ac=positions_ac,
        types_a=rng.integers(-1, n_types, n_all).astype(np.int32),
        centres_n=centres_n,
        offsets_n=np.concatenate([[0], np.cumsum([len(of) for of in lists])]).astype(np.int64),
        neighbours_p=np.concatenate(lists).astype(np.int32),
        longest=max(len(of) for of in lists),
        members_b=np.sort(rng.permutation(30)[:17]).astype(np.int64),
    )


def gathered(c: SimpleNamespace, selection: Selection) -> tuple:
    """What `gather` lays out: neighbours, displacements, where centres begin, how many slots are
    empty, and the number dropped."""
    n_b, n_types = len(c.members_b), len(selection.fate_t)
    capacity = n_b * min(selection.n_slots, c.longest)
    first_tb = np.full((n_types, n_b + 1), -1, np.int64)
    empty_tb = np.full((len(selection.sel_t), n_b), -1, np.int64)
    neighbour_p, r_cp = np.full(capacity, -1, np.int32), np.full((3, capacity), np.nan)
    n, dropped = rows.gather(
        c.positions_ac,
        c.types_a,
        c.centres_n,
        c.members_b,
        c.offsets_n,
        c.neighbours_p,
        selection.sel_t,
        selection.fate_t,
        selection.n_nearest,
        RCUT,
        np.full(c.longest, -1, np.int32),
        np.full(c.longest, np.nan, np.float32 if selection.in_float32 else np.float64),
        np.full(c.longest, -1, np.int32),
        np.full((n_b, min(selection.n_slots, c.longest)), -1, np.int32),
        first_tb,
        empty_tb,
        neighbour_p,
        r_cp,
    )
    return neighbour_p[:n], r_cp[:, :n], first_tb, empty_tb, dropped


def selected(c: SimpleNamespace, of: Selection) -> tuple[list[list[list[int]]], list, int]:
    """The same by SEMANTICS: the nearest of all elements, then of each, then those of lower index;
    rows per element and centre, empty slots per block and centre, and the number dropped."""
    chosen: list[list[list[int]]] = [[] for _ in of.fate_t]
    empty: list[list[int]] = [[] for _ in of.sel_t]
    real = np.float32 if of.in_float32 else np.float64
    dropped = 0
    for n in c.members_b:
        i = c.centres_n[n]
        keys = []
        for j in c.neighbours_p[c.offsets_n[n] : c.offsets_n[n + 1]].tolist():
            r_c = c.positions_ac[j] - c.positions_ac[i]
            r2, t = real(r_c @ r_c), c.types_a[j]
            if t >= 0 and of.fate_t[t] != Fate.ABSENT and r2 <= real(RCUT**2):
                keys.append((r2, j))
        in_order = [j for _, j in sorted(keys)]
        kept = in_order[: of.n_nearest or None]
        if len(of.sel_t) > 1:
            of_t = [[j for j in kept if c.types_a[j] == t][:sel] for t, sel in enumerate(of.sel_t)]
            kept = [j for block in of_t for j in block]
        fates = of.fate_t[c.types_a[kept]] if kept else np.empty(0, int)
        for t in range(len(of.fate_t)):
            chosen[t].append([j for j in kept if c.types_a[j] == t and of.fate_t[t] == Fate.ROW])
        blocks = c.types_a[kept] if len(of.sel_t) > 1 else np.zeros(len(kept), int)
        for u, sel in enumerate(of.sel_t):
            empty[u].append(int(sel - ((blocks == u) & (fates != Fate.EMPTY)).sum()))
        lost = set(in_order) - set(kept)
        dropped += sum(of.fate_t[c.types_a[j]] == Fate.ROW for j in lost)
    return chosen, empty, dropped


_ROW, _ABSENT, _HIDDEN, _EMPTY = Fate


@pytest.mark.parametrize("grid", [False, True], ids=["random", "ties"])
@pytest.mark.parametrize(
    ("sel", "fates", "n_nearest"),
    [
        ((60, 60, 60), (_ROW, _ROW, _ROW), 0),
        ((3, 2, 1), (_ROW, _ROW, _ROW), 0),
        ((0, 4, 60), (_ROW, _ROW, _ROW), 0),
        ((5, 60, 2), (_ROW, _ABSENT, _ROW), 0),
        ((0, 0, 1), (_ABSENT, _ROW, _ABSENT), 0),
        ((2, 2, 2), (_ABSENT, _ABSENT, _ABSENT), 0),
        ((60, 60, 60), (_ROW, _HIDDEN, _EMPTY), 180),
        ((9, 2, 3), (_ROW, _ROW, _ROW), 14),
        ((3, 2, 1), (_ROW, _HIDDEN, _ROW), 6),
        ((2, 4, 3), (_EMPTY, _ROW, _HIDDEN), 9),
        ((2, 4, 0), (_ROW, _ROW, _HIDDEN), 11),
        ((90,), (_ROW, _ROW, _HIDDEN), 90),
        ((9,), (_ROW, _ROW, _ROW), 9),
        ((9,), (_HIDDEN, _ROW, _EMPTY), 9),
    ],
)
@pytest.mark.parametrize("in_float32", [True, False], ids=["float32", "float64"])
def test_gather(sel, fates, n_nearest: int, in_float32: bool, grid: bool) -> None:
    """Enough slots, too few, none; exclusions; atoms that the model does not see; ties."""
    selection = Selection(RCUT, 0.0, 0.0, np.array(sel), np.array(fates), in_float32, n_nearest)
    for seed in range(3):
        c = crowd(seed, grid)
        neighbour_p, r_cp, first_tb, empty_tb, dropped = gathered(c, selection)
        chosen, expected_empty, expected_dropped = selected(c, selection)
        assert dropped == expected_dropped
        assert empty_tb.tolist() == expected_empty
        counts = [[len(of) for of in of_t] for of_t in chosen]
        ends = np.concatenate([[0], np.cumsum(counts)])
        n_b = len(c.members_b)
        np.testing.assert_array_equal(first_tb[:, :-1].ravel(), ends[:-1])
        np.testing.assert_array_equal(first_tb[:, -1], ends[n_b::n_b])
        assert len(neighbour_p) == ends[-1]
        for t, of_t in enumerate(chosen):
            for b, wanted in enumerate(of_t):
                found = slice(first_tb[t, b], first_tb[t, b + 1])
                assert sorted(neighbour_p[found].tolist()) == sorted(wanted)
                i = c.centres_n[c.members_b[b]]
                expected_cp = (c.positions_ac[neighbour_p[found]] - c.positions_ac[i]).T
                np.testing.assert_array_equal(r_cp[:, found], expected_cp)


def test_gather_without_neighbours() -> None:
    c = crowd(0, False)
    c.types_a[:] = -1
    selection = Selection(RCUT, 0.0, 0.0, np.array([2, 0, 3]), np.full(3, int(Fate.ROW)))
    neighbour_p, _, first_tb, empty_tb, dropped = gathered(c, selection)
    assert (len(neighbour_p), dropped) == (0, 0)
    assert not first_tb.any()
    assert (empty_tb == [[2], [0], [3]]).all()


def displacements(seed: int) -> np.ndarray:
    """(3, 101), at distances on both sides of the switch's start and of the cutoff, and on them."""
    rng = np.random.default_rng(seed)
    unit_pc = rng.normal(size=(101, 3))
    unit_pc /= np.linalg.norm(unit_pc, axis=1)[:, None]
    r_p = rng.uniform(0.2, 1.1 * RCUT, 101)
    unit_pc[:2] = np.eye(3)[:2]
    r_p[:2] = RCUT_SMTH, RCUT
    return np.ascontiguousarray((unit_pc * r_p[:, None]).T)


def exact_rows(r_cp, davg_k, dstd_k, protection):
    """Normalised rows, s and ds/dr."""
    r_p = np.linalg.norm(r_cp, axis=0)
    sw_p, dsw_p = switch(r_p, RCUT_SMTH, RCUT - RCUT_SMTH)
    q_p = r_p + (protection or 0.0)
    s_p = sw_p / q_p
    rows_kp = np.concatenate([s_p[None], s_p * r_cp / q_p])
    return (rows_kp - davg_k[:, None]) / dstd_k[:, None], s_p, (dsw_p - s_p) / q_p


def statistics(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(0.0, 0.3, 4), rng.uniform(0.2, 1.0, 4)


@pytest.mark.parametrize("protection", [None, 0.7])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_environment(dtype: str, protection: float | None) -> None:
    r_cp, (davg_k, dstd_k) = displacements(1), statistics(2)
    n = r_cp.shape[1] - 3  # what is behind the rows is left alone
    s_p, ds_p = np.full(n + 3, np.nan), np.full(n + 3, np.nan)
    rows_kp = np.full((4, n + 3), np.nan, dtype)
    switched = (RCUT_SMTH, RCUT - RCUT_SMTH, protection)
    rows.environment(r_cp, n, *switched, davg_k, dstd_k, s_p, ds_p, rows_kp)
    for array in (s_p, ds_p, rows_kp):
        assert np.isnan(array[..., n:]).all()
    exact_kp, exact_s_p, exact_ds_p = exact_rows(r_cp[:, :n], davg_k, dstd_k, protection)
    # s is up to 5, its slope up to 25; rows are computed in float64 and rounded once
    np.testing.assert_allclose(s_p[:n], exact_s_p, rtol=0, atol=ROUND_OFF)
    np.testing.assert_allclose(ds_p[:n], exact_ds_p, rtol=0, atol=10 * ROUND_OFF)
    rounding = np.finfo(dtype).eps / 2
    np.testing.assert_allclose(rows_kp[:, :n], exact_kp, rtol=rounding, atol=10 * ROUND_OFF)


@pytest.mark.parametrize("protection", [None, 0.7])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_pair_gradients(dtype: str, protection: float | None) -> None:
    """By differences of the plain formula: central ones, with one step of Richardson's."""
    r_cp, (davg_k, dstd_k) = displacements(3), statistics(4)
    # the switch has no third derivative at its ends: away from them
    r_p = np.linalg.norm(r_cp, axis=0)
    r_cp = np.ascontiguousarray(r_cp[:, (abs(r_p - RCUT_SMTH) > 0.01) & (abs(r_p - RCUT) > 0.01)])
    n = r_cp.shape[1]
    drows_kp = np.random.default_rng(5).normal(size=(4, n)).astype(dtype)
    _, s_p, ds_p = exact_rows(r_cp, davg_k, dstd_k, protection)
    g_cp = np.full((3, n + 1), np.nan)
    rows.pair_gradients(r_cp, n, dstd_k, protection, s_p, ds_p, drows_kp, g_cp)
    assert np.isnan(g_cp[:, n]).all()

    def energy_p(moved_cp):
        exact_kp = exact_rows(moved_cp, davg_k, dstd_k, protection)[0]
        return (exact_kp * drows_kp.astype(np.float64)).sum(axis=0)

    for c in range(3):
        slopes = []
        for step in (2e-3, 1e-3):
            move_c1 = np.zeros((3, 1))
            move_c1[c] = step
            slopes.append((energy_p(r_cp + move_c1) - energy_p(r_cp - move_c1)) / (2 * step))
        exact_p = (4 * slopes[1] - slopes[0]) / 3
        # the fifth derivative of 1/r at 0.2 Å is 10^6 times larger than 1/r itself: h^4 of it
        scale_p = 1.0 + np.linalg.norm(r_cp, axis=0) ** -6
        assert (np.abs(g_cp[c, :n] - exact_p) <= 1e-9 * scale_p).all()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_add_padding(dtype: str) -> None:
    """To some columns only, and nothing for a centre whose slots are full."""
    rng = np.random.default_rng(6)
    empty_b, start, width = np.array([9, 6, 0, 2, 0]), 5, 11
    padding_kq = rng.normal(size=(4, width)).astype(dtype)
    b_bkq = rng.normal(size=(5, 4, 21)).astype(dtype)
    expected = b_bkq.astype(np.float64)
    expected[:, :, start : start + width] += empty_b[:, None, None] * padding_kq.astype(np.float64)
    before = b_bkq.copy()
    rows.add_padding(empty_b, padding_kq, start, b_bkq)
    # a product of up to 9 x 4 and a sum: two roundings
    np.testing.assert_allclose(b_bkq, expected, rtol=0, atol=40 * np.finfo(dtype).eps)
    untouched = np.ones(21, bool)
    untouched[start : start + width] = False
    np.testing.assert_array_equal(b_bkq[:, :, untouched], before[:, :, untouched])
    np.testing.assert_array_equal(b_bkq[[2, 4]], before[[2, 4]])


def test_virial_of_rows() -> None:
    rng = np.random.default_rng(7)
    r_cp, g_cp = rng.normal(size=(2, 3, 50))
    g_cp[:, 40:] = np.nan  # behind the rows
    virial_cc = np.full((3, 3), np.nan)
    rows.virial_of_rows(r_cp, g_cp, 40, virial_cc)
    expected = -np.einsum("ap,bp->ab", g_cp[:, :40], r_cp[:, :40])
    np.testing.assert_allclose(virial_cc, expected, rtol=0, atol=2 * ROUND_OFF)


@pytest.mark.parametrize("per_atom", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_scatter(per_atom: bool, share: float) -> None:
    """Onto what is there already; an atom may be a neighbour several times."""
    rng = np.random.default_rng(8)
    n_all, n_types = 25, 2
    centres_n = rng.permutation(n_all)[:9].astype(np.int32)
    members_b = np.array([1, 2, 5, 8])
    first_tb = np.array([[0, 3, 3, 9, 14], [14, 15, 22, 22, 30]])
    neighbour_p = rng.integers(0, n_all, 33).astype(np.int32)
    r_cp, g_cp = rng.normal(size=(2, 3, 33))
    forces_ac = rng.normal(size=(n_all, 3))
    atom_virials_acc = rng.normal(size=(n_all if per_atom else 0, 3, 3))
    expected_f, expected_w = forces_ac.copy(), atom_virials_acc.copy()
    for t in range(n_types):
        for b, n in enumerate(members_b):
            of = slice(first_tb[t, b], first_tb[t, b + 1])
            expected_f[centres_n[n]] += g_cp[:, of].sum(axis=1)
            np.subtract.at(expected_f, neighbour_p[of], g_cp[:, of].T)
            if per_atom:
                outer = np.einsum("cp,dp->pcd", g_cp[:, of], r_cp[:, of])
                np.subtract.at(expected_w, neighbour_p[of], (1 - share) * outer)
                expected_w[centres_n[n]] -= share * outer.sum(axis=0)
    rows.scatter(
        r_cp, g_cp, neighbour_p, first_tb, centres_n, members_b, share, forces_ac, atom_virials_acc
    )
    np.testing.assert_allclose(forces_ac, expected_f, rtol=0, atol=ROUND_OFF)
    np.testing.assert_allclose(atom_virials_acc, expected_w, rtol=0, atol=ROUND_OFF)
