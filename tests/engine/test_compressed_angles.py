"""Compressed se_e3: against its own networks, convergence with the step, range, files."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lmp_dp import Potential
from lmp_dp.errors import InputError
from lmp_dp.model import DeepPotential, load, save
from lmp_dp.model.descriptors.se_e3 import SeE3
from lmp_dp.model.mapped import find_all
from lmp_dp.tools.compress import compress
from lmp_dp.tools.tolerances import COMPRESSED
from random_se_e3 import MODELS, RCUT, frames, random_se_e3
from small_model import assert_same

BACKENDS = ("reference", "cpu")
CLOSEST = 1.3  # Å: below all distances of the frames


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", MODELS)
def test_agrees_with_the_networks(name: str, backend: str) -> None:
    model = random_se_e3(8, **MODELS[name])
    networks = Potential(model, backend="reference", sel="ignore")
    small = compress(model, min_distance=CLOSEST, drop_networks=True)
    assert all(not part.nets.embeddings for part in small.descriptor.parts)
    tables = Potential(small, backend=backend, sel="ignore", table="error")
    for frame in frames(len(model.type_map)).values():
        exact = networks.evaluate(frame.positions, frame.types, frame.cell)
        found = tables.evaluate(frame.positions, frame.types, frame.cell)
        assert abs(found.energy - exact.energy) <= COMPRESSED.energy_per_atom * len(frame.types)
        np.testing.assert_allclose(found.forces, exact.forces, rtol=0, atol=COMPRESSED.force)
        np.testing.assert_allclose(found.virial, exact.virial, rtol=0, atol=COMPRESSED.virial)


def angles_of(model: DeepPotential) -> SeE3:
    (part,) = find_all(model, SeE3)
    return part


def test_error_falls_as_the_fifth_power_of_the_step() -> None:
    """Hermite quintics: error h^6, until round-off (G of order 1, e of order 10)."""
    steps = (0.3, 0.1, 0.03)
    model = random_se_e3(9, widths=(4, 8))
    errors = [
        max(t.error for t in compress(model, step=h, tolerance=1e-15, min_distance=1.6).tables)
        for h in steps
    ]
    for k in (1, 2):
        assert errors[k] <= max(errors[k - 1] * (steps[k] / steps[k - 1]) ** 5 * 1.5, 1e-12), errors
    assert errors[-1] <= 1e-7


def test_tolerance_is_kept() -> None:
    model = random_se_e3(10, widths=(5, 10, 20))
    for tolerance in (1e-5, 1e-7, 1e-9):
        tables = compress(model, tolerance=tolerance, min_distance=CLOSEST).tables
        # |G| is below 4 or so; basis and pieces contribute one tolerance each, and sums over
        # channels a little more
        assert max(t.error for t in tables) <= 5 * tolerance * 4.0


@pytest.mark.parametrize("backend", BACKENDS)
def test_neighbours_that_are_too_close_are_counted(backend: str) -> None:
    """One pair is, from both sides; e of any two neighbours is within the table otherwise."""
    model = compress(random_se_e3(11), min_distance=CLOSEST)
    positions = np.array([[0.0, 0.0, 0.0], [CLOSEST + 0.02, 0.0, 0.0], [0.0, 1.9, 0.0]])
    for close, expected in ((0.0, 0), (0.4, 2)):
        moved = positions - np.array([[0.0] * 3, [close, 0.0, 0.0], [0.0] * 3])
        potential = Potential(model, backend=backend, table="ignore")
        potential.evaluate(moved, [0, 0, 1])
        assert potential.watch.totals["table"] == expected


def test_beyond_the_fine_part_the_error_stays_in_proportion() -> None:
    """As stated for tables: by the twelfth power of what a pair is closer."""
    model = random_se_e3(11)
    tables = compress(model, min_distance=2.0)
    for distance in (1.9, 1.7, 1.5, 1.4):
        positions = [[0.0, 0.0, 0.0], [distance, 0.0, 0.0], [0.3, distance, 0.4]]
        exact, found = (
            Potential(m, backend="reference", table="ignore").evaluate(positions, [0, 1, 1])
            for m in (model, tables)
        )
        allowed = COMPRESSED.force * (2.0 / distance) ** 12
        np.testing.assert_allclose(found.forces, exact.forces, rtol=0, atol=allowed)


def test_a_file_holds_it(tmp_path: Path) -> None:
    model = compress(random_se_e3(12, with_se_e2_a=True), min_distance=CLOSEST, tolerance=1e-6)
    assert angles_of(model).nets.padding_ttm is None
    save(model, tmp_path / "model.h5")
    assert_same(load(tmp_path / "model.h5").descriptor, model.descriptor)


def too_steep(part: SeE3, factor: float) -> SeE3:
    first, *others = part.nets.embeddings
    layer = dataclasses.replace(first.layers[0], weight_io=factor * first.layers[0].weight_io)
    steep = dataclasses.replace(first, layers=(layer, *first.layers[1:]))
    return dataclasses.replace(
        part, nets=dataclasses.replace(part.nets, embeddings=(steep, *others))
    )


def far_means(part: SeE3) -> SeE3:
    environment = dataclasses.replace(
        part.environment, davg_tk=np.full_like(part.environment.davg_tk, 1e5)
    )
    return dataclasses.replace(part, environment=environment)


@pytest.mark.parametrize(
    ("change", "smallest"),
    [(lambda part: too_steep(part, 300.0), r"[01]\.[0-9]+"), (far_means, str(RCUT)[:1])],
)
def test_a_range_too_wide_for_tables_is_refused(change: Any, smallest: str) -> None:
    model = random_se_e3(13)
    model = dataclasses.replace(model, descriptor=change(angles_of(model)))
    with pytest.raises(InputError, match=rf"down to {smallest} Å only"):
        compress(model, min_distance=0.5)
