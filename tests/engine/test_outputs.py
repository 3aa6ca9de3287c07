"""Which outputs are asked for changes none of the numbers, and neither does asking twice."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from cuda_emulation.emulated_device import EmulatedDevice
from lmp_dp import Potential
from lmp_dp.engine import Outputs, periodic
from lmp_dp.engine.gpu import device as cuda_device
from lmp_dp.tools.compress import compress
from small_model import small_model

NAMES = ("virial", "atom_energies", "atom_virials")
FIELDS = {
    "virial": "virial_cc",
    "atom_energies": "atom_energies_a",
    "atom_virials": "atom_virials_acc",
}


@pytest.mark.parametrize("with_tables", [False, True])
@pytest.mark.parametrize("backend", ["reference", "cpu", "gpu"])
def test_combinations_of_outputs(backend: str, with_tables: bool, monkeypatch) -> None:
    monkeypatch.setattr(cuda_device, "CudaDevice", lambda _index: EmulatedDevice())
    model = compress(small_model(), tolerance=1e-3) if with_tables else small_model()
    potential = Potential(model, backend=backend, threads=1, sel="ignore", table="ignore")
    rng = np.random.default_rng(2)
    grid = np.stack(np.meshgrid(*[np.arange(3)] * 3, indexing="ij"), -1).reshape(-1, 3)
    positions = 2.0 * grid + rng.uniform(-0.3, 0.3, grid.shape)
    types = rng.integers(-1, 2, len(grid)).astype(np.int32)
    nb = periodic.build(positions, types, np.eye(3) * 6.0, model.rcut).neighbourhood
    everything = potential.compute(nb, Outputs(*[True] * 3))
    assert np.abs(everything.forces_ac).max() > 0.01
    for flags in itertools.product([False, True], repeat=3):
        asked = dict(zip(NAMES, flags, strict=True))
        for _ in range(2):
            found = potential.compute(nb, Outputs(**asked))
            assert found.energy == everything.energy
            np.testing.assert_array_equal(found.forces_ac, everything.forces_ac)
            for name, field in FIELDS.items():
                if asked[name]:
                    np.testing.assert_array_equal(getattr(found, field), getattr(everything, field))
                else:
                    assert getattr(found, field) is None, name
    np.testing.assert_allclose(
        everything.atom_virials_acc.sum(axis=0), everything.virial_cc, rtol=0, atol=1e-10
    )
