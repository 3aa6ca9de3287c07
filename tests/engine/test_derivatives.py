"""Forces and virials against finite differences of the energy; symmetries; conservation."""

from __future__ import annotations

import numpy as np
import pytest

from conftest import recorded_frames
from lmp_dp import Potential

BACKENDS = ("reference", "cpu")
# Central differences of step h err by h^2/6 f''' + eps |E|/h: with h = 1e-4 Å, third derivatives
# up to ~1e2 eV/Å^3 and |E| up to 3e4 eV (water) about 2e-7 + 3e-8; 1e-5 leaves a margin.
STEP, TOLERANCE = 1e-4, 1e-5
MODELS = (
    *("water", "hea", "hco_exclude_one_sided", "oh_overflow", "oh_two_sided", "cu_tiny"),
    *("er_exclude_one_sided", "e3_two", "hybrid_a_r", "tebd_strip", "atten_two_layers"),
    *("atten_smooth", "atten_v2_exclude", "dprc", "cu_compressed", "v3_a_exclude", "v3_r_exclude"),
    *("v3_atten_strip", "v3_atten_v2", "v3_atten_none_strip"),
)


def frame_of(name: str, kind: str):
    return next(f for f in recorded_frames(name) if f.name.endswith(f"/{kind}"))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", MODELS)
def test_forces_are_minus_the_gradient(name: str, backend: str, converted) -> None:
    potential = Potential(converted(name), backend=backend, sel="ignore")
    frame = frame_of(name, "small")
    forces = potential.evaluate(frame.positions, frame.types, frame.cell).forces
    for atom in range(min(2, len(frame.types))):
        for c in range(3):
            energies = []
            for sign in (1, -1):
                moved = frame.positions.copy()
                moved[atom, c] += sign * STEP
                energies.append(potential.evaluate(moved, frame.types, frame.cell).energy)
            assert forces[atom, c] == pytest.approx(
                -(energies[0] - energies[1]) / (2 * STEP), abs=TOLERANCE
            )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", MODELS)
def test_virial_is_minus_the_strain_derivative(name: str, backend: str, converted) -> None:
    """All nine strain components, of cell and positions together."""
    potential = Potential(converted(name), backend=backend, sel="ignore")
    frame = frame_of(name, "small")
    virial = potential.evaluate(frame.positions, frame.types, frame.cell).virial
    for a in range(3):
        for b in range(3):
            energies = []
            for sign in (1, -1):
                strain = np.eye(3)
                strain[b, a] += sign * STEP  # r_a += strain r_b: conjugate to W_ab = -f.. r..
                energies.append(
                    potential.evaluate(
                        frame.positions @ strain, frame.types, frame.cell @ strain
                    ).energy
                )
            derivative = (energies[0] - energies[1]) / (2 * STEP)
            assert virial[a, b] == pytest.approx(-derivative, abs=20 * TOLERANCE)


@pytest.mark.parametrize("backend", BACKENDS)
def test_symmetries(backend: str, converted) -> None:
    """Translation, lattice shifts, permutation and rotation; sums of per-atom values."""
    potential = Potential(converted("hco_atom_ener"), backend=backend)
    frame = frame_of("hco_atom_ener", "triclinic")
    base = potential.evaluate(frame.positions, frame.types, frame.cell)
    rng = np.random.default_rng(3)
    order = rng.permutation(len(frame.types))
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    shifts = rng.integers(-2, 3, frame.positions.shape)
    changed = potential.evaluate(
        ((frame.positions + shifts @ frame.cell + 0.37) @ rotation)[order],
        frame.types[order],
        frame.cell @ rotation,
    )
    # round-off of wrapped coordinates (1e-15 * 10 Å) times force constants (~1e3 eV/Å^2)
    assert changed.energy == pytest.approx(base.energy, abs=1e-10)
    np.testing.assert_allclose(changed.forces, (base.forces @ rotation)[order], atol=1e-10)
    np.testing.assert_allclose(changed.virial, rotation.T @ base.virial @ rotation, atol=1e-9)
    np.testing.assert_allclose(base.forces.sum(axis=0), 0.0, atol=1e-11)
    assert base.atom_energies.sum() == pytest.approx(base.energy, abs=1e-11)
    np.testing.assert_allclose(base.atom_virials.sum(axis=0), base.virial, atol=1e-11)
    np.testing.assert_allclose(base.virial, base.virial.T, atol=1e-10)


@pytest.mark.parametrize("backend", BACKENDS)
def test_absent_atoms_are_invisible(backend: str, converted) -> None:
    potential = Potential(converted("oh_one_sided"), backend=backend)
    frame = frame_of("oh_one_sided", "triclinic")
    base = potential.evaluate(frame.positions, frame.types, frame.cell)
    extra = np.vstack([frame.positions[:1] + 0.3, frame.positions])
    result = potential.evaluate(extra, np.concatenate([[-1], frame.types]), frame.cell)
    assert result.energy == pytest.approx(base.energy, abs=1e-12)
    np.testing.assert_allclose(result.forces[1:], base.forces, atol=1e-12)
    np.testing.assert_array_equal(result.forces[0], 0.0)
    assert result.atom_energies[0] == 0.0
