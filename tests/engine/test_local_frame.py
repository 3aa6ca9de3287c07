"""loc_frame: forces by finite differences, both backends, and atoms that have no frame."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from lmp_dp import Potential
from lmp_dp.errors import InputError, ModelFileError
from lmp_dp.model import load, save
from lmp_dp.model.deep_potential import DeepPotential
from lmp_dp.model.descriptors.environment import Environment
from lmp_dp.model.descriptors.loc_frame import LocFrame
from lmp_dp.model.fitting import Fitting
from lmp_dp.model.network import Layer, Network

BACKENDS = ("reference", "cpu")
#: By name: angular and radial slots, and axes.
CASES = {
    "angular": ([12, 14], [0, 0], [[[0, 0, 0], [0, 1, 0]], [[0, 1, 1], [0, 0, 0]]]),
    "both": ([3, 4], [9, 10], [[[0, 0, 0], [0, 1, 1]], [[0, -3, 0], [0, -3, 1]]]),
    "radial_axes": ([4, 0], [8, 14], [[[1, 1, 0], [0, 0, 0]], [[1, -1, 0], [1, 1, 1]]]),
}


def model(case: str) -> DeepPotential:
    """A random one of two elements."""
    rng = np.random.default_rng(11)
    angular, radial, axes = CASES[case]
    sel_t = np.array(angular) + np.array(radial)
    n_out = 4 * sum(angular) + sum(radial)
    descriptor = LocFrame(
        environment=Environment(
            "TF", 6.0, 0.0, sel_t, int(sel_t.sum()), np.zeros((2, 4)), np.ones((2, 4)),
            np.zeros((2, 2), dtype=bool),
        ),
        angular_t=np.array(angular),
        axes_tuu=np.array(axes),
        davg_td=rng.uniform(0.0, 0.2, (2, n_out)),
        dstd_td=rng.uniform(0.1, 0.3, (2, n_out)),
    )  # fmt: skip

    def layer(n_in: int, n: int, activation: str) -> Layer:
        weight_io = rng.normal(size=(n_in, n)) / n_in**0.5
        return Layer(weight_io, rng.normal(size=n), None, activation, "replace")

    nets = tuple(Network((layer(n_out, 9, "tanh"), layer(9, 1, "linear"))) for _ in range(2))
    return DeepPotential(
        ("A", "B"), descriptor, Fitting(nets, rng.normal(size=2), np.zeros(2, dtype=bool))
    )


def cluster() -> tuple[np.ndarray, np.ndarray]:
    """Fourteen atoms that all see each other, in a cell that images of them are far away in."""
    rng = np.random.default_rng(4)
    grid = np.stack(np.meshgrid([0, 1, 2], [0, 1, 2], [0, 1], indexing="ij"), -1).reshape(-1, 3)
    return 1.2 * grid[:14] + rng.uniform(-0.2, 0.2, (14, 3)), np.arange(14) % 2


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", CASES)
def test_forces_and_virial_are_derivatives(case: str, backend: str) -> None:
    """Of positions and of strain, to what central differences leave."""
    potential = Potential(model(case), backend=backend, sel="ignore")
    positions, types = cluster()
    cell = 20.0 * np.eye(3)
    found = potential.evaluate(positions, types, cell)
    assert np.abs(found.forces).max() > 0.1
    np.testing.assert_allclose(found.forces.sum(axis=0), 0.0, atol=1e-12)
    h = 1e-5

    def energy(moved: np.ndarray, of_cell: np.ndarray) -> float:
        return potential.evaluate(moved, types, of_cell).energy

    for i, c in ((0, 0), (3, 1), (6, 2), (13, 0)):
        step = np.zeros_like(positions)
        step[i, c] = h
        slope = (energy(positions + step, cell) - energy(positions - step, cell)) / (2 * h)
        assert found.forces[i, c] == pytest.approx(-slope, abs=1e-8)
    for a, b in ((0, 0), (1, 2), (2, 1)):
        strain = np.zeros((3, 3))
        strain[a, b] = h
        ends = [
            energy(positions @ (np.eye(3) + sign * strain), cell @ (np.eye(3) + sign * strain))
            for sign in (1, -1)
        ]
        assert found.virial[a, b] == pytest.approx(-(ends[0] - ends[1]) / (2 * h), abs=1e-7)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", CASES)
def test_no_direction_is_special(case: str, backend: str) -> None:
    potential = Potential(model(case), backend=backend, sel="ignore")
    positions, types = cluster()
    turn, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))
    turn *= np.linalg.det(turn)  # a rotation: a mirror image has another D
    one = potential.evaluate(positions, types)
    two = potential.evaluate(positions @ turn.T, types)
    assert two.energy == pytest.approx(one.energy, abs=1e-11)
    np.testing.assert_allclose(two.forces, one.forces @ turn.T, rtol=0, atol=1e-10)


@pytest.mark.parametrize("backend", BACKENDS)
def test_opposite_neighbours_make_no_frame(backend: str) -> None:
    """The second axis gives way to its successor, as in DeePMD-kit."""
    potential = Potential(model("angular"), backend=backend, sel="ignore")
    positions = np.array(
        [[0.0, 0, 0], [1.1, 0, 0], [-1.0, 0, 0], [0, 1.3, 0.2], [0.2, 0, 1.5], [2.0, 2.0, 1.0]]
    )
    found = potential.evaluate(positions, [0, 0, 1, 1, 0, 1])
    assert np.isfinite(found.forces).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_atom_without_a_frame_is_named(backend: str) -> None:
    potential = Potential(model("angular"), backend=backend)
    with pytest.raises(InputError, match="have too few neighbours within 6 Å for a local frame"):
        potential.evaluate([[0.0, 0.0, 0.0]], [0])
    with pytest.raises(InputError, match="1 atoms of element 1 have too few"):
        potential.evaluate([[0.0, 0, 0], [1.0, 0, 0], [0, 1.0, 0]], [0, 0, 1])


def test_a_file_holds_it(tmp_path) -> None:
    made = model("both")
    save(made, tmp_path / "model.h5")
    again = load(tmp_path / "model.h5")
    positions, types = cluster()
    one, two = (
        Potential(of, backend="cpu", sel="ignore").evaluate(positions, types)
        for of in (made, again)
    )
    assert one.energy == two.energy


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"angular_t": np.array([13, 0])}, "found angular slots"),
        ({"axes_tuu": np.zeros((2, 2, 2), dtype=int)}, "axes have shape"),
        ({"axes_tuu": np.full((2, 2, 3), 2)}, "kind of an axis is 2"),
        ({"dstd_td": np.zeros((2, 104))}, "dstd holds 0.0"),
    ],
)
def test_what_cannot_be_is_refused(change: dict, message: str) -> None:
    with pytest.raises(ModelFileError, match=message):
        dataclasses.replace(model("angular").descriptor, **change)
