"""The public boundary: arguments of Potential and evaluate, and the backends by name."""

from __future__ import annotations

import builtins
from time import perf_counter

import numpy as np
import pytest

from cuda_emulation.emulated_device import EmulatedDevice
from lmp_dp import Potential
from lmp_dp.engine.gpu import device as cuda_device
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


def test_gpu_reference_agrees_with_numpy(water_model, cupy) -> None:
    rng = np.random.default_rng(2)
    positions = rng.uniform(0, 9, (30, 3))
    types = rng.integers(0, 2, 30)
    host, device = (
        Potential(water_model, backend=b).evaluate(positions, types, np.eye(3) * 9)
        for b in ("reference", "gpu-reference")
    )
    np.testing.assert_allclose(device.forces, host.forces, atol=1e-9)
    np.testing.assert_allclose(device.virial, host.virial, atol=1e-8)


# ------------------------------------------------ arguments that are not what they should be

TYPES = [0, 1, 1]
RAGGED = [[0.0, 0.0, 0.0], [1.0, 0.0], [0.0, 1.0, 0.0]]
MASKED = np.ma.masked_array(POSITIONS, mask=np.eye(3, dtype=bool))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((RAGGED, TYPES), "positions is no array of numbers: .*inhomogeneous"),
        ((POSITIONS.astype(complex), TYPES), r"positions must be real numbers, .* \(complex128\)"),
        (([[1j, 0, 0]], [0]), "positions must be real numbers"),
        (([["0", "0", "0"]], [0]), "positions must be real numbers"),
        (([[None, 0.0, 0.0]], [0]), "positions must be real numbers"),
        (([[True, False, False]], [0]), "positions must be real numbers"),
        ((object(), [0]), "positions must be real numbers"),
        ((MASKED, TYPES), "positions is a masked array"),
        ((list(MASKED), TYPES), "positions is a masked array"),
        ((POSITIONS * 3e8, TYPES), r"position of atom 1 is .* \(1 cm\) from the origin"),
        ((POSITIONS, [0, [1], 1]), "types is no array of numbers"),
        ((POSITIONS, ["O", None, "H"]), "types must be ints or element names, found object"),
        ((POSITIONS, np.ma.masked_array(TYPES, mask=[0, 0, 1])), "types is a masked array"),
        ((POSITIONS, [["O", "H", "H"]]), r"3 positions, but types of shape \(1, 3\)"),
        ((POSITIONS, TYPES, "cubic"), "cell must be real numbers, found 'cubic'"),
        ((POSITIONS, TYPES, ["9", "9", "9"]), "cell must be real numbers"),
        ((POSITIONS, TYPES, [9.0, None, 9.0]), "cell must be real numbers"),
        ((POSITIONS, TYPES, np.eye(3) * 9j), "cell must be real numbers"),
        ((POSITIONS, TYPES, [[9, 0, 0], [0, 9], [0, 0, 9]]), "cell is no array of numbers"),
        ((POSITIONS, TYPES, 9.0), r"cell has shape \(\), expected"),
        ((POSITIONS, TYPES, [9.0, np.inf, 9.0]), "the cell is not within 1e[+]08 Å"),
        ((POSITIONS, TYPES, np.ma.masked_array(np.eye(3) * 9, mask=np.eye(3))), "cell is a masked"),
        ((POSITIONS, TYPES, [9.0] * 3, "yes"), "pbc must be one or three bools, found 'yes'"),
        ((POSITIONS, TYPES, [9.0] * 3, "xyz"), "pbc must be one or three bools, found 'xyz'"),
        ((POSITIONS, TYPES, [9.0] * 3, None), "pbc must be one or three bools, found None"),
        ((POSITIONS, TYPES, [9.0] * 3, [True, None, True]), "pbc must be one or three bools"),
        ((POSITIONS, TYPES, [9.0] * 3, [True, 2, True]), "pbc must be one or three bools"),
        ((POSITIONS, TYPES, [9.0] * 3, 1j), "pbc must be one or three bools"),
        ((POSITIONS, TYPES, [9.0] * 3, [[True], []]), "pbc is no array of numbers"),
    ],
)  # fmt: skip
def test_arguments_of_the_wrong_kind(water: Potential, arguments, message: str) -> None:
    with pytest.raises(InputError, match=message):
        water.evaluate(*arguments)


def test_flags_may_be_numbers(water: Potential) -> None:
    cell = [9.0, 9.0, 9.0]
    by_bool = water.evaluate(POSITIONS, TYPES, cell, (True, False, True)).energy
    assert water.evaluate(POSITIONS, TYPES, cell, np.array([1, 0, 1])).energy == by_bool


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threads": True}, "threads is True, expected a positive number"),
        ({"threads": np.True_}, "threads is .*True.*, expected a positive number"),
        ({"threads": 2.0}, "threads is 2.0, expected a positive number"),
        ({"threads": "2"}, "threads is '2', expected a positive number"),
        ({"threads": -1}, "threads is -1, expected a positive number"),
        ({"precision": 64}, "precision 64 is unknown; choose float64 or float32"),
        ({"precision": np.array(["float32"])}, "precision .* is unknown"),
        ({"sel": None}, "sel None is unknown; choose warn, error, ignore"),
        ({"sel": ["warn"]}, r"sel \['warn'\] is unknown"),
        ({"table": np.array(["warn", "error"])}, "table .* is unknown"),
        ({"device": -1}, r"device is -1 \(int\), expected the number of a CUDA device"),
        ({"device": "cuda:0"}, r"device is 'cuda:0' \(str\), expected the number"),
        ({"device": True}, r"device is True \(bool\), expected the number"),
    ],
)
def test_options_of_the_wrong_kind(water_model, options, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Potential(water_model, **options)


@pytest.mark.parametrize("model", [5, None, b"water.h5", 1.5, ["water.h5"], object()])
def test_models_that_are_no_path(model) -> None:
    message = r"model is .* \(\w+\), expected the path of a model file or a DeepPotential"
    with pytest.raises(InputError, match=message):
        Potential(model)


@pytest.mark.parametrize("backend", [None, 3, ["cpu"], np.array(["cpu", "gpu"])])
def test_backends_of_the_wrong_kind(water_model, backend) -> None:
    with pytest.raises(BackendError, match=r"there is no backend .*; choose one of auto, cpu"):
        Potential(water_model, backend=backend)


@pytest.mark.parametrize("text", ["²", "٣", "2²", "0", "-1", "1.5", "9" * 5000])
def test_omp_num_threads_that_is_no_number(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from lmp_dp.threads import thread_count, threads_per_rank

    monkeypatch.setenv("OMP_NUM_THREADS", text)
    for count in (thread_count, lambda: threads_per_rank(1, 1)):
        with pytest.raises(
            InputError, match=r"OMP_NUM_THREADS is '.*', expected a positive number"
        ):
            count()


# ------------------------------------------------------------------------- places and images


def crystal(n: int, edge: float) -> np.ndarray:
    """Atoms of a simple cubic lattice, of which many have the same coordinates."""
    return np.stack(np.meshgrid(*[np.arange(n)] * 3, indexing="ij"), -1).reshape(-1, 3) * edge / n


@pytest.mark.parametrize("backend", ["reference", "cpu", "gpu"])
def test_atoms_in_one_place(backend: str, water_model, monkeypatch) -> None:
    monkeypatch.setattr(cuda_device, "CudaDevice", lambda _index: EmulatedDevice())
    potential = Potential(water_model, backend=backend, threads=1, sel="ignore")
    positions, types, cell = crystal(4, 12.0), np.zeros(64, np.int32), [12.0] * 3
    assert np.isfinite(potential.evaluate(positions, types, cell).energy)
    for shift, distance in ((0.0, "0"), (4e-7, "4e-07")):
        close = positions.copy()
        close[17] = close[40] + [0.0, shift, 0.0]
        message = f"atoms 17 and 40 are in one place: {distance} Å apart$"
        with pytest.raises(InputError, match=message):
            potential.evaluate(close, types, cell)
    across = np.array([[0.0, 1.0, 1.0], [12.0 - 1e-8, 1.0, 1.0], [5.0, 5.0, 5.0]])
    message = "atoms 0 and 1 are in one place: 1e-08 Å apart through a periodic image"
    with pytest.raises(InputError, match=message):
        potential.evaluate(across, [0, 1, 1], cell)
    # where it is open they are not; and what the model does not see may be anywhere
    for unseen, pbc in (([0, 1, 1], False), ([0, -1, 1], True)):
        assert np.isfinite(potential.evaluate(across, unseen, cell, pbc).energy)


def test_pairs_in_one_place(water_model) -> None:
    potential = Potential(water_model, threads=1)
    r = np.array([[1.0, 0.0, 0.0], [0.0, 1e-9, 0.0]])
    with pytest.raises(InputError, match=r"displacement 1, of centre 0, is .* in one place"):
        potential.pair_gradients(r, np.zeros(2, int), np.array([0]), np.ones(2, int))
    energies, _ = potential.pair_gradients(r, np.zeros(2, int), np.array([0]), np.array([1, -1]))
    assert np.isfinite(energies).all()


def test_the_number_of_images_is_bounded(water_model) -> None:
    """Counted before they are made; what solids have is far from the limit."""
    potential = Potential(water_model, threads=1, sel="ignore", table="ignore")
    start = perf_counter()
    message = (
        "too small for a cutoff of 6 Å: 1728000 atoms and periodic images .* limit is 20000; "
        r"opposite faces are 0.1 0.1 0.1 Å apart"
    )
    with pytest.raises(InputError, match=message):
        potential.evaluate([[0.0, 0.0, 0.0]], [0], [0.1] * 3)
    with pytest.raises(InputError, match="1e-07 1e-07 1e-07 Å apart"):
        potential.evaluate([[0.0, 0.0, 0.0]], [0], [1e-7] * 3)
    assert perf_counter() - start < 1.0  # it would take minutes
    for count, cell, pbc in (
        (1, [2.0, 2.0, 2.0], True),  # a primitive cell
        (1, [[2.0, 0.0, 0.0], [1.9, 1.2, 0.0], [1.9, 1.1, 0.9]], True),  # a very oblique one
        (1000, [4.0, 4.0, 900.0], True),  # a chain
        (1000, [10.0, 900.0, 900.0], (True, False, False)),  # a large open cross-section
    ):
        rng = np.random.default_rng(3)
        vectors = np.diag(cell) if np.ndim(cell) == 1 else np.array(cell)
        positions = rng.uniform(0.0, 1.0, (count, 3)) @ vectors
        assert np.isfinite(potential.evaluate(positions, [0] * count, cell, pbc).energy)
