"""The table of tolerances: the contract's numbers, and how they grow with forces."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from conftest import MODELS, needs_deepmd
from lmp_dp.tools.convert import convert
from lmp_dp.tools.reference_frame import verify
from lmp_dp.tools.tolerances import COMPRESSED, EXACT, limits

FORCES = np.array([[3.0, 0.0, 0.0], [-3.0, 0.0, 0.0]])  # root mean square of components: sqrt(3)
VIRIAL = np.diag([50.0, -20.0, 1.0])


def test_float64_is_the_contract_whatever_the_forces() -> None:
    assert limits("exact", 6.0, 1e6 * FORCES, VIRIAL) == EXACT == (1e-10, 1e-9, 1e-8, 1e-9)
    assert limits("compressed", 6.0, FORCES, VIRIAL) == COMPRESSED == (1e-8, 1e-6, 1e-5, 1e-7)


def test_float32_grows_with_the_forces() -> None:
    found = limits("float32", 6.0, FORCES, VIRIAL)
    size = np.sqrt(3.0)
    assert found == pytest.approx((1e-5, 1e-4 * size, 1e-4 * size * np.sqrt(2.0) * 6.0, 1e-4))
    small = limits("float32", 6.0, 0.01 * FORCES, VIRIAL)
    assert small == pytest.approx((1e-5, 1e-4, 1e-4 * np.sqrt(2.0) * 6.0, 1e-4))


def test_half_precision_grows_with_the_largest() -> None:
    found = limits("half", 6.0, FORCES, VIRIAL)
    assert found == pytest.approx((4e-2, 4e-2 * 3.0, 4e-1 * 5.0, 4e-2))
    small = limits("half", 6.0, 0.01 * FORCES, 0.01 * VIRIAL)
    assert small == pytest.approx((4e-2, 4e-2, 4e-1, 4e-2))


@needs_deepmd
def test_a_proof_in_float32_does_not_grow(tmp_path) -> None:
    """Forces of 1000 eV/Å would allow 0.1 eV/Å to `check`."""
    model = convert(MODELS / "oh_float32.pb", tmp_path / "model.h5")
    frame = model.reference_frame
    assert frame is not None
    large = dataclasses.replace(frame, forces_ac=frame.forces_ac + 1000.0)
    found = verify(dataclasses.replace(model, reference_frame=large))
    assert found["tolerance"] == {"energy_per_atom": 1e-5, "force": 1e-3, "virial": 1e-2}
    assert not found["passed"]
