"""Tables of pairs beside the nets: both backends, derivatives, edges, and the file."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from lmp_dp import Potential
from lmp_dp.errors import BackendError, ModelFileError
from lmp_dp.model import DeepPotential, Environment, load, save
from lmp_dp.model.pair_table import PairTable
from lmp_dp.tools import info
from small_model import small_model

#: One element of the small model's tables of pairs: u = 20 (3 - r)^3, up to 3 Å.
START, STEP, PIECES = 0.3, 0.15, 18


def environment(rcut: float, **more) -> Environment:
    return Environment(
        rules="TF",
        rcut=rcut,
        rcut_smth=0.0,
        sel_t=np.array([14, 14]),
        n_norm=28,
        davg_tk=np.zeros((2, 4)),
        dstd_tk=np.ones((2, 4)),
        excluded_tt=np.zeros((2, 2), bool),
        **more,
    )


def cubes() -> np.ndarray:
    """Exact pieces of u_tt = (20 + t + t') (3 - r)^3: d = 3 - r at a piece's start, x the rest."""
    d_v = 3.0 - START - STEP * np.arange(PIECES)
    of_u_ve = np.stack(
        [d_v**3, -3 * STEP * d_v**2, 3 * STEP**2 * d_v, np.full_like(d_v, -(STEP**3))], 1
    )
    strength_tt = 20.0 + np.add.outer(np.arange(2), np.arange(2))
    return strength_tt[:, :, None, None] * of_u_ve


def with_table(nearness: Environment | None = None, rules: str = "TF") -> DeepPotential:
    model = small_model()
    descriptor = model.descriptor
    wide = dataclasses.replace(descriptor.environment, sel_t=np.array([14, 14]), rcut=4.5)
    table = PairTable(
        environment=dataclasses.replace(environment(4.5), rules=rules),
        nearness=nearness,
        start=START,
        step=STEP,
        coefficients_ttve=cubes(),
        alpha=0.2,
        switch_start=1.0,
        switch_end=2.4,
        bias_t=np.array([0.7, -1.1]),
    )
    return dataclasses.replace(
        model,
        descriptor=dataclasses.replace(descriptor, environment=wide),
        pair_table=table,
        reference_frame=None,
    )


def evaluate(model: DeepPotential, backend: str, positions):
    types = np.arange(len(positions)) % 2
    potential = Potential(model, backend=backend, threads=1)
    return potential.evaluate(positions, types, [7.0, 7.5, 8.0])


POSITIONS = np.random.default_rng(5).uniform(0.0, 7.0, (12, 3))


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_the_equation(backend: str) -> None:
    """E = (1 - l) E^net + l E^pair, written out for each atom."""
    model = with_table()
    nets = evaluate(dataclasses.replace(model, pair_table=None), backend, POSITIONS)
    found = evaluate(model, backend, POSITIONS)
    shifts = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3), -1).reshape(-1, 3) * [7.0, 7.5, 8.0]
    mixed = 0
    for i in range(12):
        r_pc = (POSITIONS[:, None] + shifts - POSITIONS[i]).reshape(-1, 3)
        t_p = np.repeat(np.arange(12) % 2, len(shifts))
        r_p = np.linalg.norm(r_pc, axis=1)
        t_p, r_p = t_p[(r_p > 0) & (r_p <= 4.5)], r_p[(r_p > 0) & (r_p <= 4.5)]
        u = (20 + i % 2 + t_p) * np.where(r_p < 3.0, 3.0 - r_p, 0.0) ** 3
        pair = 0.5 * u.sum() + model.pair_table.bias_t[i % 2]
        w = np.exp(-r_p / 0.2)
        at = np.clip(((r_p * w).sum() / w.sum() - 1.0) / (np.float32(2.4) - np.float32(1.0)), 0, 1)
        share = at**3 * (-6 * at**2 + 15 * at - 10) + 1
        mixed += 0.01 < share < 0.99
        expected = share * pair + (1 - share) * nets.atom_energies[i]
        # sums of some 20 terms of up to 100 eV
        assert found.atom_energies[i] == pytest.approx(expected, abs=1e-11)
    assert mixed > 2


@pytest.mark.parametrize("rules", ["TF", "DP"])
@pytest.mark.parametrize("near", [None, 3.1])
def test_backends_agree_and_forces_are_the_gradient(near: float | None, rules: str) -> None:
    nearness = None if near is None else dataclasses.replace(environment(near), rules=rules)
    model = with_table(nearness, rules)
    reference = evaluate(model, "reference", POSITIONS)
    cpu = evaluate(model, "cpu", POSITIONS)
    for name in ("energy", "forces", "virial", "atom_energies", "atom_virials"):
        # forces of up to 1e3 eV/Å
        np.testing.assert_allclose(
            getattr(cpu, name), getattr(reference, name), rtol=1e-12, atol=1e-10
        )
    np.testing.assert_allclose(cpu.atom_virials.sum(axis=0), cpu.virial, rtol=1e-12, atol=1e-10)
    step = 1e-5
    for atom, c in ((0, 0), (3, 1), (8, 2)):
        energies = []
        for sign in (1, -1):
            moved = POSITIONS.copy()
            moved[atom, c] += sign * step
            energies.append(evaluate(model, "reference", moved).energy)
        slope = (energies[0] - energies[1]) / (2 * step)
        # round-off 1e-16 * 1e3 eV / step; step^2 times third derivatives of up to 1e4 eV/Å^3
        assert -slope == pytest.approx(reference.forces[atom, c], abs=1e-5)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_lonely_atoms_have_the_nets_energy(backend: str) -> None:
    model = with_table()
    energies = [
        Potential(of, backend=backend).evaluate(np.zeros((1, 3)), [0]).energy
        for of in (model, dataclasses.replace(model, pair_table=None))
    ]
    assert energies[0] == energies[1]


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_closer_than_the_table_is_counted(backend: str) -> None:
    positions = POSITIONS.copy()
    positions[1] = positions[0] + [0.0, 0.2, 0.0]
    potential = Potential(with_table(), backend=backend, table="ignore")
    found = potential.evaluate(positions, np.arange(12) % 2, [7.0, 7.5, 8.0])
    assert potential.watch.totals["table"] == 2  # from either atom
    assert np.isfinite(found.forces).all()


def test_file_and_info(tmp_path) -> None:
    model = with_table(environment(3.1))
    save(model, tmp_path / "model.h5")
    again = load(tmp_path / "model.h5")
    np.testing.assert_array_equal(
        again.pair_table.coefficients_ttve, model.pair_table.coefficients_ttve
    )
    assert again.pair_table.nearness.rcut == 3.1
    assert info.describe("x", again)["pair_table"]["alpha"] == 0.2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alpha": 0.0}, "alpha of the pair table is 0.0"),
        ({"switch_end": 0.9}, "switched off between two distances, found 1.0 and 0.9"),
        ({"step": 0.0}, "step of the pair table is 0.0"),
        ({"bias_t": np.zeros(3)}, "bias of pairs has shape"),
        ({"coefficients_ttve": np.zeros((2, 2, 5, 3))}, "coefficients of pairs has shape"),
    ],
)
def test_impossible_tables_are_refused(change, message: str) -> None:
    with pytest.raises(ModelFileError, match=message):
        dataclasses.replace(with_table().pair_table, **change)


def test_gpu_refuses_it(monkeypatch) -> None:
    import lmp_dp.engine.gpu.device as cuda_device
    from cuda_emulation.emulated_device import EmulatedDevice

    monkeypatch.setattr(cuda_device, "CudaDevice", lambda _index: EmulatedDevice())
    with pytest.raises(BackendError, match="backend gpu cannot evaluate a pair table"):
        Potential(with_table(), backend="gpu")
