"""The engines against DeePMD-kit: recorded values of 19 random and 3 trained models, and live."""

from __future__ import annotations

import numpy as np
import pytest

from conftest import (
    RECORDED,
    TRAINED,
    Frame,
    needs_deepmd,
    needs_tensorflow,
    recorded_frames,
    source_graph,
)
from lmp_dp import Potential

BACKENDS = ("reference", "cpu")
#: eV per atom, eV/Å, eV, eV. float64: the project's contract (round-off is 1e-13 here).
FLOAT64 = {"energy": 1e-10, "forces": 1e-9, "virial": 1e-8, "atom_energies": 1e-9}
#: float32 nets: 50 units in the last place (6e-8) of values up to ~1, on sums over <= 100 slots.
FLOAT32 = {"energy": 3e-6, "forces": 3e-6, "virial": 3e-5, "atom_energies": 3e-6}
#: The source evaluates the nets in float16 (unit in the last place 1e-3), lmp_dp in float32.
FLOAT16 = {"energy": 3e-3, "forces": 3e-3, "virial": 3e-2, "atom_energies": 3e-3}


def tolerances(model: str, precision: str) -> dict[str, float]:
    if model == "oh_mixed_precision":
        return FLOAT16
    return FLOAT64 if precision == "float64" else FLOAT32


def deviations(potential: Potential, frame: Frame) -> dict[str, float]:
    result = potential.evaluate(
        frame.positions, frame.types, frame.cell, fparam=frame.fparam, aparam=frame.aparam
    )
    return {
        "energy": abs(result.energy - frame.energy) / len(frame.types),
        "forces": np.abs(result.forces - frame.forces).max(),
        "virial": max(
            np.abs(result.virial - frame.virial).max(),
            np.abs(result.atom_virials - frame.atom_virials).max(),
        ),
        "atom_energies": np.abs(result.atom_energies - frame.atom_energies).max(),
    }


@needs_tensorflow
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", RECORDED)
def test_agrees_with_recorded_values(name: str, backend: str, converted) -> None:
    potential = Potential(converted(name), backend=backend, sel="ignore")
    frames = recorded_frames(name)
    assert {frame.name.rsplit("/")[-1] for frame in frames} == {
        "periodic",
        "triclinic",
        "small",
        "open",
        "single",
        "single_periodic",
    }
    allowed = tolerances(name, potential.precision)
    for frame in frames:
        found = deviations(potential, frame)
        assert all(found[key] <= allowed[key] for key in allowed), (frame.name, found)


@needs_deepmd
@pytest.mark.parametrize("name", [*TRAINED, "hco_atom_ener", "oh_overflow"])
def test_agrees_with_deepmd_now(name: str, converted) -> None:
    """Not from the record: DeePMD-kit evaluates a fresh configuration in this test."""
    from deepmd.infer import DeepPot

    potential = Potential(converted(name), sel="ignore")
    rng = np.random.default_rng(17)
    cell = np.array([[8.0, 0.0, 0.0], [1.5, 7.0, 0.0], [-2.0, 1.0, 7.5]])
    grid = np.stack(np.meshgrid(*[np.arange(4)] * 3, indexing="ij"), -1).reshape(-1, 3) / 4
    positions = grid @ cell + rng.uniform(-0.25, 0.25, (64, 3))
    positions[5] += 2 * cell[1] - cell[2]
    types = rng.integers(0, len(potential.type_map), 64)
    energy, forces, virial, atom_energies, atom_virials = DeepPot(str(source_graph(name))).eval(
        positions[None], cell[None], types, atomic=True
    )
    frame = Frame(
        "live",
        positions,
        cell,
        types,
        energy.item(),
        forces[0],
        virial.reshape(3, 3),
        atom_energies.ravel(),
        atom_virials.reshape(-1, 3, 3),
    )
    found = deviations(potential, frame)
    assert all(found[key] <= FLOAT64[key] for key in FLOAT64), found


@pytest.mark.parametrize("name", TRAINED)
def test_shipped_model_files_prove_themselves(name: str, request) -> None:
    from lmp_dp.model import load
    from lmp_dp.tools.reference_frame import verify

    model = load(request.getfixturevalue(f"{name}_model"))
    for backend in BACKENDS:
        outcome = verify(model, backend)
        assert outcome["passed"], outcome


@needs_tensorflow
def test_cpu_backend_does_not_depend_on_threads(converted) -> None:
    frame = recorded_frames("water")[1]
    one, two = (
        Potential(converted("water"), backend="cpu", threads=n).evaluate(
            frame.positions, frame.types, frame.cell
        )
        for n in (1, 2)
    )
    assert one.energy == two.energy
    np.testing.assert_array_equal(one.forces, two.forces)
    np.testing.assert_array_equal(one.virial, two.virial)


@needs_tensorflow
def test_precision_can_be_chosen(converted) -> None:
    frame = next(f for f in recorded_frames("water") if f.name.endswith("periodic"))
    single = Potential(converted("water"), precision="float32")
    assert single.precision == "float32"
    result = single.evaluate(frame.positions, frame.types, frame.cell)
    error = np.linalg.norm(result.forces - frame.forces) / np.linalg.norm(frame.forces)
    # float32 inside: well above float64 round-off, below 1e-4 of the force norm
    assert 1e-9 < error < 1e-4
