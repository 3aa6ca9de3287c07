"""Features and folded weights against the first layer on D itself."""

from __future__ import annotations

import numpy as np
import pytest

from lmp_dp.engine.lowering.reduction import reduce, unreduced


def test_features_and_folded_weights_give_the_first_layer(compressed) -> None:
    """z = D W directly, and by features S_ab and folded weights."""
    rng = np.random.default_rng(6)
    d = compressed["water"].descriptor
    basis = np.concatenate([d.nets.tables[n].basis_qm for n in d.nets.net_tt[0]])
    weight = rng.normal(size=(d.n_out, 7))
    reduction = reduce(basis, d.environment.n_norm, d.axis_neuron, weight)
    b_kq = rng.normal(size=(4, len(basis)))
    t_km = b_kq @ basis / d.environment.n_norm
    z = (t_km.T @ t_km[:, : d.axis_neuron]).ravel() @ weight
    c_kr = b_kq @ reduction.k_qr
    features = np.concatenate([(c_kr.T @ c_kr)[b, b:] for b in range(reduction.n_axis)])
    assert len(features) < 0.7 * d.n_out
    np.testing.assert_allclose(features @ reduction.weight_io, z, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize(("channels", "axis", "rank"), [(9, 4, 5), (9, 4, 2), (6, 6, 6), (1, 1, 1)])
def test_random_bases(channels: int, axis: int, rank: int) -> None:
    """More functions than the rank; fewer than `axis`; and none left out (`unreduced`)."""
    rng = np.random.default_rng(channels + rank)
    basis_qm = rng.normal(size=(rank + 3, rank)) @ rng.normal(size=(rank, channels))
    weight = rng.normal(size=(channels * axis, 5))
    b_kq = rng.normal(size=(4, rank + 3))
    t_km = b_kq @ basis_qm / 7
    z = (t_km.T @ t_km[:, :axis]).ravel() @ weight
    scale = np.abs(t_km).max() ** 2 * np.abs(weight).sum(axis=0).max()
    for reduction, b in (
        (reduce(basis_qm, 7, axis, weight), b_kq),
        (unreduced(channels, axis, weight), t_km),
    ):
        c_kr = b @ reduction.k_qr
        features = np.concatenate([(c_kr.T @ c_kr)[b:, b] for b in range(reduction.n_axis)])
        found = features @ reduction.weight_io
        np.testing.assert_allclose(found, z, rtol=0, atol=1e-13 * scale)
    assert reduce(basis_qm, 7, axis, weight).rank == rank
