"""Models of the DP family against DeePMD-kit's NumPy implementation: random ones, no training.

It gives energies of atoms; forces are compared between backends, and with differences of energies.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from conftest import needs_deepmd
from lmp_dp import Potential
from lmp_dp.model import DeepPotential
from lmp_dp.tools.compress import compress

BACKENDS = ("reference", "cpu")
#: Enough slots for all, and too few: of all together, and then of one element.
ENOUGH, FEW = [60, 60, 60], [9, 4, 14]
_A = {"type": "se_e2_a", "axis_neuron": 3, "neuron": [4, 8]}
_R = {"type": "se_e2_r", "neuron": [5, 10]}
_3 = {"type": "se_e3", "neuron": [3, 6]}
_EXCLUDED = {"exclude_types": [[0, 1], [2, 2]]}

MODELS: dict[str, Any] = {
    "se_e2_a": [{**_A, "sel": ENOUGH}],
    "se_e2_a few": [{**_A, "sel": FEW}],
    "se_e2_a excluded": [{**_A, **_EXCLUDED, "sel": ENOUGH}],
    "se_e2_a excluded few": [{**_A, **_EXCLUDED, "sel": FEW}],
    "se_e2_a two-sided": [{**_A, **_EXCLUDED, "sel": FEW, "type_one_side": False}],
    "se_e2_a protected": [{**_A, "sel": FEW, "env_protection": 0.3}],
    "se_e2_a idt": [{**_A, "sel": ENOUGH, "resnet_dt": True, "activation_function": "silu"}],
    "se_e2_r": [{**_R, "sel": ENOUGH}],
    "se_e2_r few": [{**_R, "sel": FEW}],
    "se_e2_r excluded": [{**_R, **_EXCLUDED, "sel": FEW, "env_protection": 0.1}],
    "se_e2_r silu": [{**_R, **_EXCLUDED, "sel": ENOUGH, "activation_function": "silu"}],
    "hybrid": [{**_A, "sel": FEW}, {**_R, "sel": FEW}],
    "hybrid, one list": [
        {**_A, "sel": [3, 9, 5]},
        {**_R, **_EXCLUDED, "sel": [7, 2, 9], "rcut": 3.1},
        {**_3, "sel": [2, 4, 3]},
    ],
}
#: What the models are told besides.
OPTIONS = {
    "se_e2_a few": {"pair_exclude_types": [[0, 2], [1, 1]]},
    "se_e2_a excluded": {"pair_exclude_types": [[0, 1]], "atom_exclude_types": [2]},
    "se_e2_r excluded": {"pair_exclude_types": [[0, 0]]},
    "hybrid": {"pair_exclude_types": [[1, 2]], "atom_exclude_types": [0]},
}


def random_model(name: str, seed: int) -> tuple[Any, DeepPotential]:
    """DeePMD-kit's model with random numbers, and as it is read."""
    from deepmd.dpmodel.descriptor.base_descriptor import BaseDescriptor
    from deepmd.dpmodel.descriptor.hybrid import DescrptHybrid
    from deepmd.dpmodel.fitting import EnergyFittingNet
    from deepmd.dpmodel.model.ener_model import EnergyModel

    from lmp_dp.model.sources.v3.model import read_tree

    rng = np.random.default_rng(seed)
    members = []
    for k, options in enumerate(MODELS[name]):
        environment = {"rcut": 3.7, "rcut_smth": 0.9, "ntypes": 3, "type_map": ["O", "H", "C"]}
        member = BaseDescriptor(**{**environment, **options, "seed": seed + k})
        mean, deviation = np.zeros(member.davg.shape), np.ones(member.dstd.shape)
        # the same in all slots, and without a direction
        mean[..., :1] = rng.uniform(0.02, 0.1, (3, 1, 1))
        deviation[..., :1] = rng.uniform(0.1, 0.3, (3, 1, 1))
        deviation[..., 1:] = rng.uniform(0.05, 0.2, (3, 1, 1))
        member.davg, member.dstd = mean, deviation
        members.append(member)
    descriptor = members[0] if len(members) == 1 else DescrptHybrid(members)
    fitting = EnergyFittingNet(3, descriptor.get_dim_out(), neuron=[7, 7], seed=seed + 9,
                               mixed_types=False)  # fmt: skip
    fitting.bias_atom_e = rng.normal(size=(3, 1))
    made = EnergyModel(descriptor, fitting, type_map=["O", "H", "C"], **OPTIONS.get(name, {}))
    made.atomic_model.out_bias = rng.normal(size=made.atomic_model.out_bias.shape)
    return made, read_tree({"model": made.serialize()}, "random")


def crowd(name: str, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Atoms of three elements, in a triclinic cell that is shorter than the cutoff in one way.

    Where there are too few slots it is open: images of an atom would be equally far from it.
    """
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in (2, 3, 3)], indexing="ij"), -1)
    cell = 1.6 * np.diag([2.0, 3.0, 3.0]) + np.tril(rng.uniform(-0.4, 0.4, (3, 3)), -1)
    places = grid.reshape(-1, 3) / [2, 3, 3] + rng.uniform(-0.07, 0.07, (18, 3))
    enough = all(member["sel"] == ENOUGH for member in MODELS[name])
    types = rng.permutation(np.arange(18) % 3).astype(np.int32)
    return places @ cell, types, cell if enough else None


@needs_deepmd
@pytest.mark.parametrize("name", MODELS)
def test_energies_of_atoms_are_those_of_deepmd_kit(name: str) -> None:
    made, model = random_model(name, seed=3)
    for seed in range(2):
        positions, types, cell = crowd(name, seed)
        box = None if cell is None else cell.reshape(1, 9)
        expected = made(positions.reshape(1, -1), types[None].astype(int), box)
        for backend in BACKENDS:
            found = Potential(model, backend=backend, sel="ignore").evaluate(positions, types, cell)
            np.testing.assert_allclose(
                found.atom_energies, expected["atom_energy"][0, :, 0], rtol=0, atol=1e-10
            )


@needs_deepmd
@pytest.mark.parametrize("name", MODELS)
def test_forces_and_virial_are_slopes(name: str) -> None:
    _, model = random_model(name, seed=4)
    positions, types, cell = crowd(name, 2)
    potentials = [Potential(model, backend=backend, sel="ignore") for backend in BACKENDS]
    one, two = (potential.evaluate(positions, types, cell) for potential in potentials)
    np.testing.assert_allclose(two.forces, one.forces, rtol=0, atol=1e-10)
    np.testing.assert_allclose(two.virial, one.virial, rtol=0, atol=1e-9)
    rng, step = np.random.default_rng(5), 1e-5
    move_ac, strain_cc = rng.normal(size=positions.shape), rng.normal(size=(3, 3))
    slope = -(one.forces * move_ac).sum() - (one.virial * strain_cc).sum()
    energies = []
    for size in (-2 * step, -step, step, 2 * step):
        deform_cc = np.eye(3) + size * strain_cc.T
        moved = (positions + size * move_ac) @ deform_cc
        deformed = None if cell is None else cell @ deform_cc
        energies.append(potentials[1].evaluate(moved, types, deformed).energy)
    # error of order step^4; rounding of energies of some ten eV, over the step
    difference = (energies[0] - 8 * energies[1] + 8 * energies[2] - energies[3]) / (12 * step)
    assert difference == pytest.approx(slope, rel=1e-7, abs=1e-7)


@needs_deepmd
@pytest.mark.parametrize("name", [name for name in MODELS if "silu" not in name])
def test_tables_follow_the_nets(name: str) -> None:
    """Also in float32, and without the nets."""
    _, model = random_model(name, seed=6)
    small = compress(model, min_distance=0.7, drop_networks=True)
    positions, types, cell = crowd(name, 3)
    exact = Potential(model, backend="reference", sel="ignore").evaluate(positions, types, cell)
    for backend in BACKENDS:
        found = Potential(small, backend=backend, sel="ignore").evaluate(positions, types, cell)
        assert found.energy == pytest.approx(exact.energy, abs=1e-8 * len(types))
        np.testing.assert_allclose(found.forces, exact.forces, rtol=0, atol=1e-6)
        np.testing.assert_allclose(found.virial, exact.virial, rtol=0, atol=1e-5)
