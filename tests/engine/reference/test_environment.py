"""Selection and environment of the reference, against the rule pair by pair and differences."""

from __future__ import annotations

import numpy as np
import pytest

from lmp_dp.engine.reference import environment as stage
from lmp_dp.engine.switch import switch
from lmp_dp.model import Environment
from lmp_dp.model.descriptors.environment import Rules

RCUT = 3.0


def environment(sel: tuple[int, ...], n_types: int, **of) -> Environment:
    return Environment(
        rcut=RCUT,
        sel_t=np.array(sel),
        n_norm=10,
        davg_tk=np.zeros((n_types, 4)),
        dstd_tk=np.ones((n_types, 4)),
        **{
            "rules": "TF",
            "rcut_smth": 0.5,
            "excluded_tt": np.zeros((n_types, n_types), bool),
            **of,
        },
    )


def lists(positions_ac: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Everything nearer than 1.3 cutoffs, in no order: offsets and neighbours."""
    found = []
    for position_c in positions_ac:
        distance_a = np.linalg.norm(positions_ac - position_c, axis=1)
        found.append(rng.permutation(np.flatnonzero((distance_a > 0) & (distance_a < 1.3 * RCUT))))
    return np.concatenate([[0], np.cumsum([len(of) for of in found])]), np.concatenate(found)


@pytest.mark.parametrize("grid", [False, True], ids=["random", "ties"])
@pytest.mark.parametrize(
    ("sel", "rules", "n_nearest"),
    [
        ((60, 60, 60), "TF", None),
        ((3, 0, 2), "TF", None),
        ((0, 0, 1), "TF", None),
        ((60,), "TF", None),
        ((7,), "TF", None),
        ((60, 60, 60), "DP", None),
        ((3, 1, 2), "DP", None),
        ((3, 1, 2), "DP", 9),
        ((60,), "DP", None),
        ((7,), "DP", 8),
    ],
)
@pytest.mark.parametrize("unseen", [False, True])
def test_select_neighbours(
    sel: tuple[int, ...], rules: Rules, n_nearest: int | None, unseen: bool, grid: bool
) -> None:
    """The nearest (TF: in float32) of all elements, of each, then those of lower index."""
    rng = np.random.default_rng(sum(sel))
    positions_ac = rng.uniform(0.0, 6.0, (60, 3))
    if grid:
        places = np.stack(np.meshgrid(*[np.arange(4)] * 3, indexing="ij"), -1).reshape(-1, 3)
        positions_ac = 1.5 * places[rng.permutation(64)[:60]].astype(float)
    types_a = rng.integers(-1, 3, 60)
    excluded_tt = np.array([[False, True, False], [True, False, False], [False, False, True]])
    unseen_tt = np.array([[True, False, False], [False, False, True], [False, True, True]])
    of = environment(
        sel,
        3,
        rules=rules,
        excluded_tt=excluded_tt,
        unseen_tt=unseen_tt if unseen else None,
        n_nearest=n_nearest,
    )
    out_tt = unseen_tt & unseen
    one_block, real = len(sel) == 1, np.float32 if rules == "TF" else np.float64
    offsets_n, neighbours_p = lists(positions_ac, rng)
    found = stage.select_neighbours(
        positions_ac, types_a, np.arange(60), offsets_n, neighbours_p, of
    )
    expected_dropped = 0
    for i in range(60):
        keys = []
        for j in neighbours_p[offsets_n[i] : offsets_n[i + 1]].tolist():
            r2 = real(((positions_ac[j] - positions_ac[i]) ** 2).sum())
            takes = types_a[i] >= 0 and types_a[j] >= 0
            if rules == "TF" and not one_block:
                takes &= not excluded_tt[types_a[i], types_a[j]]
            if takes and r2 <= real(RCUT**2):
                keys.append((r2, j))
        in_order = [j for _, j in sorted(keys)]
        kept = in_order[: n_nearest or sum(sel)] if rules == "DP" else in_order
        blocks = [kept] if one_block else [[j for j in kept if types_a[j] == t] for t in range(3)]
        expected, hidden, seated = [], [], []
        for block, slots in zip(blocks, sel, strict=True):
            seated += block[:slots]
            of_i = [(types_a[i], types_a[j]) for j in block[:slots]]
            empty = slots - len(of_i)
            expected += [
                -1 if out_tt[pair] else j for j, pair in zip(block, of_i, strict=False)
            ] + [-1] * empty
            hidden += [excluded_tt[pair] and not out_tt[pair] for pair in of_i] + [False] * empty
        assert found.neighbour_ns[i].tolist() == expected
        assert found.hidden_ns[i].tolist() == hidden
        for j in set(in_order) - set(seated):
            pair = types_a[i], types_a[j]
            expected_dropped += not (excluded_tt[pair] or out_tt[pair])
    assert found.dropped == expected_dropped


def test_widths() -> None:
    """The TF family subtracts in float32."""
    assert environment((1,), 1, rcut_smth=0.3).switch_width == float(
        np.float32(3.0) - np.float32(0.3)
    )
    assert environment((1,), 1, rcut_smth=0.3, rules="DP").switch_width == 3.0 - 0.3


@pytest.mark.parametrize("protection", [0.0, 0.4])
def test_rows_and_slopes(protection: float) -> None:
    """Of an empty slot and of one beyond the cutoff they are zero; else as differences say."""
    rng = np.random.default_rng(3)
    positions_ac = np.concatenate([np.zeros((1, 3)), rng.uniform(0.4, 1.6, (9, 3))])
    positions_ac[9] = RCUT, 0.1, 0.0
    slots_ns = np.array([[1, 2, 3, 4, 5, 6, 7, 8, 9, -1]])
    of = environment((10,), 1, protection=protection)
    r_nsc, rows_nsk, slopes_nskc = stage.forward(positions_ac, np.array([0]), slots_ns, of)
    np.testing.assert_array_equal(r_nsc[0, :9], positions_ac[1:])
    r_s = np.linalg.norm(positions_ac[1:9], axis=1)
    s_s = switch(r_s, 0.5, 2.5)[0] / (r_s + protection)
    np.testing.assert_allclose(rows_nsk[0, :8, 0], s_s, rtol=1e-15)
    vectors_sc = positions_ac[1:9] * (s_s / (r_s + protection))[:, None]
    np.testing.assert_allclose(rows_nsk[0, :8, 1:], vectors_sc, rtol=1e-14)
    for empty in (rows_nsk[0, 8:], slopes_nskc[0, 8:], r_nsc[0, 9]):
        assert not empty.any()
    step = 1e-5
    for c in range(3):
        moved = [positions_ac.copy() for _ in range(2)]
        moved[0][1:, c] += step
        moved[1][1:, c] -= step
        above, below = (stage.forward(x, np.array([0]), slots_ns, of)[1] for x in moved)
        slope_sk = (above - below)[0, :8] / (2 * step)
        # third derivatives of 1/r up to 6 / 0.7^4, times h^2/6; and eps/h
        np.testing.assert_allclose(slopes_nskc[0, :8, :, c], slope_sk, rtol=0, atol=1e-8)
    drows_nsk = rng.normal(size=rows_nsk.shape)
    expected = np.einsum("nsk,nskc->nsc", drows_nsk, slopes_nskc)
    np.testing.assert_allclose(stage.backward(drows_nsk, slopes_nskc), expected, atol=1e-14)
