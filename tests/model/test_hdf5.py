"""The model file: what is written is read back; anything damaged is refused, never a crash."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from lmp_dp.errors import LmpDpError, ModelFileError
from lmp_dp.model import (
    DeepPotential,
    Descriptor,
    Fitting,
    Layer,
    Network,
    Provenance,
    load,
    save,
)


def dense(rng, n_in, n_out, joins="replace", activation="tanh", idt=False) -> Layer:
    return Layer(
        rng.normal(size=(n_in, n_out)),
        rng.normal(size=n_out),
        rng.normal(size=n_out) if idt else None,
        activation,
        joins,
    )


def small_model() -> DeepPotential:
    rng = np.random.default_rng(4)
    nets = [
        Network((dense(rng, 1, 3, activation="silut:1.5"), dense(rng, 3, 6, "double", idt=True)))
        for _ in range(4)
    ]
    fitting = [
        Network(
            (
                dense(rng, 12, 5),
                dense(rng, 5, 5, "add", idt=True),
                dense(rng, 5, 1, activation="linear"),
            )
        )
        for _ in range(2)
    ]  # fmt: skip
    excluded = np.array([[False, True], [True, False]])
    return DeepPotential(
        ("O", "H"),
        Descriptor(
            rcut=4.5,
            rcut_smth=0.5,
            sel_t=np.array([4, 9]),
            n_norm=13,
            axis_neuron=2,
            type_one_side=False,
            davg_tk=rng.normal(size=(2, 4)),
            dstd_tk=rng.uniform(0.1, 1, (2, 4)),
            excluded_tt=excluded,
            embeddings=((nets[0], None), (None, nets[3])),
        ),
        Fitting(tuple(fitting), np.array([-1.0, 2.0]), np.array([True, False])),
        Provenance(source_file="ä.pb", notes=("one", "two"), min_nbor_dist=0.9),
    )


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
        (lambda f: f.attrs.__setitem__("format_version", 2), "version 2 found.*update lmp-dp"),
        (lambda f: f.attrs.__setitem__("format", "other"), "not a model of lmp_dp"),
        (lambda f: f.attrs.__delitem__("format"), "not a model of lmp_dp"),
        (lambda f: f.__delitem__("descriptor/sel_t"), "dataset /descriptor/sel_t is missing"),
        (lambda f: f.__delitem__("fitting/net_1"), "group /fitting/net_1 is missing"),
        (lambda f: f["descriptor"].attrs.__setitem__("type", "se_e3"), "'se_e3' found"),
        (lambda f: f["descriptor"].attrs.__setitem__("rcut", "x"), "@rcut has the unusable value"),
        (lambda f: f["descriptor"].attrs.__setitem__("rcut", 0.1), "need 0 <= rcut_smth < rcut"),
        (lambda f: f["descriptor"].attrs.__setitem__("axis_neuron", 7), "axis_neuron is 7"),
        (lambda f: f.__delitem__("descriptor/embedding/0_0"), "embedding 0-0 is missing"),
        (
            lambda f: f["fitting/net_0/layer_1"].attrs.__setitem__("joins", "double"),
            r"/fitting/net_0: a layer 5 -> 5 cannot join its input 'double'",
        ),
        (
            lambda f: f["fitting/net_0/layer_0"].attrs.__setitem__("activation", "swish"),
            "unknown activation function 'swish'",
        ),
        (
            lambda f: f["fitting/net_0/layer_0/weight_io"].__setitem__((0, 0), np.nan),
            "parameters that are not finite",
        ),
    ],
)  # fmt: skip
def test_inconsistent_files_are_refused(path: Path, change, message: str) -> None:
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises(ModelFileError, match=message) as caught:
        load(path)
    assert str(path) in str(caught.value)


def test_not_a_model_file(tmp_path: Path) -> None:
    (tmp_path / "frozen.pb").write_bytes(b"\x0a\x20graph")
    with pytest.raises(ModelFileError, match=r"is not an HDF5 file; convert .*lmp-dp convert"):
        load(tmp_path / "frozen.pb")
    with pytest.raises(ModelFileError, match=r"does not exist \(a frozen graph is converted"):
        load(tmp_path / "missing.pb")


def test_damaged_bytes_never_crash(path: Path, tmp_path: Path) -> None:
    """Truncations and random bytes: an error of ours or a readable model, nothing else."""
    rng = np.random.default_rng(5)
    content = path.read_bytes()
    outcomes = set()
    for trial in range(120):
        broken = bytearray(content)
        if trial % 3 == 0:
            del broken[rng.integers(1, len(broken)) :]
        else:
            for position in rng.integers(0, len(broken), 12):
                broken[position] = rng.integers(0, 256)
        target = tmp_path / "broken.h5"
        target.write_bytes(broken)
        try:
            load(target)
            outcomes.add("read")
        except LmpDpError:
            outcomes.add("refused")
    assert "refused" in outcomes


def test_writing_fails_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelFileError, match="cannot write"):
        save(small_model(), tmp_path / "no" / "such" / "folder.h5")

    def full_disk(file, model):
        file.create_group("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lmp_dp.model.hdf5._write", full_disk)
    with pytest.raises(ModelFileError, match="No space left on device"):
        save(small_model(), tmp_path / "model.h5")
    assert list(tmp_path.iterdir()) == []


def test_an_old_file_survives_a_failed_write(path: Path, monkeypatch) -> None:
    copy = shutil.copy(path, path.with_suffix(".copy"))
    monkeypatch.setattr("lmp_dp.model.hdf5._write", lambda file, model: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save(small_model(), path)
    assert path.read_bytes() == Path(copy).read_bytes()
    assert len(list(path.parent.iterdir())) == 2
