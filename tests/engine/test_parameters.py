"""Models with parameters of the frame and of atoms (fparam, aparam).

That they agree with DeePMD-kit is in test_parity.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from conftest import Frame, recorded_frames
from lmp_dp import Potential, cli
from lmp_dp.errors import InputError, ModelFileError
from lmp_dp.model import DeepPotential, Layer, Network, load, save
from lmp_dp.model.file.container import seal
from lmp_dp.tools.compress import compress
from lmp_dp.tools.reference_frame import verify

BACKENDS = ("reference", "cpu")
NAMES = ("oh_fparam", "oh_aparam", "oh_fparam_aparam")
Converted = Callable[[str], Path]


def frame_of(name: str) -> Frame:
    return next(f for f in recorded_frames(name) if f.name.endswith("/triclinic"))


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_value_for_all_atoms(backend: str, converted: Converted) -> None:
    potential = Potential(converted("oh_fparam_aparam"), backend=backend)
    f = frame_of("oh_fparam_aparam")
    arguments = (f.positions, f.types, f.cell)
    energies = [
        potential.evaluate(*arguments, fparam=[1.5, 3.0], aparam=aparam).energy
        for aparam in (2.5, [2.5], np.full((len(f.types), 1), 2.5))
    ]
    assert energies[0] == energies[1] == energies[2]
    for other in ({"fparam": [1.6, 3.0], "aparam": 2.5}, {"fparam": [1.5, 3.0], "aparam": 2.6}):
        assert abs(potential.evaluate(*arguments, **other).energy - energies[0]) > 1e-3


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({}, "the model needs fparam: 2 values"),
        ({"fparam": [1, 2]}, "the model needs aparam: 1 values"),
        ({"fparam": 1.0, "aparam": 1.0}, r"fparam has shape \(\), expected \(2,\)$"),
        ({"fparam": [1, 2, 3], "aparam": 1.0}, r"fparam has shape \(3,\), expected \(2,\)$"),
        (
            {"fparam": [1, 2], "aparam": np.ones(16)},
            r"aparam has shape \(16,\), expected \(1,\) or \(16, 1\) or \(\)",
        ),
        ({"fparam": [1, np.nan], "aparam": 1.0}, r"fparam is not finite: \[1.0, nan\]"),
    ],
)
def test_unusable_parameters(converted: Converted, parameters: dict, message: str) -> None:
    potential = Potential(converted("oh_fparam_aparam"), backend="reference")
    f = frame_of("oh_fparam_aparam")
    with pytest.raises(InputError, match=message):
        potential.evaluate(f.positions, f.types, f.cell, **parameters)


def test_parameters_of_a_model_without_any(converted: Converted) -> None:
    potential = Potential(converted("oh_one_sided"), backend="reference")
    f = frame_of("oh_one_sided")
    with pytest.raises(InputError, match="fparam is given, but the model takes none"):
        potential.evaluate(f.positions, f.types, f.cell, fparam=1.0)


@pytest.mark.parametrize("name", NAMES)
def test_files_prove_themselves_and_say_what_they_take(
    name: str, converted: Converted, capsys: pytest.CaptureFixture[str]
) -> None:
    model = load(converted(name))
    for backend in BACKENDS:
        assert verify(model, backend)["passed"]
    assert cli.main(["info", str(converted(name)), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    for parameter in ("fparam", "aparam"):
        count = content[parameter]["count"] if content[parameter] else 0
        assert count == getattr(model.fitting, f"n_{parameter}")
        # made as 2 + k times numbers of spread 1
        if count:
            assert content[parameter]["mean"] == pytest.approx([2] * count, abs=1.5)
            assert content[parameter]["spread"][-1] == pytest.approx(count, rel=0.6)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", NAMES)
def test_compressed(name: str, backend: str, converted: Converted) -> None:
    model = load(converted(name))
    f = frame_of(name)
    arguments = (f.positions, f.types, f.cell, True, f.fparam, f.aparam)
    exact = Potential(model, backend="reference").evaluate(*arguments)
    tables = Potential(compress(model), backend=backend).evaluate(*arguments)
    # float64: tables are made for 1e-9 of G; float32: 50 units in the last place (6e-8)
    tolerance = 3e-6 if model.precision == "float32" else 1e-6
    np.testing.assert_allclose(tables.forces, exact.forces, rtol=0, atol=tolerance)
    np.testing.assert_allclose(tables.atom_energies, exact.atom_energies, rtol=0, atol=tolerance)


def linear(model: DeepPotential) -> DeepPotential:
    """The model with fitting nets of one linear layer: that of the sum of the first layer."""
    first = [net.layers[0] for net in model.fitting.nets]
    nets = tuple(
        Network(
            (
                Layer(
                    layer.weight_io.sum(axis=1, keepdims=True),
                    layer.bias_o[:1],
                    None,
                    "linear",
                    "replace",
                ),
            )
        )
        for layer in first
    )
    return dataclasses.replace(model, fitting=dataclasses.replace(model.fitting, nets=nets))


def test_linear_fitting_nets(converted: Converted) -> None:
    """E is linear in the parameters, with the nets' weights as slopes."""
    model = linear(load(converted("oh_fparam_aparam")))
    f = frame_of("oh_fparam_aparam")
    arguments = (f.positions, f.types, f.cell, True)
    one, two = (
        Potential(model, backend=b).evaluate(*arguments, f.fparam, f.aparam) for b in BACKENDS
    )
    np.testing.assert_allclose(two.atom_energies, one.atom_energies, rtol=0, atol=1e-12)
    np.testing.assert_allclose(two.forces, one.forces, rtol=0, atol=1e-12)
    moved = Potential(model, backend="cpu").evaluate(
        *arguments, f.fparam + np.array([0.0, 0.5]), f.aparam
    )
    slopes = [net.layers[0].weight_io[-2, 0] for net in model.fitting.nets]  # D, two of f, one of a
    slope_a = np.where(model.fitting.subtract_vacuum_t, 0.0, slopes)[f.types]
    difference = 0.5 * model.fitting.fparam_istd_f[1] * slope_a
    np.testing.assert_allclose(
        moved.atom_energies - one.atom_energies, difference, rtol=0, atol=1e-12
    )


def test_written_and_read(converted: Converted, tmp_path: Path) -> None:
    model = load(converted("oh_fparam_aparam"))
    save(model, tmp_path / "again.h5")
    again = load(tmp_path / "again.h5")
    for name in ("fparam_avg_f", "fparam_istd_f", "aparam_avg_f", "aparam_istd_f"):
        np.testing.assert_array_equal(getattr(again.fitting, name), getattr(model.fitting, name))
    assert again.reference_frame is not None
    np.testing.assert_array_equal(again.reference_frame.aparam_af, model.reference_frame.aparam_af)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("fitting/fparam_avg_f", None, "avg and istd of fparam must be finite and equally many"),
        ("fitting/aparam_istd_f", [np.inf], "avg and istd of aparam must be finite"),
        ("fitting/aparam_istd_f", [1.0, 2.0], "avg and istd of aparam must be .* equally many"),
        ("reference_frame/fparam_f", [1.0], "reference_frame: fparam does not fit the model"),
        ("reference_frame/aparam_af", np.ones((2, 1)), "reference_frame: aparam does not fit"),
        (
            "reference_frame/aparam_af",
            None,
            "reference_frame/aparam_af is missing, of which the nets take 1",
        ),
    ],
)
def test_damaged_files_are_refused(
    place: str, value: object, message: str, converted: Converted, tmp_path: Path
) -> None:
    path = tmp_path / "damaged.h5"
    path.write_bytes(converted("oh_fparam_aparam").read_bytes())
    with h5py.File(path, "a") as file:
        del file[place]
        if value is not None:
            file[place] = value
    seal(path)
    with pytest.raises(ModelFileError, match=message):
        load(path)


def test_a_model_stripped_of_its_parameters_is_refused(
    converted: Converted, tmp_path: Path
) -> None:
    path = tmp_path / "stripped.h5"
    path.write_bytes(converted("oh_fparam").read_bytes())
    with h5py.File(path, "a") as file:
        del file["fitting/fparam_avg_f"], file["fitting/fparam_istd_f"]
    seal(path)
    with pytest.raises(ModelFileError, match=r"takes 33 values, .* gives 32 and there are 0 param"):
        load(path)


def test_pairs_of_models_with_parameters_are_refused(converted: Converted) -> None:
    potential = Potential(converted("oh_fparam"))
    with pytest.raises(InputError, match="needs fparam or aparam, which pairs do not have"):
        potential.pair_gradients(np.ones((1, 3)), np.array([0]), np.array([0]), np.array([1]))
