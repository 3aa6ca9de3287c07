"""Compressed models: against their own networks, convergence with the step, every backend."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from conftest import TRAINED, recorded_frames
from lmp_dp import Potential
from lmp_dp.errors import InputError, RangeError
from lmp_dp.model import DeepPotential, Layer, Network, load, save
from lmp_dp.model.precision import cast
from lmp_dp.tools.compress import compress
from small_model import small_model

BACKENDS = ("reference", "cpu")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", TRAINED)
def test_agrees_with_the_networks(name: str, backend: str, compressed, request) -> None:
    networks = Potential(request.getfixturevalue(f"{name}_model"), backend="reference")
    tables = Potential(compressed[name], backend=backend, table="error")
    for frame in recorded_frames(name):
        exact = networks.evaluate(frame.positions, frame.types, frame.cell)
        found = tables.evaluate(frame.positions, frame.types, frame.cell)
        assert abs(found.energy - exact.energy) <= 1e-8 * len(frame.types)
        np.testing.assert_allclose(found.forces, exact.forces, rtol=0, atol=1e-6)
        np.testing.assert_allclose(found.virial, exact.virial, rtol=0, atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "name", ["hco_exclude_one_sided", "hea_one_sided", "hco_exclude_two_sided", "oh_exclude_all"]
)
def test_one_sided_and_excluded_types(name: str, backend: str, converted) -> None:
    """Shared tables, blocks without a table, padding with non-zero davg; by the drop of nets."""
    model = load(converted(name))
    small = compress(model, min_distance=0.5, drop_networks=True)
    assert small.descriptor.nets.embeddings == ()
    for frame in recorded_frames(name):
        exact = Potential(model, backend="reference").evaluate(
            frame.positions, frame.types, frame.cell
        )
        found = Potential(small, backend=backend).evaluate(frame.positions, frame.types, frame.cell)
        assert found.energy == pytest.approx(exact.energy, abs=1e-8 * len(frame.types))
        np.testing.assert_allclose(found.forces, exact.forces, rtol=0, atol=1e-6)


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_shared_nets_stay_shared(precision: str, converted, tmp_path: Path) -> None:
    """Six nets for the 36 pairs of a one-sided model, through cast, compress, save and load."""
    model = cast(load(converted("hea_one_sided")), precision)
    found = compress(model, min_distance=0.5, tolerance=1e-6)
    assert len(found.tables) == len(found.descriptor.nets.embeddings) == 6
    save(found, tmp_path / "model.h5")
    again = load(tmp_path / "model.h5")
    frame = recorded_frames("hea_one_sided")[0]
    for backend in BACKENDS:
        one, two = (
            Potential(m, backend=backend, threads=1, sel="ignore", table="ignore").evaluate(
                frame.positions, frame.types, frame.cell
            )
            for m in (found, again)
        )
        assert one.energy == two.energy
        np.testing.assert_array_equal(one.forces, two.forces)


@pytest.mark.parametrize("backend", BACKENDS)
def test_forces_are_the_derivative_of_the_tabulated_energy(backend: str, compressed) -> None:
    """To finite-difference accuracy (see test_derivatives), also where tables are coarse."""
    frame = next(f for f in recorded_frames("hea") if f.name.endswith("small"))
    potential = Potential(compressed["hea"], backend=backend)
    forces = potential.evaluate(frame.positions, frame.types, frame.cell).forces
    for c in range(3):
        energies = []
        for sign in (1, -1):
            moved = frame.positions.copy()
            moved[0, c] += sign * 1e-4
            energies.append(potential.evaluate(moved, frame.types, frame.cell).energy)
        assert forces[0, c] == pytest.approx(-(energies[0] - energies[1]) / 2e-4, abs=1e-5)


def with_one_net(model: DeepPotential, centre: int, neighbour: int) -> DeepPotential:
    """The net of one pair for all pairs."""
    d = model.descriptor
    one = (d.nets.embeddings[d.nets.net_tt[centre, neighbour]],)
    nets = dataclasses.replace(d.nets, net_tt=np.zeros_like(d.nets.net_tt), embeddings=one)
    return dataclasses.replace(model, descriptor=dataclasses.replace(d, nets=nets))


#: Of water's nets that with the largest errors.
@pytest.mark.parametrize(("name", "pair"), [("cu", (0, 0)), ("water", (0, 1))])
def test_error_falls_as_the_fifth_power_of_the_step(name: str, pair, request) -> None:
    """Hermite quintics: error h^6; at least h^5 between 0.1, 0.03 and 0.01, until round-off."""
    model = with_one_net(load(request.getfixturevalue(f"{name}_model")), *pair)
    errors = []
    steps = (0.1, 0.03, 0.01, 0.003)
    for step in steps:
        tabulated = compress(model, step=step, tolerance=1e-15)
        errors.append(max(t.error for t in tabulated.tables))
    round_off = 1e-12  # some 10^3 units in the last place of G of order 1, from the basis change
    for (h1, e1), (h2, e2) in zip(
        zip(steps, errors, strict=True), list(zip(steps, errors, strict=True))[1:], strict=False
    ):
        assert e2 <= max(e1 * (h2 / h1) ** 5 * 1.5, round_off), errors
    assert errors[-1] <= round_off


def test_tolerance_is_kept(water_model: Path) -> None:
    model = load(water_model)
    largest = 3.0  # of |G| of these nets
    for tolerance in (1e-5, 1e-7, 1e-9):
        tables = compress(model, tolerance=tolerance).tables
        # basis and pieces contribute one tolerance each, sums over channels a little more
        assert max(t.error for t in tables) <= 5 * tolerance * largest
    assert sum(t.coefficients_veq.nbytes for t in tables) < 2e6  # all four fit the L2 cache


def test_a_net_that_is_zero() -> None:
    """As a relu net may be everywhere: a table needs a row nevertheless."""
    model = small_model()
    dead = Network((Layer(np.zeros((1, 6)), -np.ones(6), None, "relu", "replace"),))
    nets = model.descriptor.nets
    nets = dataclasses.replace(nets, embeddings=(dead, nets.embeddings[1]))
    model = dataclasses.replace(model, descriptor=dataclasses.replace(model.descriptor, nets=nets))
    tabulated = compress(model)
    assert tabulated.tables[0].rank == 1
    positions = np.random.default_rng(0).uniform(0, 4, (6, 3))
    for backend in ("cpu", "reference"):
        energy, expected = (
            Potential(m, backend=backend, sel="ignore", table="ignore")
            .evaluate(positions, [0, 1, 0, 1, 0, 1])
            .energy
            for m in (tabulated, model)
        )
        assert energy == pytest.approx(expected, rel=1e-7)


def test_float32_tables(compressed) -> None:
    frame = next(f for f in recorded_frames("water") if f.name.endswith("periodic"))
    for backend in BACKENDS:
        potential = Potential(compressed["water"], backend=backend, precision="float32")
        forces = potential.evaluate(frame.positions, frame.types, frame.cell).forces
        error = np.linalg.norm(forces - frame.forces) / np.linalg.norm(frame.forces)
        assert 1e-9 < error < 1e-4


@pytest.mark.parametrize("backend", BACKENDS)
def test_atoms_too_close_are_counted(backend: str, compressed) -> None:
    close = compressed["cu"].provenance.min_nbor_dist - 0.05
    positions = [[0.0, 0.0, 0.0], [close, 0.0, 0.0], [0.0, close + 1.0, 0.0]]
    potential = Potential(compressed["cu"], backend=backend)
    with pytest.warns(UserWarning, match="2 pairs of atoms are closer than the model's tables"):
        potential.evaluate(positions, [0, 0, 0])
    potential.evaluate(positions, [0, 0, 0])  # warned once, counted always
    assert potential.watch.totals == {"sel": 0, "table": 4}
    with pytest.raises(RangeError, match="stopped since 'table error' is set"):
        Potential(compressed["cu"], backend=backend, table="error").evaluate(positions, [0, 0, 0])


@pytest.mark.parametrize("backend", BACKENDS)
def test_too_many_neighbours_are_counted(backend: str, converted) -> None:
    frame = next(f for f in recorded_frames("oh_overflow") if f.name.endswith("periodic"))
    counts = []
    for name in BACKENDS:
        potential = Potential(converted("oh_overflow"), backend=name, sel="ignore")
        potential.evaluate(frame.positions, frame.types, frame.cell)
        counts.append(potential.watch.totals["sel"])
    assert counts[0] == counts[1] > 0
    potential = Potential(converted("oh_overflow"), backend=backend, sel="error")
    with pytest.raises(RangeError, match=f"{counts[0]} neighbours within the cutoff exceed"):
        potential.evaluate(frame.positions, frame.types, frame.cell)
    with pytest.raises(InputError, match="sel 'often' is unknown; choose warn, error, ignore"):
        Potential(converted("oh_overflow"), sel="often")
