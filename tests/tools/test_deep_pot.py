"""DeepPot as the yardstick of ``lmp-dp check``."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from conftest import INPUTS, needs_deepmd, source_graph
from lmp_dp import Potential
from lmp_dp.tools import deep_pot
from lmp_dp.tools.check import run_check
from lmp_dp.tools.lammps_frames import Frames
from lmp_dp.tools.requirements import ComparisonError

CELL = np.array([[9.0, 0.0, 0.0], [0.5, 9.5, 0.0], [0.3, -0.4, 10.0]])


@needs_deepmd
def test_its_values_are_those_of_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a graph, which needs no PyTorch; LAMMPS types are not the model's, and one is NULL."""
    monkeypatch.setattr(deep_pot, "as_deepmd_takes_it", lambda source, *_: source)
    rng = np.random.default_rng(2)
    grid = np.stack(np.meshgrid(*[np.arange(3)] * 3, indexing="ij"), -1).reshape(-1, 3) / 3
    positions_zac = (grid @ CELL)[None] + rng.uniform(-0.3, 0.3, (2, 27, 3))
    types_a = (np.arange(27) % 3 + 1).astype(np.int32)
    frames = Frames(types_a, np.ones(3), positions_zac, np.stack([CELL, 1.02 * CELL]))
    source = source_graph("oh_two_sided")
    found = deep_pot.evaluate(frames, source, ["H", "NULL", "O"])
    seen_a = types_a != 2
    model_types_a = np.where(types_a == 1, 1, 0)[seen_a]
    potential = Potential(source, backend="reference")
    for z in range(2):
        result = potential.evaluate(positions_zac[z][seen_a], model_types_a, frames.cells_zcc[z])
        assert abs(found.energies_z[z] - result.energy) < 1e-9
        assert np.abs(found.forces_zac[z][seen_a] - result.forces).max() < 1e-9
        assert not found.forces_zac[z][~seen_a].any()
        assert np.abs(found.atom_energies_za[z][seen_a] - result.atom_energies).max() < 1e-10
        expected_u = result.virial[[0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]]
        assert np.abs(found.virials_zu[z] - expected_u).max() < 1e-8
    with pytest.raises(ComparisonError, match="has no N, only"):
        deep_pot.evaluate(frames, source, ["H", "N", "O"])


@needs_deepmd
@pytest.mark.skipif(importlib.util.find_spec("torch") is not None, reason="PyTorch is installed")
@pytest.mark.parametrize("name", ["v3_a_one_sided", "v3_a_two_sided"])
def test_without_pytorch_it_says_so(name: str) -> None:
    source, data = source_graph(name), INPUTS / "water192.data"
    with pytest.raises(ComparisonError, match="needs PyTorch"):
        run_check([source], source, data, elements=["O", "H"])
    with pytest.raises(ComparisonError, match="makes no runs: leave out --md"):
        run_check([source], source, data, elements=["O", "H"], steps=10)


def test_which_models_are_its() -> None:
    assert all(deep_pot.is_for(Path(f"a.{suffix}")) for suffix in ("pth", "dp", "yaml", "yml"))
    assert not any(deep_pot.is_for(name) for name in ("a.pb", "a.pbtxt", "reference", "a.h5"))
