"""The gpu backend: its kernels and host code, run by the emulation of `cuda_emulation` in CI.

The tests marked gpu do the same on a device.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from conftest import RECORDED, TRAINED, Frame, recorded_frames
from cuda_emulation.emulated_device import EmulatedDevice, LimitedNumpy
from lmp_dp import Potential
from lmp_dp.engine import Neighbourhood, Outputs, periodic
from lmp_dp.engine.gpu import device as cuda_device
from lmp_dp.engine.gpu import engine as gpu
from lmp_dp.errors import BackendError
from lmp_dp.model import load
from parity import deviations, tolerances

#: How the names of models begin that this backend does not evaluate, and what it says of them.
REFUSED = {
    "atten_exclude": "form Attention",
    "atten_float32": "form Attention",
    "atten_overflow": "form Attention",
    "atten_smooth": "form Attention",
    "atten_two_layers": "form Attention",
    "atten_v2_layers": "form Attention",
    "hybrid_atten": "form Attention and Radial",
    "cu_compressed_hybrid": "form Angular and Radial",
    "oh_compressed_r": "form Radial",
    "srtab_hybrid": "form Radial",
    "srtab": "pair table",
    "e3": "form Angular",
    "er": "form Radial",
    "hybrid_e3": "form Angular",
    "lf": "loc_frame",
    "hybrid": "form Radial",
}
EVALUATED = [name for name in RECORDED if not name.startswith(tuple(REFUSED))]
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


@pytest.fixture
def device() -> None:
    pytest.importorskip("cupy", reason="CuPy is not installed")
    if cuda_device.device_count() == 0:
        pytest.skip("there is no CUDA device")


def check_recorded(path, name: str) -> None:
    potential = Potential(path, backend="gpu", sel="ignore")
    allowed = tolerances(name, potential.precision)
    for frame in recorded_frames(name):
        found = deviations(potential, frame)
        assert all(found[key] <= allowed[key] for key in allowed), (frame.name, found)


@pytest.mark.parametrize("name", EVALUATED)
def test_agrees_with_recorded_values(name: str, converted, emulated) -> None:
    check_recorded(converted(name), name)


@pytest.mark.parametrize("name", [name for name in RECORDED if name not in EVALUATED])
def test_refuses_by_name(name: str, converted, emulated) -> None:
    reason = next(words for start, words in REFUSED.items() if name.startswith(start))
    with pytest.raises(BackendError, match=reason):
        Potential(converted(name), backend="gpu")


@pytest.mark.gpu
@pytest.mark.parametrize("name", EVALUATED)
def test_agrees_with_recorded_values_on_a_device(name: str, converted, device) -> None:
    check_recorded(converted(name), name)


def check_compressed(model, name: str, precision: str) -> None:
    ours, reference = (
        Potential(model, backend=b, precision=precision, table="ignore")
        for b in ("gpu", "reference")
    )
    for frame in recorded_frames(name):
        expected = reference.evaluate(frame.positions, frame.types, frame.cell)
        found = deviations(
            ours,
            Frame(
                frame.name,
                frame.positions,
                frame.cell,
                frame.types,
                expected.energy,
                expected.forces,
                expected.virial,
                expected.atom_energies,
                expected.atom_virials,
            ),
        )
        allowed = tolerances(name, precision)
        if precision == "float32":
            # sums of a hundred rounded terms, 6e-8 each; pair gradients are then off by 1e-6,
            # at up to 6 Å and for a hundred pairs per atom
            size = 1e-5 * np.abs(expected.atom_energies).max()
            forces = 1e-5 * np.linalg.norm(expected.forces) + 1e-6
            allowed = {"energy": size, "atom_energies": size, "forces": forces, "virial": 6e-4}
        assert all(found[key] <= allowed[key] for key in allowed), (frame.name, found)
    assert ours.watch.totals == reference.watch.totals


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("name", TRAINED)
def test_tables_agree_with_the_reference(name, precision, compressed, emulated) -> None:
    check_compressed(compressed[name], name, precision)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("name", TRAINED)
def test_tables_agree_on_a_device(name, precision, compressed, device) -> None:
    check_compressed(compressed[name], name, precision)


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
    engine = gpu.GpuEngine(model, EmulatedDevice(records_products=True))
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
        alone = gpu.GpuEngine(model, EmulatedDevice()).compute(
            dataclasses.replace(moved, build=0), EVERYTHING
        )
        # other lists, so another order of sums
        np.testing.assert_allclose(result.forces_ac, alone.forces_ac, rtol=0, atol=1e-12)
        assert result.energy == pytest.approx(alone.energy, rel=1e-14)


@pytest.mark.parametrize("with_tables", [False, True])
def test_a_recording_that_is_refused(with_tables, water_model, compressed, emulated) -> None:
    """CuPy does not record cuBLAS: steps go on unrecorded, it is said once and not tried again."""
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
    assert "cuBLAS" in warning
    assert emulated[0].recordings == 1


@pytest.mark.gpu
def test_recorded_steps_on_a_device(water_model, device) -> None:
    model = load(water_model)
    engine = gpu.GpuEngine(model, cuda_device.CudaDevice(0))
    nb = neighbourhood(*water_box(), model.rcut, 1.0)
    nb.build = 1
    first, *replayed = (engine.compute(nb, EVERYTHING) for _ in range(3))
    assert all(equal(first, result) for result in replayed)


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
    # environment, moment, features, energies, their way back, forces; two per hidden layer
    assert device.launches.total() - before <= 7 + 2 * hidden_layers


def test_smaller_chunks_where_memory_is_short(water_model) -> None:
    model = load(water_model)
    nb = neighbourhood(*water_box(), model.rcut, 0.5)
    whole = gpu.GpuEngine(model, EmulatedDevice()).compute(nb, EVERYTHING)
    engine = gpu.GpuEngine(model, EmulatedDevice())
    engine.device.xp = LimitedNumpy(2**20)
    result = engine.compute(nb, EVERYTHING)
    assert engine.device.launches["moment_by_net"] > 4
    np.testing.assert_allclose(result.forces_ac, whole.forces_ac, rtol=0, atol=1e-12)


def test_says_how_many_atoms_fit(water_model) -> None:
    model = load(water_model)
    engine = gpu.GpuEngine(model, EmulatedDevice())
    engine.device.xp = LimitedNumpy(1000)
    engine.device.available_bytes = 2**20
    nb = neighbourhood(*water_box(), model.rcut, 0.5)
    with pytest.raises(BackendError, match=r"do not fit on .* 1 MiB are free, .* about \d+ atoms"):
        engine.compute(nb, EVERYTHING)


@pytest.mark.parametrize("positions", [np.zeros((0, 3)), np.array([[1.0, 2.0, 3.0]])])
def test_no_or_one_atom(water_model, positions, emulated) -> None:
    types = np.zeros(len(positions), np.int32)
    ours, reference = (
        Potential(water_model, backend=b).evaluate(positions, types) for b in ("gpu", "reference")
    )
    assert ours.energy == pytest.approx(reference.energy, rel=1e-14)
    assert not ours.forces.any()


def test_atoms_that_the_model_does_not_see(water_model, emulated) -> None:
    positions, types, cell = water_box()
    types[::5] = -1
    ours, reference = (
        Potential(water_model, backend=b).evaluate(positions, types, cell)
        for b in ("gpu", "reference")
    )
    np.testing.assert_allclose(ours.forces, reference.forces, rtol=0, atol=1e-9)
    assert not ours.forces[::5].any()


def test_pairs_without_positions_are_refused(water_model, emulated) -> None:
    potential = Potential(water_model, backend="gpu")
    with pytest.raises(BackendError, match="backend gpu takes positions, not pairs"):
        potential.pair_gradients(np.ones((1, 3)), np.array([0]), np.array([0]), np.array([1]))


def test_sparse_atoms_far_apart(water_model, emulated) -> None:
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
