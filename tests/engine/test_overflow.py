"""Neighbours without a slot (`sel`): every backend counts the same ones."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from cuda_emulation.emulated_device import EmulatedDevice
from lmp_dp import Potential
from lmp_dp.engine.gpu import device as cuda_device
from lmp_dp.errors import RangeError
from lmp_dp.model import DeepPotential, Fitting, Layer, Network
from lmp_dp.tools.compress import compress
from small_model import se_e2_a

RCUT = 3.0
#: sel of three elements: too small, none at all, and enough for all that are excluded.
SEL = np.array([4, 0, 2])


def model(excluded: tuple[tuple[int, int], ...], seed: int) -> DeepPotential:
    """Random nets for three elements of which the pairs `excluded` do not see each other."""
    rng = np.random.default_rng(seed)
    net_tt = np.arange(9).reshape(3, 3)
    for i, j in excluded:
        net_tt[i, j] = net_tt[j, i] = -1
    used = np.unique(net_tt[net_tt >= 0])
    numbers = {int(n): k for k, n in enumerate(used)} | {-1: -1}
    net_tt = np.array([[numbers[int(n)] for n in row] for row in net_tt])

    def layer(n_in: int, n_out: int, activation: str = "tanh") -> Layer:
        weight_io, bias_o = rng.normal(size=(n_in, n_out)), rng.normal(size=n_out)
        return Layer(weight_io, bias_o, None, activation, "replace")

    return DeepPotential(
        ("O", "H", "C"),
        se_e2_a(
            rcut=RCUT,
            rcut_smth=0.5,
            sel_t=SEL,
            n_norm=6,
            axis_neuron=2,
            davg_tk=np.tile([0.1, 0.0, 0.0, 0.0], (3, 1)),
            dstd_tk=np.full((3, 4), 0.3),
            net_tt=net_tt,
            embeddings=(Network((layer(1, 4),)) for _ in used),
        ),
        Fitting(
            tuple(Network((layer(8, 5), layer(5, 1, "linear"))) for _ in range(3)),
            np.zeros(3),
            np.zeros(3, bool),
        ),
    )


def crowd(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions, types (some -1) and an orthogonal cell shorter than two cutoffs."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(3)] * 3, indexing="ij"), -1).reshape(-1, 3)
    positions = grid * 1.5 + rng.uniform(-0.3, 0.3, grid.shape)
    return positions, rng.integers(-1, 3, len(grid)).astype(np.int32), np.full(3, 4.5)


def brute_force(excluded, positions, types, cell) -> int:
    """Neighbours beyond `sel`, by summing over all images."""
    shifts = np.array(list(itertools.product((-1, 0, 1), repeat=3))) * cell
    dropped = 0
    for i, j in itertools.product(range(3), repeat=2):
        if (i, j) in excluded or (j, i) in excluded:
            continue
        for x in positions[types == i]:
            r = positions[types == j][:, None] + shifts - x
            r2 = (r**2).sum(axis=2)
            found = ((r2 <= RCUT**2) & (r2 > 1e-12)).sum()
            dropped += max(0, found - SEL[j])
    return int(dropped)


@pytest.mark.parametrize("tabulated", [False, True])
@pytest.mark.parametrize("excluded", [(), ((0, 2),), ((0, 1),), ((0, 0), (1, 2)), ((2, 2), (0, 1))])
def test_backends_drop_the_same_neighbours(excluded, tabulated, monkeypatch) -> None:
    monkeypatch.setattr(cuda_device, "CudaDevice", lambda _index: EmulatedDevice())
    m, frame = model(excluded, seed=1), crowd(seed=1)
    if tabulated:
        m = compress(m, min_distance=0.5)
    expected = brute_force(excluded, *frame)
    assert expected > 0
    results = []
    for backend in ("reference", "cpu", "gpu"):
        potential = Potential(m, backend=backend, sel="ignore", table="ignore", threads=1)
        results.append(potential.evaluate(*frame))
        assert potential.watch.totals["sel"] == expected, backend
        strict = Potential(m, backend=backend, sel="error", table="ignore", threads=1)
        with pytest.raises(RangeError, match=f"{expected} neighbours within the cutoff exceed"):
            strict.evaluate(*frame)
    for other in results[1:]:
        # sums of some hundred terms in another order
        scale = abs(results[0].forces).max()
        np.testing.assert_allclose(other.forces, results[0].forces, rtol=0, atol=1e-12 * scale)
