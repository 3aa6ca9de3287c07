"""Steps that are recorded, of models of all kinds: the same bits as unrecorded ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from cuda_emulation.emulated_device import EmulatedDevice
from engine.gpu.test_several_forms import hybrid
from engine.typed_models import typed_model
from lmp_dp.engine import Neighbourhood, Outputs, periodic
from lmp_dp.engine.gpu import engine as gpu
from lmp_dp.engine.gpu.device import CaptureRefused
from lmp_dp.model import DeepPotential
from lmp_dp.model.precision import cast
from lmp_dp.tools.compress import compress

EVERYTHING = Outputs(virial=True, atom_energies=True, atom_virials=True)


def mixed(descriptor: str) -> DeepPotential:
    """The descriptor in one precision, the fitting net in the other."""
    model = hybrid(tabulated=False)
    other = cast(model, "float32")
    one, two = (other, model) if descriptor == "float32" else (model, other)
    return dataclasses.replace(one, fitting=two.fitting)


KINDS: dict[str, Callable[[], DeepPotential]] = {
    "nets": lambda: typed_model(n_types=2),
    "gates that fade": lambda: typed_model(n_types=2, strip=True, smooth=True),
    "tables of gates that fade": lambda: compress(
        typed_model(n_types=2, strip=True, smooth=True), min_distance=0.9
    ),
    "several forms": lambda: hybrid(tabulated=False),
    "tables of several forms": lambda: hybrid(tabulated=True),
    "a descriptor in float32": lambda: mixed("float32"),
    "a fitting net in float32": lambda: mixed("float64"),
}


def steps(engine: gpu.GpuEngine, rcut: float) -> list:
    """Three steps on one list, each with other positions; a new list, and two more."""
    rng = np.random.default_rng(3)
    positions = rng.uniform(0.0, 8.0, (40, 3))
    types = (np.arange(40) % 2).astype(np.int32)
    nb: Neighbourhood = periodic.build(
        positions, types, 8.0 * np.eye(3), rcut + 1.0, lists=False
    ).neighbourhood
    nb.skin = 1.0
    results = []
    for build in (1, 1, 1, 2, 2):
        shift_ac = rng.uniform(-0.2, 0.2, nb.positions_ac.shape)
        moved = dataclasses.replace(nb, positions_ac=nb.positions_ac + shift_ac, build=build)
        results.append(engine.compute(moved, EVERYTHING))
    return results


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_bits_recorded_and_not(kind: str, monkeypatch) -> None:
    model = KINDS[kind]()
    engine = gpu.GpuEngine(model, EmulatedDevice())
    recorded = steps(engine, model.rcut)
    assert engine.device.recordings == 2
    monkeypatch.setattr(gpu, "GRAPH_CENTRES", 0)
    engine = gpu.GpuEngine(model, EmulatedDevice())
    for one, two in zip(recorded, steps(engine, model.rcut), strict=True):
        assert one.warning == two.warning == ""
        assert np.abs(one.forces_ac).max() > 0.1
        assert one.energy == two.energy
        for name in ("forces_ac", "virial_cc", "atom_energies_a", "atom_virials_acc"):
            np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    assert engine.device.recordings == 0


@pytest.mark.parametrize("replays", [0, 1])
def test_a_launch_that_is_refused(replays: int, monkeypatch) -> None:
    """At the first replay, as where memory for the graph is short, or later: no step is lost."""
    model = hybrid(tabulated=False)
    record = EmulatedDevice.record

    def refusing(self, work):
        replay, left = record(self, work), [replays]

        def launch() -> None:
            if not left[0]:
                raise CaptureRefused("cudaErrorMemoryAllocation")
            left[0] -= 1
            replay()

        return launch

    expected = steps(gpu.GpuEngine(model, EmulatedDevice()), model.rcut)
    monkeypatch.setattr(EmulatedDevice, "record", refusing)
    engine = gpu.GpuEngine(model, EmulatedDevice())
    found = steps(engine, model.rcut)
    assert engine.device.recordings == 1
    assert [result.warning != "" for result in found] == [k == 1 + replays for k in range(5)]
    assert "CUDA graph, small systems are slower: cudaErrorMemory" in found[1 + replays].warning
    for one, two in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.forces_ac, two.forces_ac)
