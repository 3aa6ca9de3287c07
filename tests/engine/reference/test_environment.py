"""Selection and environment of the reference, against the rule pair by pair and differences."""

from __future__ import annotations

import numpy as np
import pytest

from lmp_dp.engine.reference import environment as stage
from lmp_dp.model import Environment

RCUT = 3.0


def environment(sel: tuple[int, ...], excluded_tt: np.ndarray) -> Environment:
    n_types = len(sel)
    return Environment(
        rules="TF",
        rcut=RCUT,
        rcut_smth=0.5,
        sel_t=np.array(sel),
        n_norm=10,
        davg_tk=np.zeros((n_types, 4)),
        dstd_tk=np.ones((n_types, 4)),
        excluded_tt=excluded_tt,
    )


def lists(positions_ac: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Everything nearer than 1.3 cutoffs, in no order: offsets and neighbours."""
    found = []
    for position_c in positions_ac:
        distance_a = np.linalg.norm(positions_ac - position_c, axis=1)
        found.append(rng.permutation(np.flatnonzero((distance_a > 0) & (distance_a < 1.3 * RCUT))))
    return np.concatenate([[0], np.cumsum([len(of) for of in found])]), np.concatenate(found)


@pytest.mark.parametrize("grid", [False, True], ids=["random", "ties"])
@pytest.mark.parametrize("sel", [(60, 60, 60), (3, 0, 2), (0, 0, 1)])
def test_select_neighbours(sel: tuple[int, ...], grid: bool) -> None:
    """The nearest in float32 of each element, then those of lower index; in this order."""
    rng = np.random.default_rng(sum(sel))
    positions_ac = rng.uniform(0.0, 6.0, (60, 3))
    if grid:
        places = np.stack(np.meshgrid(*[np.arange(4)] * 3, indexing="ij"), -1).reshape(-1, 3)
        positions_ac = 1.5 * places[rng.permutation(64)[:60]].astype(float)
    types_a = rng.integers(-1, 3, 60)
    excluded_tt = np.array([[False, True, False], [True, False, False], [False, False, True]])
    offsets_n, neighbours_p = lists(positions_ac, rng)
    slots_ns, dropped = stage.select_neighbours(
        positions_ac, types_a, np.arange(60), offsets_n, neighbours_p, environment(sel, excluded_tt)
    )
    expected_dropped = 0
    for i in range(60):
        expected: list[int] = []
        for t in range(3):
            keys = []
            for j in neighbours_p[offsets_n[i] : offsets_n[i + 1]].tolist():
                r2 = np.float32(((positions_ac[j] - positions_ac[i]) ** 2).sum())
                sees = types_a[i] >= 0 and types_a[j] == t and not excluded_tt[types_a[i], t]
                if sees and r2 <= np.float32(RCUT**2):
                    keys.append((r2, j))
            kept = [j for _, j in sorted(keys)[: sel[t]]]
            expected += kept + [-1] * (sel[t] - len(kept))
            expected_dropped += len(keys) - len(kept)
        assert slots_ns[i].tolist() == expected
    assert dropped == expected_dropped


def test_rows_and_slopes() -> None:
    """Of an empty slot and of one beyond the cutoff they are zero; else as differences say."""
    rng = np.random.default_rng(3)
    positions_ac = np.concatenate([np.zeros((1, 3)), rng.uniform(0.4, 1.6, (9, 3))])
    positions_ac[9] = RCUT, 0.1, 0.0
    slots_ns = np.array([[1, 2, 3, 4, 5, 6, 7, 8, 9, -1]])
    of = environment((10,), np.zeros((1, 1), bool))
    r_nsc, rows_nsk, slopes_nskc = stage.forward(positions_ac, np.array([0]), slots_ns, of)
    np.testing.assert_array_equal(r_nsc[0, :9], positions_ac[1:])
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
