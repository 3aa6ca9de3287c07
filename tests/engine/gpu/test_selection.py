"""How the emulated device chooses neighbours, by the rules of both families."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cuda_emulation.emulated_device import EmulatedDevice
from engine.typed_models import typed_model
from lmp_dp import Potential
from lmp_dp.engine.gpu import device as cuda_device
from lmp_dp.model import DeepPotential, Environment, Fitting, Network, PairNets
from lmp_dp.model.descriptors.se_e2_a import SeE2A
from lmp_dp.tools.compress import compress
from small_model import dense

PAIR = np.array([[False, True], [True, False]])
#: What differs from the TF family's plain rules; `sel` is too small where it is named.
CASES = {
    "excluded": {"excluded_tt": PAIR},
    "unseen": {"unseen_tt": PAIR},
    "unseen in TF": {"rules": "TF", "unseen_tt": ~PAIR},
    "protection": {"protection": 0.2},
    "too many": {"sel_t": np.array([4, 9])},
    "too many, excluded": {"sel_t": np.array([4, 9]), "excluded_tt": PAIR},
    "too many, unseen": {"sel_t": np.array([6, 3]), "unseen_tt": ~np.eye(2, dtype=bool)},
    "too many in TF": {"rules": "TF", "sel_t": np.array([4, 9])},
}


def model_of(case: str) -> DeepPotential:
    rng = np.random.default_rng(3)
    values = {
        "rules": "DP",
        "rcut": 4.2,
        "rcut_smth": 0.7,
        "sel_t": np.array([40, 42]),
        "n_norm": 60,
        "davg_tk": np.array([[0.1, 0, 0, 0], [0.2, 0, 0, 0]], float),
        "dstd_tk": np.full((2, 4), 0.3),
        "excluded_tt": np.zeros((2, 2), bool),
        **CASES[case],
    }
    nets = [Network((dense(rng, 1, 4), dense(rng, 4, 8, "double"))) for _ in range(4)]
    descriptor = SeE2A(Environment(**values), PairNets(np.arange(4).reshape(2, 2), tuple(nets)), 3)
    fitting = [
        Network((dense(rng, 24, 9), dense(rng, 9, 1, activation="linear"))) for _ in range(2)
    ]
    energies = Fitting(tuple(fitting), np.array([-3.0, 1.5]), np.zeros(2, bool))
    return DeepPotential(("O", "H"), descriptor, energies)


#: Nets that are told the elements; se_atten has one block of slots for all of them.
TYPED = {
    "se_e2_a_tebd": {"kind": "se_e2_a_tebd", "davg": 0.5},
    "se_e2_a_tebd, strip": {"kind": "se_e2_a_tebd", "davg": 0.5, "strip": True},
    "one block": {"davg": 0.5},
    "one block, too many": {"sel": 12, "rules": "DP", "excluded": ((0, 1),)},
    "one block, strip": {"davg": 0.5, "strip": True, "one_side": True, "excluded": ((1, 1),)},
}


@pytest.mark.parametrize("tabulated", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_neighbours(case: str, tabulated: bool, monkeypatch) -> None:
    model = model_of(case)
    check(
        compress(model, min_distance=0.9) if tabulated else model, "too many" in case, monkeypatch
    )


@pytest.mark.parametrize("case", TYPED)
def test_nets_that_are_told_the_elements(case: str, monkeypatch) -> None:
    check(typed_model(**{"n_types": 2, **TYPED[case]}), "too many" in case, monkeypatch)


@pytest.mark.parametrize("case", [case for case in TYPED if "strip" in case])
def test_one_table_for_all_pairs(case: str, monkeypatch) -> None:
    model = typed_model(**{"n_types": 2, **TYPED[case]})
    check(compress(model, min_distance=0.9), False, monkeypatch)


@pytest.mark.parametrize("case", [case for case in CASES if "too many" in case])
def test_lanes_in_any_order_choose_the_same(case: str, monkeypatch) -> None:
    """Where neighbours are left out, lanes read what others have written: barriers order them."""
    model = compress(model_of(case), min_distance=0.9)
    results = []
    for seed in (0, 1, 2):

        def make(_index: int, seed: int = seed) -> EmulatedDevice:
            return EmulatedDevice(seed=seed)

        monkeypatch.setattr(cuda_device, "CudaDevice", make)
        potential = Potential(model, backend="gpu", sel="ignore", table="ignore")
        results.append(potential.evaluate(*crowded()))
    for result in results[1:]:
        assert result.energy == results[0].energy
        np.testing.assert_array_equal(result.forces, results[0].forces)


@pytest.mark.parametrize("spacing", [1.3, 1.7])
def test_which_neighbours_are_as_near_does_not_depend_on_the_compiler(
    spacing: float, monkeypatch
) -> None:
    """In a crystal, whose shells differ by rounding alone: products and sums are not contracted."""
    monkeypatch.setitem(CASES, "crystal", {"sel_t": np.array([7, 11])})
    grid = np.stack(np.meshgrid(*[np.arange(6)] * 3), -1).reshape(-1, 3)
    types = np.random.default_rng(4).integers(0, 2, len(grid))
    crystal = spacing * grid, types, 6 * spacing * np.eye(3)
    check(model_of("crystal"), True, monkeypatch, crystal)


def crowded() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions, types and cell with more neighbours than slots, if these are few."""
    rng = np.random.default_rng(2)
    cell = np.diag([7.0, 7.5, 8.0])
    grid = np.stack(np.meshgrid(*[np.arange(4)] * 3), -1).reshape(-1, 3)
    positions = (grid + rng.uniform(-0.2, 0.2, grid.shape)) / 4 @ cell
    return positions, rng.integers(0, 2, len(positions)), cell


def check(model: DeepPotential, overflows: bool, monkeypatch, atoms: Any = None) -> None:
    """As the reference has it, in a crowded cell or for other atoms."""
    monkeypatch.setattr(cuda_device, "CudaDevice", lambda _index: EmulatedDevice())
    arguments = atoms or crowded()
    potentials = [
        Potential(model, backend=backend, sel="ignore", table="ignore")
        for backend in ("reference", "gpu")
    ]
    expected, found = (potential.evaluate(*arguments) for potential in potentials)
    for name in ("energy", "forces", "virial", "atom_energies", "atom_virials"):
        # sums of some 60 neighbours' terms of order 1 to 100
        np.testing.assert_allclose(
            getattr(found, name), getattr(expected, name), rtol=1e-11, atol=1e-10
        )
    totals = [potential.watch.totals for potential in potentials]
    assert totals[0] == totals[1]
    assert (totals[0]["sel"] > 0) is overflows
