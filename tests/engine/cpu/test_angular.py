"""`Angular` on the cpu backend against the reference, which never lowers a model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cuda_emulation.emulated_device import EmulatedDevice
from lmp_dp.engine import Potential
from lmp_dp.engine.cpu import angular
from lmp_dp.engine.gpu import device as cuda_device
from lmp_dp.errors import BackendError
from lmp_dp.model import DeepPotential
from lmp_dp.model.precision import cast
from lmp_dp.tools.compress import compress
from lmp_dp.tools.tolerances import EXACT
from random_se_e3 import MODELS, Frame, frames, random_se_e3


def evaluated(model: DeepPotential, frame: Frame, backend: str, threads: int = 1) -> Any:
    potential = Potential(model, backend=backend, threads=threads, sel="ignore", table="ignore")
    result = potential.evaluate(frame.positions, frame.types, frame.cell)
    return result, potential.watch.totals


@pytest.mark.parametrize("tables", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_agrees_with_the_reference(name: str, tables: bool) -> None:
    model = random_se_e3(3, **MODELS[name])
    if tables:
        model = compress(model, step=0.2, min_distance=1.5, drop_networks=True)
    largest = dropped = 0.0
    for frame in frames(len(model.type_map)).values():
        expected, counts = evaluated(model, frame, "reference")
        found, found_counts = evaluated(model, frame, "cpu")
        assert found_counts == counts
        assert abs(found.energy - expected.energy) <= EXACT.energy_per_atom * len(frame.types)
        for quantity, tolerance in (
            ("forces", EXACT.force),
            ("virial", EXACT.virial),
            ("atom_energies", EXACT.atom_energy),
            ("atom_virials", EXACT.virial),
        ):
            np.testing.assert_allclose(
                getattr(found, quantity), getattr(expected, quantity), rtol=0, atol=tolerance
            )
        largest = max(largest, np.abs(expected.forces).max())
        dropped += counts["sel"]
    assert largest > 0.01
    assert (dropped > 0) == ("too small" in name or name == "no slots for an element")


@pytest.mark.parametrize("tables", [False, True])
@pytest.mark.parametrize("mean", [0.0, 0.3])
def test_centres_that_see_nothing(mean: float, tables: bool) -> None:
    """Rows that add nothing; with a mean of directions the empty slots beside them do."""
    model = random_se_e3(
        2, sel=(20,), excluded=(0, 0), rules="DP", mean=(0.1, mean, 0.0, 0.3 * mean)
    )
    if tables:
        model = compress(model, step=0.2, min_distance=1.5)
    frame = frames(1)["periodic"]
    expected, found = (evaluated(model, frame, b)[0] for b in ("reference", "cpu"))
    np.testing.assert_allclose(found.atom_energies, expected.atom_energies, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(found.forces, 0.0)
    alone = evaluated(model, frames(1)["alone"], "cpu")[0].energy
    assert (np.abs(found.atom_energies - alone).max() <= 1e-12) == (mean == 0.0)


@pytest.mark.parametrize("tables", [False, True])
@pytest.mark.parametrize("name", ["two elements", "one element", "silu"])
def test_float32_differs_by_rounding(name: str, tables: bool) -> None:
    """As far from the float64 model as the reference in float32 is, but for the order of sums."""
    model = random_se_e3(4, **MODELS[name])
    if tables:
        model = compress(model, step=0.2, min_distance=1.5)
    single = cast(model, "float32")
    double = cast(single, "float64")  # the same numbers
    for frame in frames(len(model.type_map)).values():
        exact = evaluated(double, frame, "reference")[0]
        rounded = evaluated(single, frame, "reference")[0]
        found = evaluated(single, frame, "cpu")[0]
        for quantity in ("energy", "forces", "virial", "atom_energies"):
            value, *others = (np.asarray(getattr(r, quantity)) for r in (exact, rounded, found))
            of_reference, of_cpu = (np.abs(other - value).max() for other in others)
            unit = np.finfo(np.float32).eps * np.abs(value).max()
            # sums of some hundred terms; the energies' constant is rounded a few times more
            assert of_cpu <= 10.0 * of_reference + 20.0 * unit


@pytest.mark.parametrize("tables", [False, True])
def test_lists_of_any_length_give_the_same(tables: bool, monkeypatch) -> None:
    """Lists end between centres, and nets within them."""
    model = random_se_e3(6)
    if tables:
        model = compress(model, step=0.2, min_distance=1.5)
    frame = frames(2)["triclinic"]
    expected = evaluated(model, frame, "cpu")[0]
    monkeypatch.setattr(angular, "LISTED", 50)
    monkeypatch.setattr(angular, "EMBEDDED", 7)
    found = evaluated(model, frame, "cpu")[0]
    assert found.energy == pytest.approx(expected.energy, abs=1e-13)
    np.testing.assert_allclose(found.forces, expected.forces, rtol=0, atol=1e-13)


def test_memory_does_not_grow_with_the_pairs(monkeypatch) -> None:
    """G of all pairs of a chunk is never there: 27 centres of 19 neighbours, 190 pairs each."""
    taken = []
    embed = angular.embed

    def noting(*args: Any) -> tuple[np.ndarray, np.ndarray]:
        found = embed(*args)
        taken.append(found[0].size)
        return found

    monkeypatch.setattr(angular, "embed", noting)
    model = random_se_e3(6, sel=(50,))
    evaluated(model, frames(1)["periodic"], "cpu")
    assert sum(taken) > 2 * 27 * 190 * 4
    assert max(taken) <= angular.EMBEDDED * 4


def test_threads_make_no_difference() -> None:
    model, frame = compress(random_se_e3(7), step=0.2, min_distance=1.5), frames(2)["periodic"]
    one, three = (evaluated(model, frame, "cpu", threads)[0] for threads in (1, 3))
    assert one.energy == three.energy
    np.testing.assert_array_equal(one.forces, three.forces)
    np.testing.assert_array_equal(one.virial, three.virial)


@pytest.mark.parametrize("name", ["two elements", "hybrid"])
def test_the_gpu_refuses_it_by_name(name: str, monkeypatch) -> None:
    monkeypatch.setattr(cuda_device, "CudaDevice", lambda _index: EmulatedDevice())
    kind = "hybrid" if name == "hybrid" else "se_e3"
    with pytest.raises(
        BackendError, match=rf"gpu cannot evaluate descriptor {kind}, .*form Angular.*backend cpu"
    ):
        Potential(random_se_e3(0, **MODELS[name]), backend="gpu")
