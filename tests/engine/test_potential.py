"""The public boundary: arguments of Potential and evaluate, and the backends by name."""

from __future__ import annotations

import builtins

import numpy as np
import pytest

from lmp_dp import Potential
from lmp_dp.errors import BackendError, InputError, ModelFileError


@pytest.fixture(scope="module")
def water() -> Potential:
    from conftest import INPUTS

    return Potential(INPUTS / "models" / "water.h5", backend="reference")


POSITIONS = np.array([[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]])


def test_element_names_and_lists(water: Potential) -> None:
    by_name = water.evaluate(POSITIONS.tolist(), ["O", "H", "H"], [9.0, 9.0, 9.0])
    by_index = water.evaluate(POSITIONS, [0, 1, 1], np.eye(3) * 9.0)
    assert by_name.energy == by_index.energy
    assert by_name.forces.shape == (3, 3)
    assert by_name.atom_virials.shape == (3, 3, 3)


def test_no_atoms(water: Potential) -> None:
    result = water.evaluate(np.zeros((0, 3)), np.zeros(0, int), np.eye(3) * 5)
    assert result.energy == 0.0
    assert result.forces.shape == (0, 3)


def test_far_outside_of_a_periodic_cell(water: Potential) -> None:
    cell = np.eye(3) * 9.0
    near = water.evaluate(POSITIONS, [0, 1, 1], cell)
    far = water.evaluate(POSITIONS + 9.0 * np.array([7, -3, 2]), [0, 1, 1], cell)
    assert far.energy == pytest.approx(near.energy, abs=1e-11)


def test_input_is_not_changed(water: Potential) -> None:
    positions = POSITIONS - 20.0
    before = positions.copy()
    water.evaluate(positions, [0, 1, 1], np.eye(3) * 9.0)
    np.testing.assert_array_equal(positions, before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((POSITIONS[:, :2], [0, 1, 1]), r"positions have shape \(3, 2\), expected \(n, 3\)"),
        ((POSITIONS, [0, 1]), r"3 positions, but types of shape \(2,\)"),
        ((POSITIONS * [[1], [np.nan], [1]], [0, 1, 1]), "position of atom 1 is not finite"),
        ((POSITIONS, [0, 1, 2]), r"types lie in 0..2, the model has 0..1"),
        ((POSITIONS, ["O", "H", "D"]), r"the model has no element \['D'\]; it has O H"),
        ((POSITIONS, [0.0, 1.0, 1.0]), "types must be ints or element names"),
        ((POSITIONS, [0, 1, 1], np.eye(2)), r"cell has shape \(2, 2\)"),
        ((POSITIONS, [0, 1, 1], np.ones((3, 3))), "the cell's vectors span no volume"),
        ((POSITIONS, [0, 1, 1], np.eye(3), (True, False)), "pbc must be one or three bools"),
    ],
)
def test_unusable_arguments(water: Potential, arguments, message: str) -> None:
    with pytest.raises(InputError, match=message):
        water.evaluate(*arguments)


def test_backends_by_name(water_model, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Potential(water_model).backend == "cpu"
    with pytest.raises(BackendError, match=r"no backend 'tpu'; choose one of auto, cpu, gpu"):
        Potential(water_model, backend="tpu")
    plain_import = builtins.__import__

    def without_cupy(name, *args, **kwargs):
        if name.partition(".")[0] == "cupy":
            raise ImportError("No module named 'cupy'")
        return plain_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_cupy)
    with pytest.raises(BackendError, match=r"gpu-reference needs CuPy .*pip install"):
        Potential(water_model, backend="gpu-reference")


def test_threads(water_model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert Potential(water_model).threads == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    with pytest.raises(InputError, match="OMP_NUM_THREADS is 'many', expected a positive number"):
        Potential(water_model)
    with pytest.raises(InputError, match="threads is 0"):
        Potential(water_model, threads=0)


def test_unknown_precision(water_model) -> None:
    with pytest.raises(InputError, match="precision 'half' is unknown; choose float64 or float32"):
        Potential(water_model, precision="half")


def test_missing_model() -> None:
    with pytest.raises(ModelFileError, match=r"model file nowhere\.h5 does not exist"):
        Potential("nowhere.h5")


@pytest.mark.gpu
def test_gpu_reference_agrees_with_numpy(water_model) -> None:
    pytest.importorskip("cupy", reason="CuPy is not installed")
    rng = np.random.default_rng(2)
    positions = rng.uniform(0, 9, (30, 3))
    types = rng.integers(0, 2, 30)
    host, device = (
        Potential(water_model, backend=b).evaluate(positions, types, np.eye(3) * 9)
        for b in ("reference", "gpu-reference")
    )
    np.testing.assert_allclose(device.forces, host.forces, atol=1e-9)
    np.testing.assert_allclose(device.virial, host.virial, atol=1e-8)
