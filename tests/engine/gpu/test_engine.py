"""The gpu backend: its kernels and host code, run by the emulation of `cuda_emulation` in CI.

Some run once more on a device, marked gpu. (See `test_agreement` for recorded values.)
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from cuda_emulation.emulated_device import EmulatedDevice
from lmp_dp import Potential
from lmp_dp.engine import Neighbourhood, Outputs, periodic
from lmp_dp.engine.gpu import device as cuda_device
from lmp_dp.engine.gpu import engine as gpu
from lmp_dp.engine.gpu.moment import MomentStage
from lmp_dp.errors import BackendError
from lmp_dp.model import load

EVERYTHING = Outputs(virial=True, atom_energies=True, atom_virials=True)


@pytest.fixture
def emulated(monkeypatch: pytest.MonkeyPatch) -> list[EmulatedDevice]:
    """Backend gpu runs on emulated devices; those made so far."""
    made: list[EmulatedDevice] = []

    def make(_index: int) -> EmulatedDevice:
        made.append(EmulatedDevice())
        return made[-1]

    monkeypatch.setattr(cuda_device, "CudaDevice", make)
    return made


def water_box(n_cells: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions, types and cell of a disordered box with two elements."""
    rng = np.random.default_rng(5)
    side = 2.1 * 3
    grid = np.stack(np.meshgrid(*[np.arange(3 * n_cells)] * 3, indexing="ij"), -1).reshape(-1, 3)
    positions = grid * 2.1 + rng.uniform(-0.3, 0.3, grid.shape)
    return positions, rng.integers(0, 2, len(grid)).astype(np.int32), np.eye(3) * side * n_cells


def neighbourhood(positions, types, cell, rcut: float, skin: float) -> Neighbourhood:
    nb = periodic.build(positions, types, cell, rcut + skin, lists=False).neighbourhood
    nb.skin = skin
    return nb


def equal(one, two) -> bool:
    return one.energy == two.energy and all(
        np.array_equal(getattr(one, name), getattr(two, name))
        for name in ("forces_ac", "virial_cc", "atom_energies_a", "atom_virials_acc")
    )


def test_the_same_bits_in_any_order_of_threads(water_model) -> None:
    model = load(water_model)
    results = []
    for seed in (None, 1, 2):
        engine = gpu.GpuEngine(model, EmulatedDevice(seed=seed))
        nb = neighbourhood(*water_box(), model.rcut, 0.5)
        results.append(engine.compute(nb, EVERYTHING))
    assert equal(results[0], results[1])
    assert equal(results[0], results[2])


def test_lists_serve_until_the_next_build(water_model) -> None:
    model = load(water_model)
    engine = gpu.GpuEngine(model, EmulatedDevice())
    nb = neighbourhood(*water_box(), model.rcut, 1.0)
    nb.build = 1
    engine.compute(nb, EVERYTHING)
    launches = engine.device.launches
    builds = launches["fill_neighbours"]
    # all atoms move by less than half of the skin
    rng = np.random.default_rng(6)
    moved = dataclasses.replace(
        nb, positions_ac=nb.positions_ac + rng.uniform(-0.25, 0.25, nb.positions_ac.shape)
    )
    kept = engine.compute(moved, EVERYTHING)
    assert launches["fill_neighbours"] == builds
    fresh = engine.compute(dataclasses.replace(moved, build=2), EVERYTHING)
    assert launches["fill_neighbours"] > builds
    np.testing.assert_allclose(kept.forces_ac, fresh.forces_ac, rtol=0, atol=1e-12)
    assert kept.energy == pytest.approx(fresh.energy, rel=1e-14)


@pytest.mark.parametrize("with_tables", [False, True])
def test_recorded_steps_follow_the_atoms(with_tables, water_model, compressed) -> None:
    model = compressed["water"] if with_tables else load(water_model)
    engine = gpu.GpuEngine(model, EmulatedDevice())
    nb = neighbourhood(*water_box(), model.rcut, 1.0)
    rng = np.random.default_rng(7)
    for build, recordings in ((1, 0), (1, 1), (1, 1), (2, 1), (2, 2)):
        moved = dataclasses.replace(
            nb,
            positions_ac=nb.positions_ac + rng.uniform(-0.2, 0.2, nb.positions_ac.shape),
            build=build,
        )
        result = engine.compute(moved, EVERYTHING)
        assert engine.device.recordings == recordings
        assert result.warning == ""
        alone = gpu.GpuEngine(model, EmulatedDevice()).compute(
            dataclasses.replace(moved, build=0), EVERYTHING
        )
        # other lists, so another order of sums
        np.testing.assert_allclose(result.forces_ac, alone.forces_ac, rtol=0, atol=1e-12)
        assert result.energy == pytest.approx(alone.energy, rel=1e-14)


@pytest.mark.parametrize("with_tables", [False, True])
def test_a_recording_that_is_refused(
    with_tables, water_model, compressed, emulated, monkeypatch
) -> None:
    """Steps go on unrecorded, it is said once and not tried again."""
    monkeypatch.setattr(MomentStage, "_cast", lambda _, array, dtype, __: array.astype(dtype))
    model = compressed["water"] if with_tables else load(water_model)
    potential = Potential(model, backend="gpu", sel="ignore", table="ignore")
    warnings: list[str] = []
    potential.on_warning = warnings.append
    nb = neighbourhood(*water_box(), model.rcut, 1.0)
    rng = np.random.default_rng(7)
    for build in (1, 1, 1, 2, 2):
        moved = dataclasses.replace(
            nb,
            positions_ac=nb.positions_ac + rng.uniform(-0.2, 0.2, nb.positions_ac.shape),
            build=build,
        )
        result = potential.compute(moved, EVERYTHING)
        alone = gpu.GpuEngine(model, EmulatedDevice()).compute(
            dataclasses.replace(moved, build=0), EVERYTHING
        )
        np.testing.assert_allclose(result.forces_ac, alone.forces_ac, rtol=0, atol=1e-12)
        assert result.energy == pytest.approx(alone.energy, rel=1e-14)
    (warning,) = warnings
    assert warning.startswith("steps are not recorded in a CUDA graph")
    assert "bytes are allocated while a stream is captured" in warning
    assert emulated[0].recordings == 1


@pytest.mark.parametrize("with_tables", [False, True])
def test_the_same_bits_on_every_step(with_tables, water_model, compressed, gpu_device) -> None:
    """Whether a step is launched kernel by kernel, is recorded, or is a recording."""
    model = compressed["water"] if with_tables else load(water_model)
    nb = neighbourhood(*water_box(), model.rcut, 1.0)
    nb.build = 1
    results = []
    for _ in range(2):
        device, recorded = gpu_device(), []
        record = device.record
        device.record = lambda work, record=record, to=recorded: to.append(record(work)) or to[0]
        engine = gpu.GpuEngine(model, device)
        results += [engine.compute(nb, EVERYTHING) for _ in range(3)]
        assert len(recorded) == 1
    assert all(equal(results[0], result) for result in results[1:])


@pytest.mark.parametrize("with_tables", [False, True])
def test_chunks_change_nothing(with_tables, water_model, compressed, monkeypatch) -> None:
    model = compressed["water"] if with_tables else load(water_model)
    nb = neighbourhood(*water_box(), model.rcut, 0.5)
    whole = gpu.GpuEngine(model, EmulatedDevice()).compute(nb, EVERYTHING)
    device = EmulatedDevice()
    monkeypatch.setattr(gpu, "CHUNK_BYTES", 2**19)
    parts = gpu.GpuEngine(model, device).compute(nb, EVERYTHING)
    assert device.launches["environment"] > 2
    # BLAS may sum in another order for other numbers of rows: round-off of energies of 500 eV
    np.testing.assert_allclose(parts.forces_ac, whole.forces_ac, rtol=0, atol=1e-12)
    np.testing.assert_allclose(parts.atom_virials_acc, whole.atom_virials_acc, rtol=0, atol=1e-12)
    assert parts.energy == pytest.approx(whole.energy, rel=1e-14)


def test_a_step_takes_few_launches(compressed) -> None:
    model = compressed["cu"]
    device = EmulatedDevice()
    engine = gpu.GpuEngine(model, device)
    nb = neighbourhood(*water_box()[:1], np.zeros(27, np.int32), water_box()[2], 6.0, 0.5)
    nb.build = 1
    engine.compute(nb, Outputs())
    engine.compute(nb, Outputs())  # recorded
    before = device.launches.total()
    engine.compute(nb, Outputs())
    hidden_layers = len(model.fitting.nets[0].layers) - 1
    # environment, moment, features, their way back, forces, sums; two per hidden layer
    assert device.launches.total() - before == 8 + 2 * hidden_layers - 1  # the last one has one


@pytest.mark.parametrize("positions", [np.zeros((0, 3)), np.array([[1.0, 2.0, 3.0]])])
def test_no_or_one_atom(water_model, positions, gpu_device) -> None:
    types = np.zeros(len(positions), np.int32)
    ours, reference = (
        Potential(water_model, backend=b).evaluate(positions, types) for b in ("gpu", "reference")
    )
    assert ours.energy == pytest.approx(reference.energy, rel=1e-14)
    assert not ours.forces.any()


def test_atoms_that_the_model_does_not_see(water_model, gpu_device) -> None:
    positions, types, cell = water_box()
    types[::5] = -1
    ours, reference = (
        Potential(water_model, backend=b).evaluate(positions, types, cell)
        for b in ("gpu", "reference")
    )
    np.testing.assert_allclose(ours.forces, reference.forces, rtol=0, atol=1e-9)
    assert not ours.forces[::5].any()


def test_pairs_without_positions_are_refused(water_model, gpu_device) -> None:
    potential = Potential(water_model, backend="gpu")
    with pytest.raises(BackendError, match="backend gpu takes positions, not pairs"):
        potential.pair_gradients(np.ones((1, 3)), np.array([0]), np.array([0]), np.array([1]))


def test_sparse_atoms_far_apart(water_model, gpu_device) -> None:
    positions = np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1e5, 1e5, -1e5], [1e5, 1e5 + 1, -1e5]])
    ours, reference = (
        Potential(water_model, backend=b).evaluate(positions, ["O", "H", "O", "H"])
        for b in ("gpu", "reference")
    )
    np.testing.assert_allclose(ours.forces, reference.forces, rtol=0, atol=1e-9)


def test_without_cupy_it_says_so(water_model, monkeypatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(BackendError, match=r"backend gpu needs CuPy .*pip install"):
        Potential(water_model, backend="gpu")
