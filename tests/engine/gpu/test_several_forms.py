"""Hybrid models on the emulated device: several forms per element, whose pair gradients add up."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from cuda_emulation.emulated_device import EmulatedDevice
from lmp_dp import Potential
from lmp_dp.engine import Outputs, periodic
from lmp_dp.engine.gpu import device as cuda_device
from lmp_dp.engine.gpu import engine as gpu
from lmp_dp.model import DeepPotential, Fitting, Network
from lmp_dp.model.descriptors.hybrid import Hybrid
from lmp_dp.tools.compress import compress
from small_model import dense, se_e2_a

N_TYPES = 2


def hybrid(tabulated: bool) -> DeepPotential:
    """Two se_e2_a of different cutoffs, slots and excluded pairs."""
    rng = np.random.default_rng(12)

    def part(rcut: float, sel: list[int], net_tt: np.ndarray, width: int):
        nets = [
            Network((dense(rng, 1, width), dense(rng, width, 2 * width, "double")))
            for _ in range(net_tt.max() + 1)
        ]
        return se_e2_a(
            rcut=rcut,
            rcut_smth=0.8,
            sel_t=np.array(sel),
            n_norm=sum(sel),
            davg_tk=np.array([[0.1, 0, 0, 0], [0.2, 0, 0, 0]], float),
            dstd_tk=np.full((N_TYPES, 4), 0.3),
            axis_neuron=2,
            net_tt=net_tt,
            embeddings=nets,
        )

    descriptor = Hybrid(
        (
            part(4.5, [12, 14], np.array([[0, 1], [2, -1]]), 4),
            part(3.2, [3, 9], np.array([[-1, 0], [1, 2]]), 3),
        )
    )
    n_d = descriptor.n_out
    nets = [
        Network(
            (dense(rng, n_d, 9), dense(rng, 9, 9, "add"), dense(rng, 9, 1, activation="linear"))
        )
        for _ in range(N_TYPES)
    ]
    model = DeepPotential(
        ("O", "H"), descriptor, Fitting(tuple(nets), np.array([-3.0, 1.5]), np.array([True, False]))
    )
    return compress(model, min_distance=0.9) if tabulated else model


@pytest.mark.parametrize("tabulated", [False, True])
def test_parts_add_up(tabulated: bool, monkeypatch) -> None:
    monkeypatch.setattr(cuda_device, "CudaDevice", lambda _index: EmulatedDevice())
    model = hybrid(tabulated)
    rng = np.random.default_rng(2)
    cell = np.diag([8.0, 8.5, 9.0])
    grid = np.stack(np.meshgrid(*[np.arange(4)] * 3), -1).reshape(-1, 3)
    positions = (grid + rng.uniform(-0.2, 0.2, grid.shape)) / 4 @ cell
    arguments = (positions, rng.integers(0, N_TYPES, len(positions)), cell)
    expected, *found = (
        Potential(model, backend=backend, sel="ignore", table="ignore").evaluate(*arguments)
        for backend in ("reference", "gpu", "cpu")
    )
    assert np.abs(expected.forces).max() > 0.1
    for result in found:
        for name in ("energy", "forces", "virial", "atom_energies", "atom_virials"):
            # sums of some 60 neighbours' terms of order 1 to 100
            np.testing.assert_allclose(
                getattr(result, name), getattr(expected, name), rtol=1e-11, atol=1e-10
            )


@pytest.mark.parametrize("tabulated", [False, True])
def test_recorded_steps_add_up(tabulated: bool) -> None:
    """From the second step on one list on."""
    model = hybrid(tabulated)
    engine = gpu.GpuEngine(model, EmulatedDevice())
    rng = np.random.default_rng(3)
    positions = rng.uniform(0.0, 8.0, (40, 3))
    nb = periodic.build(
        positions,
        (np.arange(40) % N_TYPES).astype(np.int32),
        np.full(3, 8.0) * np.eye(3),
        4.5 + 1.0,
        lists=False,
    ).neighbourhood
    nb.skin, nb.build = 1.0, 1
    for _ in range(3):
        shift_ac = rng.uniform(-0.2, 0.2, nb.positions_ac.shape)
        moved = dataclasses.replace(nb, positions_ac=nb.positions_ac + shift_ac)
        result = engine.compute(moved, Outputs())
        alone = gpu.GpuEngine(model, EmulatedDevice()).compute(
            dataclasses.replace(moved, build=0), Outputs()
        )
        assert result.warning == ""
        np.testing.assert_allclose(result.forces_ac, alone.forces_ac, rtol=1e-11, atol=1e-10)
        assert result.energy == pytest.approx(alone.energy, rel=1e-13)
    assert engine.device.recordings == 1
