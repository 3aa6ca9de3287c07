"""Type embedding on the cpu, against the reference: se_e2_a with it, se_atten without attention.

The reference is tested against DeePMD-kit (tests/engine/reference, and the recorded models).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cuda_emulation.emulated_device import EmulatedDevice
from engine.typed_models import typed_model
from lmp_dp import Potential
from lmp_dp.engine import present
from lmp_dp.engine.compression import compress
from lmp_dp.engine.gpu import device as cuda_device
from lmp_dp.engine.lowering import lower
from lmp_dp.model import DeepPotential
from lmp_dp.model.precision import cast

MODELS: dict[str, dict[str, Any]] = {
    "tebd concat": dict(kind="se_e2_a_tebd", davg=1.0, excluded=((0, 1),)),
    "tebd one side": dict(kind="se_e2_a_tebd", davg=1.0, one_side=True),
    "tebd strip": dict(kind="se_e2_a_tebd", davg=1.0, strip=True, excluded=((1, 1),)),
    "tebd joined": dict(kind="se_e2_a_tebd", davg=1.0, widths=(7, 14), activation="gelu"),
    "concat": dict(davg=1.0),
    "concat excluded": dict(davg=1.0, n_types=5, excluded=((0, 1), (2, 2)), one_side=True),
    "concat joined": dict(widths=(14, 14), rules="DP"),
    "concat DP": dict(rules="DP", n_types=5, excluded=((0, 1),), protection=0.1),
    "strip": dict(davg=1.0, strip=True, excluded=((0, 2),)),
    "strip one side": dict(rules="DP", strip=True, one_side=True, activation="silu"),
    "strip smooth": dict(davg=1.0, strip=True, smooth=True),
    "strip smooth excluded": dict(strip=True, smooth=True, excluded=((0, 1),), n_types=6),
    "strip smooth DP": dict(rules="DP", davg=1.0, strip=True, smooth=True, protection=0.1),
    "strip smooth DP excluded": dict(
        rules="DP", davg=1.0, strip=True, smooth=True, excluded=((0, 1), (1, 1))
    ),
    "one element": dict(n_types=1, davg=1.0, strip=True, rules="DP"),
    "all excluded": dict(n_types=2, davg=1.0, strip=True, excluded=((0, 0), (0, 1), (1, 1))),
    "overflow": dict(sel=12, davg=1.0, strip=True, smooth=True),
    "overflow DP": dict(sel=12, rules="DP", strip=True, excluded=((0, 2),)),
}  # fmt: skip
#: eV, eV/Å: 1e-16 of sums of some 60 slots of G up to 10 and rows up to 10 (they are divided by
#: dstd), squared, and divided by few slots at overflow. The contract allows forces ten times that.
ROUND_OFF = 1e-10
STRIPPED = [name for name in MODELS if MODELS[name].get("strip")]


def frames(n_types: int) -> list[tuple[np.ndarray, np.ndarray, Any]]:
    """A cell of several cutoffs, one that is smaller than one, an open one, and an atom alone."""
    rng = np.random.default_rng(3)
    small = np.array([[3.1, 0.0, 0.0], [0.5, 3.6, 0.0], [-0.4, 0.3, 5.0]])
    grid = np.stack(np.meshgrid(*[np.arange(4)] * 3), axis=-1).reshape(-1, 3) / 4 + 0.1
    big = np.diag([9.0, 9.5, 10.0])
    positions = (grid + rng.uniform(-0.06, 0.06, grid.shape)) @ big
    few = (np.array([[0, 0, 0], [0.5, 0.5, 0], [0.1, 0.4, 0.5]]) + 0.05) @ small
    return [
        (positions, rng.permutation(np.arange(64) % n_types), big),
        (few, np.arange(3) % n_types, small),
        (positions[:20], np.arange(20) % n_types, None),
        (positions[:1], np.zeros(1, int), None),
    ]


def deviations(one: Potential, two: Potential, n_types: int) -> dict[str, float]:
    worst = {"energy": 0.0, "forces": 0.0, "virial": 0.0}
    for positions, types, cell in frames(n_types):
        a, b = (of.evaluate(positions, types, cell) for of in (one, two))
        assert np.isfinite(b.forces).all()
        found = {
            "energy": np.abs(a.atom_energies - b.atom_energies).max(),
            "forces": np.abs(a.forces - b.forces).max(),
            "virial": np.abs(a.atom_virials - b.atom_virials).max(),
        }
        worst = {name: max(worst[name], float(found[name])) for name in worst}
    return worst


def potentials(model: DeepPotential) -> tuple[Potential, Potential]:
    return tuple(Potential(model, backend=b, threads=1, sel="ignore") for b in ("reference", "cpu"))


@pytest.mark.parametrize("name", MODELS)
def test_the_cpu_gives_what_the_reference_gives(name: str) -> None:
    model = typed_model(**MODELS[name])
    worst = deviations(*potentials(model), len(model.type_map))
    assert max(worst.values()) < ROUND_OFF


@pytest.mark.parametrize("name", STRIPPED)
def test_one_table_for_all_pairs(name: str) -> None:
    model = typed_model(**MODELS[name])
    small = compress(model, min_distance=0.9, drop_networks=True)
    assert len(small.tables) == 1
    n_types = len(model.type_map)
    worst = deviations(*potentials(small), n_types)
    assert max(worst.values()) < ROUND_OFF
    reference, _ = potentials(model)
    _, tabulated = potentials(small)
    worst = deviations(reference, tabulated, n_types)
    assert max(worst.values()) < 1e-6  # what compression promises


@pytest.mark.parametrize("name", ["tebd concat", "concat", "strip smooth", "strip smooth DP"])
def test_in_single_precision(name: str) -> None:
    """Off by no more than rounding, which is measured: what the reference is off by in float32."""
    single = cast(typed_model(**MODELS[name]), "float32")
    n_types = len(single.type_map)
    exact = potentials(cast(single, "float64"))[0]
    of_reference, of_cpu = (deviations(exact, of, n_types) for of in potentials(single))
    found = [exact.evaluate(*frame) for frame in frames(n_types)]
    largest = {
        "energy": max(np.abs(of.atom_energies).max() for of in found),
        "forces": max(np.abs(of.forces).max() for of in found),
        "virial": max(np.abs(of.atom_virials).max() for of in found),
    }
    tabulated = (
        deviations(exact, potentials(compress(single, min_distance=0.9))[1], n_types)
        if (name in STRIPPED)
        else of_cpu
    )
    for quantity, value in largest.items():
        # another order of sums of some 60 slots, and a few units in the last place
        bound = 10.0 * (of_reference[quantity] + 2.0**-24 * value)
        assert of_cpu[quantity] < bound
        assert tabulated[quantity] < bound


@pytest.mark.parametrize("name", ["strip smooth DP", "concat DP"])
def test_of_many_elements_those_are_prepared_that_occur(name: str, monkeypatch) -> None:
    lowered: list[int] = []
    original = present.restricted

    def restricted(model: DeepPotential, elements_t: np.ndarray) -> DeepPotential:
        lowered.append(len(elements_t))
        return original(model, elements_t)

    monkeypatch.setattr(present, "restricted", restricted)
    model = typed_model(**{**MODELS[name], "n_types": 118, "excluded": ((40, 117),)})
    reference, cpu = potentials(model)
    positions, _, cell = frames(1)[0]
    rng = np.random.default_rng(5)
    for elements in ([7], [7, 117], [40, 7, 117], [7]):
        types = rng.choice(elements, len(positions))
        a, b = (of.evaluate(positions, types, cell) for of in (reference, cpu))
        np.testing.assert_allclose(b.forces, a.forces, rtol=0, atol=ROUND_OFF)
        np.testing.assert_allclose(b.atom_energies, a.atom_energies, rtol=0, atol=ROUND_OFF)
    # two for a start, and then one more, and one more, and one more
    assert lowered == [2, 3, 4, 5]


def test_models_of_all_elements_share_a_table() -> None:
    model = compress(typed_model(**{**MODELS["strip smooth"], "n_types": 118}), min_distance=0.9)
    moments = [lower(model, t).forms[0] for t in (0, 1)]
    functions = {id(block.functions) for moment in moments for block in moment.blocks}
    assert len(functions - {id(None)}) == 1
    reference, cpu = potentials(model)
    positions, types, cell = frames(3)[0]
    a, b = (of.evaluate(positions, 40 * types, cell) for of in (reference, cpu))
    np.testing.assert_allclose(b.forces, a.forces, rtol=0, atol=ROUND_OFF)


@pytest.mark.parametrize("name", MODELS)
def test_the_device_gives_what_the_reference_gives(name: str, monkeypatch) -> None:
    monkeypatch.setattr(cuda_device, "CudaDevice", lambda _index: EmulatedDevice())
    model = typed_model(**MODELS[name])
    models = [model]
    if name in STRIPPED:
        models.append(compress(model, min_distance=0.9))
    for of in models:
        gpu = Potential(of, backend="gpu", sel="ignore")
        worst = deviations(potentials(of)[0], gpu, len(model.type_map))
        assert max(worst.values()) < ROUND_OFF
