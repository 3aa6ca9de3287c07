"""The model file: what is written is read back; anything damaged is refused, never a crash."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from conftest import INPUTS, TRAINED
from lmp_dp.errors import ModelFileError
from lmp_dp.model import (
    load,
    save,
)
from lmp_dp.model.file.container import SEAL_BYTES, seal
from small_model import assert_same, small_model


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save(small_model(), tmp_path / "model.h5")
    return tmp_path / "model.h5"


def test_round_trip(path: Path) -> None:
    assert_same(load(path), small_model())


def test_shipped_models_round_trip(cu_model: Path, tmp_path: Path) -> None:
    model = load(cu_model)
    save(model, tmp_path / "again.h5")
    assert_same(load(tmp_path / "again.h5"), model)


ENV, NETS, FIT = "descriptor/environment", "descriptor/nets", "fitting/nets/0/layers"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.attrs.__setitem__("format_version", 3), "version 3 found.*update lmp-dp"),
        (lambda f: f.attrs.__setitem__("format_version", 0), "version 0 found.*convert the model"),
        (lambda f: f.attrs.__setitem__("format", "other"), "not a model of lmp_dp"),
        (lambda f: f.attrs.__delitem__("format"), "not a model of lmp_dp"),
        (lambda f: f.attrs.__setitem__("model_type", "dipole"), "@model_type: 'dipole' found"),
        (lambda f: f.__delitem__(f"{ENV}/sel_t"), f"dataset /{ENV}/sel_t is missing"),
        (lambda f: f.__delitem__("fitting/nets/1"), "group /fitting/nets/1 is missing"),
        (lambda f: f["descriptor"].attrs.__setitem__("kind", "se_e9"), "'se_e9' found"),
        (lambda f: f[ENV].attrs.__setitem__("rcut", "x"), "@rcut has the unusable value"),
        (lambda f: f[ENV].attrs.__setitem__("rcut", 0.1), "need 0 <= rcut_smth < rcut"),
        (lambda f: f["descriptor"].attrs.__setitem__("axis_neuron", 7), "axis_neuron is 7"),
        (lambda f: f.__delitem__(f"{NETS}/embeddings/0"), "/embeddings/0 is missing"),
        (lambda f: f[f"{NETS}/net_tt"].__setitem__((0, 1), 2), "name each of 2 embedding nets"),
        (lambda f: f[f"{NETS}/net_tt"].__setitem__((1, 1), 0), "name each of 2 embedding nets"),
        (lambda f: f[f"{NETS}/net_tt"].__setitem__((0, 1), -2), "name each of 2 embedding nets"),
        (
            lambda f: f[f"{FIT}/1"].attrs.__setitem__("joins", "double"),
            f"/{FIT}/1: a layer 5 -> 5 cannot join its input 'double'",
        ),
        (
            lambda f: f[f"{FIT}/0"].attrs.__setitem__("activation", "swish"),
            "unknown activation function 'swish'",
        ),
        (
            lambda f: f[f"{FIT}/0/weight_io"].__setitem__((0, 0), np.nan),
            f"/{FIT}/0: weight holds nan, expected finite",
        ),
    ],
)
def test_inconsistent_files_are_refused(path: Path, change, message: str) -> None:
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises(ModelFileError, match="the file is damaged"):
        load(path)
    seal(path)
    with pytest.raises(ModelFileError, match=message) as caught:
        load(path)
    assert str(path) in str(caught.value)


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

    def full_disk(descriptor):
        assert os.fstat(descriptor).st_size > 0  # written, as far as the program knows
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(ModelFileError, match="No space left on device"):
        save(small_model(), tmp_path / "model.h5")
    assert list(tmp_path.iterdir()) == []


def test_an_old_file_survives_a_failed_write(path: Path, monkeypatch) -> None:
    copy = shutil.copy(path, path.with_suffix(".copy"))
    monkeypatch.setattr("lmp_dp.model.file.mapping.write", lambda file, model: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save(small_model(), path)
    assert path.read_bytes() == Path(copy).read_bytes()
    assert len(list(path.parent.iterdir())) == 2
