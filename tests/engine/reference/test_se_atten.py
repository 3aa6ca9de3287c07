"""se_atten against DeePMD-kit's NumPy implementation and finite differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dpa1 import converted, random_dpa1
from lmp_dp.engine.reference import environment
from lmp_dp.engine.reference.registry import Rows
from lmp_dp.engine.reference.se_atten import evaluate
from lmp_dp.model.descriptors.se_atten import SeAtten

MODELS: dict[str, dict[str, Any]] = {
    "concat": dict(ntypes=3, attn_layer=0, resnet_dt=True),
    "one side": dict(ntypes=5, attn_layer=0, type_one_side=True, exclude_types=[(0, 1), (2, 2)]),
    "width kept": dict(ntypes=2, attn_layer=0, tebd_dim=3, neuron=[7, 7],
                       activation_function="silu"),
    "strip": dict(ntypes=3, attn_layer=0, tebd_input_mode="strip", smooth_type_embedding=False),
    "strip smooth": dict(ntypes=5, attn_layer=0, tebd_input_mode="strip", davg=1.0,
                         exclude_types=[(0, 1)], env_protection=0.1),
    "strip one side": dict(ntypes=3, attn_layer=0, tebd_input_mode="strip", type_one_side=True),
    "attention": dict(ntypes=3, attn_layer=2, attn=5, smooth_type_embedding=False,
                      exclude_types=[(0, 1)]),
    "attention smooth": dict(ntypes=3, attn_layer=3, attn=5, exclude_types=[(1, 1)]),
    "temperature": dict(ntypes=2, attn_layer=1, attn=5, temperature=0.7, attn_dotr=False),
    "scaling factor": dict(ntypes=2, attn_layer=1, attn=5, scaling_factor=3.0, normalize=False,
                           ln_eps=1e-2),
    "strip attention": dict(ntypes=3, attn_layer=2, attn=5, tebd_input_mode="strip", davg=1.0),
    "one element": dict(ntypes=1, attn_layer=1, attn=5, davg=1.0, smooth_type_embedding=False),
}  # fmt: skip


class Frame:
    """Atoms in a cell that is smaller than the cutoff, as DeePMD-kit has them."""

    def __init__(self, made: Any, seed: int) -> None:
        from deepmd.dpmodel.utils import build_neighbor_list, extend_coord_with_ghosts

        rng, block = np.random.default_rng(seed), made.se_atten
        self.types_a = rng.permutation(np.arange(9) % block.ntypes)
        cell = np.diag([5.0, 5.5, 8.0]) + np.tril(rng.uniform(-1.0, 1.0, (3, 3)), -1)
        grid = np.array([[x, y, z] for x in range(2) for y in range(2) for z in range(3)])[:9]
        positions = (grid / [2, 2, 3] + rng.uniform(-0.1, 0.1, (9, 3))) @ cell
        coords, types, _ = extend_coord_with_ghosts(
            positions.reshape(1, -1), self.types_a[None], cell.reshape(1, -1), block.rcut
        )
        self.slots_ns = build_neighbor_list(
            coords, types, 9, block.rcut, [block.nnei], distinguish_types=False
        )[0]
        self.coords, self.types = coords, types


def rows_of(of: SeAtten, frame: Frame, coords: np.ndarray, t: int) -> Rows:
    """Of centres of element `t`."""
    centre_n = np.flatnonzero(frame.types_a == t)
    slots_ns = frame.slots_ns[centre_n]
    excluded_tt = of.environment.excluded_tt
    hidden_ns = (slots_ns >= 0) & excluded_tt[t][frame.types[0][slots_ns]]
    return environment.rows(
        of.environment, of.dtype, t, coords.reshape(-1, 3), frame.types[0], centre_n,
        environment.Slots(slots_ns, hidden_ns),
    )  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_the_descriptor_is_that_of_deepmd_kit(name: str) -> None:
    made = random_dpa1(3, **MODELS[name])
    frame, of = Frame(made, 4), converted(made)
    expected_nd = made.call(frame.coords, frame.types, frame.slots_ns[None])[0]
    expected_nd = expected_nd[0, :, : of.n_out]
    for t in range(of.environment.n_types):
        found_nd = evaluate(of, t, rows_of(of, frame, frame.coords, t)).d_nd
        of_element_nd = expected_nd[frame.types_a == t]
        # sums of some 30 terms of the order of the largest
        tolerance = 1e-13 * np.abs(of_element_nd).max(initial=0.0)
        np.testing.assert_allclose(found_nd, of_element_nd, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", MODELS)
def test_the_way_back_is_the_derivative(name: str) -> None:
    made = random_dpa1(5, **MODELS[name])
    frame, of = Frame(made, 6), converted(made)
    t = int(frame.types_a[0])
    weight_nd = np.random.default_rng(7).normal(size=((frame.types_a == t).sum(), of.n_out))

    def value(coords: np.ndarray) -> float:
        return float((evaluate(of, t, rows_of(of, frame, coords, t)).d_nd * weight_nd).sum())

    rows = rows_of(of, frame, frame.coords, t)
    drows_nsk, dr_nsc = evaluate(of, t, rows).backward(weight_nd)
    g_nsc = environment.backward(drows_nsk / of.environment.dstd_tk[t], rows.slopes_nskc) + dr_nsc
    expected_ac = np.zeros((frame.coords.size // 3, 3))
    np.add.at(expected_ac, rows.slots_ns[rows.filled_ns], g_nsc[rows.filled_ns])
    np.add.at(expected_ac, np.flatnonzero(frame.types_a == t), -g_nsc.sum(axis=1))

    step, atoms = 1e-4, [0, 3, int(rows.slots_ns[0, 5]), int(rows.slots_ns[0, 0])]
    for a in atoms:
        for c in range(3):
            values = []
            for offset in (-2, -1, 1, 2):
                moved = frame.coords.copy()
                moved[0, 3 * a + c] += offset * step
                values.append(value(moved))
            # error of order step^4, and rounding of sums over step
            slope = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * step)
            scale = np.abs(expected_ac).max()
            assert expected_ac[a, c] == pytest.approx(slope, rel=0, abs=1e-8 * scale)
