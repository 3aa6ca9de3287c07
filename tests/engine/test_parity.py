"""The engines against DeePMD-kit: recorded values of random and trained models, and live."""

from __future__ import annotations

import numpy as np
import pytest

from conftest import (
    RECORDED,
    TRAINED,
    V3,
    Frame,
    needs_deepmd,
    recorded_frames,
    source_graph,
)
from lmp_dp import Potential
from parity import FLOAT64, deviations, tolerances

BACKENDS = ("reference", "cpu")


#: loc_frame: an atom alone has no frame. In a small cell images of an atom are equally near, and
#: where angles to them enter DeePMD-kit's energy changes if all atoms are shifted (lf_cu: 0.6 eV).
WITHOUT_ORDER = {"lf_cu": (), "lf_any_axes": (), "lf_radial": ("small",)}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", [*RECORDED, *V3])
def test_agrees_with_recorded_values(name: str, backend: str, converted) -> None:
    potential = Potential(converted(name), backend=backend, sel="ignore")
    frames = recorded_frames(name)
    assert {frame.name.rsplit("/")[-1] for frame in frames} == {
        *("periodic", "triclinic", "open"),
        *WITHOUT_ORDER.get(name, ("small", "single", "single_periodic")),
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


def test_precision_can_be_chosen(converted) -> None:
    frame = next(f for f in recorded_frames("water") if f.name.endswith("periodic"))
    single = Potential(converted("water"), precision="float32")
    assert single.precision == "float32"
    result = single.evaluate(frame.positions, frame.types, frame.cell)
    error = np.linalg.norm(result.forces - frame.forces) / np.linalg.norm(frame.forces)
    # float32 inside: well above float64 round-off, below 1e-4 of the force norm
    assert 1e-9 < error < 1e-4
