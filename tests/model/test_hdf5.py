"""The model file: what is written is read back; anything damaged is refused, never a crash."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from conftest import INPUTS, TRAINED, needs_tensorflow
from lmp_dp.errors import ModelFileError
from lmp_dp.model import (
    load,
    save,
)
from lmp_dp.model.hdf5 import SEAL_BYTES, seal
from lmp_dp.tools.compress import compress
from small_model import small_model


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save(small_model(), tmp_path / "model.h5")
    return tmp_path / "model.h5"


def assert_same(one, two) -> None:
    assert type(one) is type(two)
    if dataclasses.is_dataclass(one):
        for field in dataclasses.fields(one):
            assert_same(getattr(one, field.name), getattr(two, field.name))
    elif isinstance(one, tuple):
        assert len(one) == len(two)
        for a, b in zip(one, two, strict=True):
            assert_same(a, b)
    elif isinstance(one, np.ndarray):
        assert one.dtype == two.dtype
        np.testing.assert_array_equal(one, two)
    else:
        assert one == two


def test_round_trip(path: Path) -> None:
    assert_same(load(path), small_model())


def test_shipped_models_round_trip(cu_model: Path, tmp_path: Path) -> None:
    model = load(cu_model)
    save(model, tmp_path / "again.h5")
    assert_same(load(tmp_path / "again.h5"), model)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.attrs.__setitem__("format_version", 3), "version 3 found.*update lmp-dp"),
        (lambda f: f.attrs.__setitem__("format", "other"), "not a model of lmp_dp"),
        (lambda f: f.attrs.__delitem__("format"), "not a model of lmp_dp"),
        (lambda f: f.__delitem__("descriptor/sel_t"), "dataset /descriptor/sel_t is missing"),
        (lambda f: f.__delitem__("fitting/net_1"), "group /fitting/net_1 is missing"),
        (lambda f: f["descriptor"].attrs.__setitem__("type", "se_e3"), "'se_e3' found"),
        (lambda f: f["descriptor"].attrs.__setitem__("rcut", "x"), "@rcut has the unusable value"),
        (lambda f: f["descriptor"].attrs.__setitem__("rcut", 0.1), "need 0 <= rcut_smth < rcut"),
        (lambda f: f["descriptor"].attrs.__setitem__("axis_neuron", 7), "axis_neuron is 7"),
        (lambda f: f.__delitem__("descriptor/embedding/net_0"), "/embedding/net_0 is missing"),
        (lambda f: f["descriptor/net_tt"].__setitem__((0, 1), 2), "name each of 2 embedding nets"),
        (lambda f: f["descriptor/net_tt"].__setitem__((1, 1), 0), "name each of 2 embedding nets"),
        (lambda f: f["descriptor/net_tt"].__setitem__((0, 1), -2), "name each of 2 embedding nets"),
        (
            lambda f: f["fitting/net_0/layer_1"].attrs.__setitem__("joins", "double"),
            r"/fitting/net_0/layer_1: a layer 5 -> 5 cannot join its input 'double'",
        ),
        (
            lambda f: f["fitting/net_0/layer_0"].attrs.__setitem__("activation", "swish"),
            "unknown activation function 'swish'",
        ),
        (
            lambda f: f["fitting/net_0/layer_0/weight_io"].__setitem__((0, 0), np.nan),
            r"/fitting/net_0/layer_0: weight holds nan, expected finite",
        ),
    ],
)  # fmt: skip
def test_inconsistent_files_are_refused(path: Path, change, message: str) -> None:
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises(ModelFileError, match="the file is damaged"):
        load(path)
    seal(path)
    with pytest.raises(ModelFileError, match=message) as caught:
        load(path)
    assert str(path) in str(caught.value)


def as_version_1(path: Path, one_side: bool) -> None:
    """Rewrite a model file as the first version of the format had it."""
    with h5py.File(path, "r+") as file:
        group = file["descriptor"]
        net_tt = group["net_tt"][()]
        del group["net_tt"]
        file.attrs["format_version"] = 1
        group.attrs["type_one_side"] = one_side
        group["excluded_tt"] = net_tt < 0
        for kind in ("embedding", "table"):
            if kind in group:
                group.move(kind, "old")
                for (i, j), n in np.ndenumerate(net_tt):
                    name = f"{kind}/all_{j}" if one_side else f"{kind}/{i}_{j}"
                    if n >= 0 and name not in group:
                        group.copy(f"old/net_{n}", name)
                del group["old"]
    seal(path)


def test_version_1_is_read(path: Path) -> None:
    as_version_1(path, one_side=False)
    assert_same(load(path), small_model())


@needs_tensorflow
@pytest.mark.parametrize("name", ["hea_one_sided", "hco_exclude_one_sided"])
def test_version_1_shares_nets_by_name(name: str, converted, tmp_path: Path) -> None:
    model = compress(load(converted(name)), min_distance=0.8, tolerance=1e-3)
    assert model.descriptor.type_one_side
    path = tmp_path / "model.h5"
    save(model, path)
    as_version_1(path, one_side=True)
    assert_same(load(path), model)


@pytest.mark.parametrize("name", TRAINED)
def test_shipped_models_are_read_as_they_stand(name: str) -> None:
    """Version 1: every net of every pair, against the file's own datasets."""
    path = INPUTS / "models" / f"{name}.h5"
    d = load(path).descriptor
    with h5py.File(path) as file:
        assert file.attrs["format_version"] == 1
        group = file["descriptor/embedding"]
        assert len(group) == len(d.embeddings)
        for i, j in np.ndindex(d.net_tt.shape):
            net, layers = d.embedding(i, j), group[f"{i}_{j}"]
            assert len(net.layers) == len(layers)
            for k, layer in enumerate(net.layers):
                for key in ("weight_io", "bias_o", "idt_o"):
                    if getattr(layer, key) is None:
                        assert key not in layers[f"layer_{k}"]
                    else:
                        expected = layers[f"layer_{k}"][key][()]
                        np.testing.assert_array_equal(getattr(layer, key), expected, strict=True)


def test_not_a_model_file(tmp_path: Path) -> None:
    (tmp_path / "frozen.pb").write_bytes(b"\x0a\x20graph")
    with pytest.raises(ModelFileError, match=r"not a model file of lmp_dp.*lmp-dp convert"):
        load(tmp_path / "frozen.pb")
    with pytest.raises(ModelFileError, match=r"does not exist \(a frozen graph is converted"):
        load(tmp_path / "missing.pb")


def test_files_without_a_checksum_are_read(path: Path, tmp_path: Path) -> None:
    old = tmp_path / "old.h5"
    old.write_bytes(path.read_bytes()[SEAL_BYTES:])
    assert_same(load(old), small_model())


def test_shipped_models_have_a_checksum() -> None:
    for name in TRAINED:
        head = (INPUTS / "models" / f"{name}.h5").read_bytes()[:SEAL_BYTES]
        assert head.startswith(b"lmp_dp model: HDF5 from byte 512 on")


def test_writing_fails_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelFileError, match="cannot write"):
        save(small_model(), tmp_path / "no" / "such" / "folder.h5")

    def full_disk(file, model):
        file.create_group("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lmp_dp.model.schema.write", full_disk)
    with pytest.raises(ModelFileError, match="No space left on device"):
        save(small_model(), tmp_path / "model.h5")
    assert list(tmp_path.iterdir()) == []


def test_an_old_file_survives_a_failed_write(path: Path, monkeypatch) -> None:
    copy = shutil.copy(path, path.with_suffix(".copy"))
    monkeypatch.setattr("lmp_dp.model.schema.write", lambda file, model: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save(small_model(), path)
    assert path.read_bytes() == Path(copy).read_bytes()
    assert len(list(path.parent.iterdir())) == 2
