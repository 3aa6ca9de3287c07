"""se_atten with layers of attention on the cpu, against the reference and finite differences.

The reference is tested against DeePMD-kit (tests/engine/reference, and the recorded models).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cuda_emulation.emulated_device import EmulatedDevice
from engine.typed_models import RCUT, net, typed_model
from lmp_dp import Potential
from lmp_dp.engine.gpu import device as cuda_device
from lmp_dp.errors import BackendError
from lmp_dp.model import DeepPotential
from lmp_dp.model.descriptors.se_atten import Attention, AttentionLayer, SeAtten
from lmp_dp.model.precision import cast
from lmp_dp.tools.tolerances import EXACT
from parity import FLOAT32


def attended(
    rules: str = "TF",
    *,
    n_layers: int = 2,
    width: int = 10,
    dotr: bool = True,
    normalize: bool = True,
    scale: float = 1.0,
    fading: bool = False,
    masks: bool = False,
    dtype: str = "float64",
    **options: Any,
) -> DeepPotential:
    """A model of `typed_model` with attention that fades if it is `fading`."""
    rng = np.random.default_rng(11)
    model = typed_model(rules=rules, dtype=dtype, **options)
    of = model.descriptor
    assert isinstance(of, SeAtten)
    n_m = of.n_channels

    def linear(n_in: int, n_out: int):
        layer = net(rng, dtype, n_in, n_out, activation="linear").layers[0]
        return replace(net(rng, dtype, n_in, n_out), layers=(replace(layer, joins="replace"),))

    layers = tuple(
        AttentionLayer(
            *(linear(n_m, width) for _ in range(3)),
            out=linear(width, n_m),
            gamma_m=rng.normal(1.0, 0.3, n_m).astype(dtype),
            beta_m=rng.normal(0.0, 0.3, n_m).astype(dtype),
        )
        for _ in range(n_layers)
    )
    epsilon = 1e-3 if rules == "TF" else 1e-5
    attention = Attention(layers, dotr, normalize, scale, epsilon, fading, masks)
    radius = 0.7 if rules == "TF" and (fading or of.nets.smooth) else None
    return replace(model, descriptor=replace(of, attention=attention, fade_radius=radius))


MODELS: dict[str, dict[str, Any]] = {
    "concat": dict(davg=0.3),
    "one layer": dict(davg=0.3, n_layers=1, dotr=False, n_types=2),
    "three layers": dict(davg=0.3, n_layers=3, one_side=True, n_types=1),
    "wide": dict(davg=0.3, width=35, widths=(4, 8, 20), scale=0.3, n_types=2),
    "strip": dict(davg=0.3, strip=True, excluded=((0, 2),)),
    "strip smooth": dict(davg=0.3, strip=True, smooth=True, fading=True),
    "only gates fade": dict(davg=0.3, strip=True, smooth=True, n_types=2),
    "only weights fade": dict(davg=0.3, strip=True, fading=True, n_types=2),
    "excluded": dict(strip=True, smooth=True, fading=True, excluded=((0, 1), (2, 2))),
    "without diagonal": dict(davg=0.3, masks=True),
    "without diagonal, smooth": dict(fading=True, masks=True, dotr=False),
    "not normalised": dict(normalize=False, scale=0.2, fading=True),
    "joined": dict(widths=(14, 14), davg=0.3, activation="silu"),
    "DP": dict(rules="DP", fading=True, scale=10**-0.5, excluded=((0, 1),)),
    "DP strip": dict(rules="DP", strip=True, smooth=True, fading=True, davg=0.3, protection=0.1),
    "DP sharp": dict(rules="DP", dotr=False, normalize=False, scale=0.7),
    "DP one element": dict(rules="DP", n_types=1, davg=0.3, fading=True),
    "overflow": dict(sel=9, davg=0.3),
    "overflow DP": dict(rules="DP", sel=9, fading=True, strip=True, smooth=True),
    "all excluded": dict(n_types=2, excluded=((0, 0), (0, 1), (1, 1))),
}  # fmt: skip
SMALL = np.array([[3.1, 0.0, 0.0], [0.5, 3.6, 0.0], [-0.4, 0.3, 5.0]])


def frames(n_types: int) -> list[tuple[np.ndarray, np.ndarray, Any]]:
    """Several chunks of atoms, a cell smaller than the cutoff, an open one, nobody in reach."""
    rng = np.random.default_rng(3)
    grid = np.stack(np.meshgrid(*[np.arange(3)] * 3), axis=-1).reshape(-1, 3) / 3 + 0.1
    big = np.diag([8.5, 9.0, 9.5])
    positions = (grid + rng.uniform(-0.08, 0.08, grid.shape)) @ big
    few = (np.array([[0, 0, 0], [0.5, 0.5, 0], [0.1, 0.4, 0.5]]) + 0.05) @ SMALL
    return [
        (positions, rng.permutation(np.arange(27) % n_types), big),
        (few, np.arange(3) % n_types, SMALL),
        (positions[:13], np.arange(13) % n_types, None),
        (np.array([[0.0, 0, 0], [0, 0, RCUT + 0.1]]), np.zeros(2, int), None),
    ]


def assert_the_same(one: Potential, two: Potential, limits, frames) -> None:
    energy, forces, virial, *_ = limits
    for positions, types, cell in frames:
        a, b = (of.evaluate(positions, types, cell) for of in (one, two))
        scale = max(1.0, np.abs(a.forces).max())
        np.testing.assert_allclose(
            b.atom_energies, a.atom_energies, rtol=0, atol=energy * max(1.0, abs(a.energy))
        )
        np.testing.assert_allclose(b.forces, a.forces, rtol=0, atol=forces * scale)
        np.testing.assert_allclose(b.virial, a.virial, rtol=0, atol=virial * scale)
        np.testing.assert_allclose(b.atom_virials, a.atom_virials, rtol=0, atol=virial * scale)


def potential(model: DeepPotential, backend: str = "cpu") -> Potential:
    return Potential(model, backend=backend, threads=1, sel="ignore")


@pytest.mark.parametrize("name", MODELS)
def test_the_cpu_gives_what_the_reference_gives(name: str) -> None:
    model = attended(**MODELS[name])
    of_frames = frames(len(model.type_map))
    assert_the_same(potential(model, "reference"), potential(model), EXACT, of_frames)
    forces = potential(model).evaluate(*of_frames[0]).forces
    assert (np.abs(forces).max() > 1e-3) == (name != "all excluded")


@pytest.mark.parametrize("name", ["concat", "strip smooth", "without diagonal", "DP", "DP strip"])
def test_in_single_precision(name: str) -> None:
    model = cast(attended(**MODELS[name]), "float32")
    exact = potential(cast(model, "float64"), "reference")
    assert_the_same(exact, potential(model), FLOAT32.values(), frames(len(model.type_map)))


@pytest.mark.parametrize("fading", [False, True])
def test_without_empty_slots(fading: bool) -> None:
    n = 14  # all atoms see each other
    rng = np.random.default_rng(4)
    positions = rng.uniform(0.0, RCUT / 3**0.5 - 0.05, (n, 3))
    of_frame = [(positions, np.arange(n) % 2, None)]
    found = []
    for sel in (n - 1, n + 5):
        model = attended(n_types=2, sel=sel, davg=0.3, fading=fading)
        of = replace(model.descriptor.environment, n_norm=n)
        model = replace(model, descriptor=replace(model.descriptor, environment=of))
        assert_the_same(potential(model, "reference"), potential(model), EXACT, of_frame)
        found.append(potential(model).evaluate(*of_frame[0]).energy)
    assert abs(found[0] - found[1]) > 1e-4  # empty slots are not nothing


def calm_frame(n_types: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """No pair is near the cutoff, where directions of sharp models turn at once."""
    shifts = np.stack(np.meshgrid(*[np.arange(-3, 4)] * 3), axis=-1).reshape(-1, 3) @ SMALL
    for seed in range(10000):
        positions = np.random.default_rng(seed).uniform(0.0, 1.0, (3, 3)) @ SMALL
        r_c = (positions[:, None, None] - positions[None, :, None] + shifts).reshape(-1, 3)
        r = np.sqrt((r_c * r_c).sum(axis=1))
        if (np.abs(r - RCUT) > 0.05).all() and np.sort(r)[3] > 1.0:
            return positions, np.arange(3) % n_types, SMALL
    raise AssertionError("no such frame")


SHARP_DP = dict(rules="DP", scale=0.7, davg=0.3, n_types=1)


@pytest.mark.parametrize("name", [*MODELS, "DP sharp, directions"])
def test_forces_and_virial_are_derivatives(name: str) -> None:
    model = attended(**MODELS.get(name, SHARP_DP))
    positions, types, cell = calm_frame(len(model.type_map))
    of = potential(model)
    result = of.evaluate(positions, types, cell)
    rng = np.random.default_rng(5)
    scale = max(1.0, np.abs(result.forces).max())

    def slope(moved) -> float:
        """Of the energy; error of order step^4 = 1e-16 times the fifth derivative."""
        step = 1e-4
        e = [of.evaluate(*moved(k * step)).energy for k in (-2, -1, 1, 2)]
        return (e[0] - 8 * e[1] + 8 * e[2] - e[3]) / (12 * step)

    along_ac = rng.normal(size=positions.shape)
    found = slope(lambda d: (positions + d * along_ac, types, cell))
    # rounding of energies of order 10 over the step
    tolerance = 1e-8 * scale
    assert found == pytest.approx(-(result.forces * along_ac).sum(), rel=0, abs=tolerance)
    strain_cc = rng.normal(size=(3, 3))
    found = slope(
        lambda d: (positions + d * positions @ strain_cc, types, cell + d * cell @ strain_cc)
    )
    expected = -(result.virial * strain_cc.T).sum()
    assert found == pytest.approx(expected, rel=0, abs=10 * tolerance)


def test_threads_make_no_difference() -> None:
    model = attended(davg=0.3, dtype="float32")
    of_frame = frames(3)[0]
    one, three = (Potential(model, backend="cpu", threads=n, sel="ignore") for n in (1, 3))
    np.testing.assert_array_equal(one.evaluate(*of_frame).forces, three.evaluate(*of_frame).forces)


def test_the_gpu_refuses_it_by_name(monkeypatch) -> None:
    monkeypatch.setattr(cuda_device, "CudaDevice", lambda _index: EmulatedDevice())
    with pytest.raises(BackendError, match=r"backend gpu.*se_atten.*Attention.*backend cpu"):
        Potential(attended(), backend="gpu")
