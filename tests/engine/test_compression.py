"""Compressed models: against their own networks, convergence with the step, every backend."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from conftest import TRAINED, needs_tensorflow, recorded_frames
from lmp_dp import Potential, cli
from lmp_dp.engine import jet, table
from lmp_dp.engine.activation import curvature, value_and_slope
from lmp_dp.engine.reduction import feature_count, reduce
from lmp_dp.errors import InputError, RangeError
from lmp_dp.model import Layer, Network, load, save
from lmp_dp.model.network import ACTIVATIONS
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


@needs_tensorflow
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "name", ["hco_exclude_one_sided", "hea_one_sided", "hco_exclude_two_sided", "oh_exclude_all"]
)
def test_one_sided_and_excluded_types(name: str, backend: str, converted) -> None:
    """Shared tables, blocks without a table, padding with non-zero davg; by the drop of nets."""
    model = load(converted(name))
    small = compress(model, min_distance=0.5, drop_networks=True)
    assert small.descriptor.embeddings == ()
    for frame in recorded_frames(name):
        exact = Potential(model, backend="reference").evaluate(
            frame.positions, frame.types, frame.cell
        )
        found = Potential(small, backend=backend).evaluate(frame.positions, frame.types, frame.cell)
        assert found.energy == pytest.approx(exact.energy, abs=1e-8 * len(frame.types))
        np.testing.assert_allclose(found.forces, exact.forces, rtol=0, atol=1e-6)


@needs_tensorflow
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_shared_nets_stay_shared(precision: str, converted, tmp_path: Path) -> None:
    """Six nets for the 36 pairs of a one-sided model, through cast, compress, save and load."""
    model = cast(load(converted("hea_one_sided")), precision)
    found = compress(model, min_distance=0.5, tolerance=1e-6)
    assert len(found.descriptor.tables) == len(found.descriptor.embeddings) == 6
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


@pytest.mark.parametrize("name", ["cu", "water"])
def test_error_falls_as_the_fifth_power_of_the_step(name: str, request) -> None:
    """Hermite quintics: error h^6; at least h^5 between 0.1, 0.03 and 0.01, until round-off."""
    model = load(request.getfixturevalue(f"{name}_model"))
    errors = []
    steps = (0.1, 0.03, 0.01, 0.003)
    for step in steps:
        tabulated = compress(model, step=step, tolerance=1e-15)
        errors.append(max(t.error for t in tabulated.descriptor.tables))
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
        tables = compress(model, tolerance=tolerance).descriptor.tables
        # basis and pieces contribute one tolerance each, sums over channels a little more
        assert max(t.error for t in tables) <= 5 * tolerance * largest
    assert sum(t.coefficients_pkr.nbytes for t in tables) < 2e6  # all four fit the L2 cache


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_curvature_is_the_derivative_of_the_slope(name: str) -> None:
    name = "silut:1.5" if name == "silut" else name
    z = np.linspace(-8, 8, 320) + 0.0031
    z = z[np.abs(z - 1.5) > 1e-3]
    if name.startswith("relu"):
        z = z[(np.abs(z) > 1e-3) & (np.abs(z - 6) > 1e-3)]
    step = 1e-5
    slope = [value_and_slope(name, z + s)[1] for s in (step, -step)]
    np.testing.assert_allclose(curvature(name, z), (slope[0] - slope[1]) / (2 * step), atol=1e-8)


@needs_tensorflow
@pytest.mark.parametrize("name", ["oh_two_sided", "oh_one_sided", "oh_overflow", "cu_tiny"])
def test_jets_of_networks(name: str, converted) -> None:
    """G, G', G'' of nets with time steps and joins, against differences (error h^2 and eps/h)."""
    net = load(converted(name)).descriptor.embeddings[0]
    s = np.linspace(-1, 4, 101) + 0.00123
    _, dg, ddg = jet.evaluate(net, s)
    plus, minus = (jet.evaluate(net, s + h) for h in (1e-5, -1e-5))
    np.testing.assert_allclose(dg, (plus[0] - minus[0]) / 2e-5, atol=1e-7)
    if name != "oh_two_sided":  # relu: no second derivative at kinks
        np.testing.assert_allclose(ddg, (plus[1] - minus[1]) / 2e-5, atol=1e-6)


def test_outside_of_the_table_is_a_straight_line(compressed) -> None:
    tabulated = compressed["cu"].descriptor.tables[0]
    beyond = tabulated.upper + np.array([1e-9, 1.0, 2.0])
    g, dg = table.forward(tabulated, beyond)
    np.testing.assert_allclose(g[2] - g[1], dg[0], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(dg[2], dg[0], rtol=1e-12)
    below = tabulated.lower - np.array([1e-9, 1.0])
    g, dg = table.forward(tabulated, below)
    np.testing.assert_allclose(g[0] - g[1], dg[0], rtol=1e-6, atol=1e-9)


def test_features_and_folded_weights_give_the_first_layer(compressed) -> None:
    """z = D W directly, and by features S_ab and folded weights."""
    rng = np.random.default_rng(6)
    d = compressed["water"].descriptor
    basis = np.concatenate([t.basis_rm for t in (d.table(0, 0), d.table(0, 1))])
    weight = rng.normal(size=(d.n_out, 7))
    reduction = reduce(d, basis, weight)
    b_kq = rng.normal(size=(4, len(basis)))
    t_km = b_kq @ basis / d.n_norm
    z = (t_km.T @ t_km[:, : d.axis_neuron]).ravel() @ weight
    c_kr = b_kq @ reduction.k_qr
    features = np.concatenate([(c_kr.T @ c_kr)[b, b:] for b in range(reduction.n_axis)])
    assert len(features) == feature_count(reduction.rank, reduction.n_axis)
    assert len(features) < 0.7 * d.n_out
    np.testing.assert_allclose(features @ reduction.weight_fo, z, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("compress_it", [False, True])
def test_results_do_not_depend_on_buffers_or_threads(
    compress_it: bool, compressed, water_model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bitwise: 1 and 2 threads, called twice, and with every buffer poisoned with NaN."""
    from lmp_dp.engine import cpu

    frame = next(f for f in recorded_frames("water") if f.name.endswith("periodic"))
    model = compressed["water"] if compress_it else load(water_model)
    arguments = (frame.positions, frame.types, frame.cell)
    plain = Potential(model, backend="cpu", threads=1)
    results = [plain.evaluate(*arguments), plain.evaluate(*arguments)]
    results.append(Potential(model, backend="cpu", threads=2).evaluate(*arguments))
    take = cpu._Worker._take

    def poisoned(self, name, shape, dtype):
        array = take(self, name, shape, dtype)
        array.view(np.uint8).fill(0xFF)  # NaN as a float, -1 as an int
        return array

    monkeypatch.setattr(cpu._Worker, "_take", poisoned)
    results.append(Potential(model, backend="cpu", threads=2).evaluate(*arguments))
    for result in results[1:]:
        assert result.energy == results[0].energy
        np.testing.assert_array_equal(result.forces, results[0].forces)
        np.testing.assert_array_equal(result.virial, results[0].virial)
        np.testing.assert_array_equal(result.atom_virials, results[0].atom_virials)


def test_a_net_that_is_zero() -> None:
    """As a relu net may be everywhere: a table needs a row nevertheless."""
    model = small_model()
    dead = Network((Layer(np.zeros((1, 6)), -np.ones(6), None, "relu", "replace"),))
    d = dataclasses.replace(model.descriptor, embeddings=(dead, model.descriptor.embeddings[1]))
    model = dataclasses.replace(model, descriptor=d)
    tabulated = compress(model)
    assert tabulated.descriptor.tables[0].rank == 1
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


@needs_tensorflow
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


@needs_tensorflow
def test_kinks_are_named(converted, tmp_path: Path, capsys) -> None:
    """oh_two_sided has relu; tanh nets give no warning."""
    for name, warned in (("oh_two_sided", True), ("cu_tiny", False)):
        arguments = [str(converted(name)), str(tmp_path / f"{name}.h5"), "--min-distance", "1.5"]
        assert cli.main(["compress", *arguments, "--tolerance", "1e-4"]) == 0
        assert ("relu has kinks" in capsys.readouterr().err) == warned


def test_command_and_file(cu_model: Path, tmp_path: Path, capsys) -> None:
    target = tmp_path / "small.h5"
    assert cli.main(["compress", str(cu_model), str(target), "--drop-networks"]) == 0
    assert "1 tables" in capsys.readouterr().out
    both = tmp_path / "both.h5"
    assert cli.main(["compress", str(cu_model), str(both)]) == 0
    capsys.readouterr()
    assert target.stat().st_size < both.stat().st_size
    assert cli.main(["info", str(target), "--verify", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["tables"]["count"] == 1
    assert content["tables"]["error_of_G"] < 2e-8
    assert content["embedding_net"] == []
    assert cli.main(["compress", str(target), str(tmp_path / "again.h5")]) == 2
    assert "keeps only tables" in capsys.readouterr().err
    one, two = load(target), tmp_path / "copy.h5"
    save(one, two)
    assert load(two).descriptor.tables[0].rank == one.descriptor.tables[0].rank


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_distance": 7.0}, "smallest distance is 7.0 Å, expected 0 < d < 6"),
        ({"tolerance": 2.0}, "tolerance is 2.0"),
        ({"step": 3.0}, "step is 3.0"),
    ],
)
def test_unusable_options(options, message: str, cu_model: Path) -> None:
    with pytest.raises(InputError, match=message):
        compress(load(cu_model), **options)


def test_unknown_smallest_distance(cu_model: Path) -> None:
    model = load(cu_model)
    model = dataclasses.replace(
        model, provenance=dataclasses.replace(model.provenance, min_nbor_dist=None)
    )
    with pytest.raises(InputError, match="give --min-distance"):
        compress(model)


def test_an_error_in_a_worker_does_not_block_later_evaluations(
    compressed, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lmp_dp.engine import cpu

    frame = next(f for f in recorded_frames("water") if f.name.endswith("periodic"))
    arguments = (frame.positions, frame.types, frame.cell)
    potential = Potential(compressed["water"], backend="cpu", threads=2)
    energy = potential.evaluate(*arguments).energy
    fit = cpu._Worker._fit

    def out_of_memory(self, *arguments):
        raise MemoryError("no memory left")

    for _ in range(6):  # more often than there are workers
        monkeypatch.setattr(cpu._Worker, "_fit", out_of_memory)
        with pytest.raises(MemoryError, match="no memory left"):
            potential.evaluate(*arguments)
        monkeypatch.setattr(cpu._Worker, "_fit", fit)
        assert potential.evaluate(*arguments).energy == energy
