"""Models used as they are: converted in memory, kept for the next start, harmless where not."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import lmp_dp
from conftest import INPUTS, MODELS, recorded_frames, source_graph
from lmp_dp import Potential
from lmp_dp.engine import cache_folder, model_cache
from lmp_dp.errors import InputError, ModelFileError, UnsupportedModelError
from lmp_dp.model import load, save
from lmp_dp.model.file import image
from lmp_dp.tools.convert import convert

SOURCE = "oh_one_sided"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache. (Kernels would be compiled again in it: backend reference only.)"""
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / model_cache.FOLDER


@pytest.fixture
def no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XDG_CACHE_HOME", "HOME"):
        monkeypatch.setenv(name, "/proc/nowhere")
    monkeypatch.setattr(cache_folder.tempfile, "tempdir", "/proc/nowhere")


def energies(model: object, name: str = SOURCE) -> list[float]:
    potential = Potential(model, "reference", sel="ignore")
    return [
        potential.evaluate(f.positions, f.types, f.cell, fparam=f.fparam, aparam=f.aparam).energy
        for f in recorded_frames(name)
    ]


def never(*arguments: object, **options: object) -> None:
    raise AssertionError("called again")


@pytest.mark.parametrize("name", [SOURCE, "hea_two_sided", "oh_float32", "oh_fparam_aparam"])
def test_a_source_evaluates_as_its_model_file(name: str, converted: Callable[[str], Path]) -> None:
    assert energies(source_graph(name), name) == energies(converted(name), name)


@pytest.mark.parametrize("suffix", [".pth", ".dp", ".yaml"])
def test_every_format_is_taken_and_kept(suffix: str, tmp_path: Path) -> None:
    source = min((MODELS / "v3").glob(f"*{suffix}"), key=lambda path: path.stat().st_size)
    first, second = model_cache.prepare(source), model_cache.prepare(source)
    assert "converted now" in first.story
    assert "made by an earlier start" in second.story
    convert(source, tmp_path / "model.h5")
    found = [
        Potential(model, "reference") for model in (source, second.model, tmp_path / "model.h5")
    ]
    n_types = len(found[0].type_map)
    positions = np.random.default_rng(1).uniform(0.0, 6.0, (12, 3))
    one, *others = (
        potential.evaluate(positions, np.arange(12) % n_types, None).forces for potential in found
    )
    assert abs(one).max() > 0.0
    assert all(np.array_equal(one, other) for other in others)


def test_it_says_that_it_is_unproven(folder: Path) -> None:
    provenance = Potential(source_graph(SOURCE), "reference").model.provenance
    assert "unproven: converted in memory, without deepmd-kit" in provenance.notes
    assert provenance.source_file == f"{SOURCE}.pb"


def test_the_second_start_converts_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = source_graph(SOURCE)
    first = model_cache.prepare(source)
    assert f"kept for the next start in {folder}" in first.story
    monkeypatch.setattr(model_cache, "read_source", never)
    second = model_cache.prepare(source)
    assert "made by an earlier start" in second.story
    assert bytes(second.content) == bytes(first.content) == bytes(image(second.model))


def test_another_content_is_another_model(tmp_path: Path) -> None:
    path = Path(shutil.copy(source_graph(SOURCE), tmp_path / "model.pb"))
    before = energies(path)
    shutil.copy(source_graph("oh_davg_zero"), path)
    after = energies(path)
    assert after != before
    assert after == energies(source_graph("oh_davg_zero"))


def test_a_changed_converter_reads_no_old_entries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names of entries follow the text of what makes them."""
    package = tmp_path / "lmp_dp"
    shutil.copytree(Path(lmp_dp.__file__).parent, package, ignore=lambda *_: {"lammps"})
    monkeypatch.setattr(lmp_dp, "__file__", str(package / "__init__.py"))
    made_by = model_cache._made_by.__wrapped__
    plain, tabulated = made_by("a.pb", False), made_by("a.pb", True)
    assert plain != tabulated
    assert plain != made_by("b.pb", False)
    assert plain == made_by("a.pb", False)
    with open(package / "engine" / "compression.py", "a") as file:
        file.write("\n# changed\n")
    assert made_by("a.pb", False) == plain
    assert made_by("a.pb", True) != tabulated
    with open(package / "model" / "sources" / "graphdef.py", "a") as file:
        file.write("\n# changed\n")
    assert made_by("a.pb", False) != plain


@pytest.mark.parametrize("damage", ["first", "middle", "last", "truncated", "empty", "folder"])
def test_a_damaged_entry_is_made_anew(damage: str, folder: Path) -> None:
    source = source_graph(SOURCE)
    good = bytes(model_cache.prepare(source).content)
    (entry,) = folder.iterdir()
    assert entry.read_bytes() == good
    if damage == "folder":
        entry.unlink()
        entry.mkdir()
    else:
        place = {"first": 0, "middle": len(good) // 2, "last": len(good) - 1}.get(damage)
        bad = bytearray(good)
        if place is None:
            del bad[0 if damage == "empty" else len(good) // 2 :]
        else:
            bad[place] ^= 1
        entry.write_bytes(bad)
    again = model_cache.prepare(source)
    assert "converted now" in again.story
    assert bytes(again.content) == good
    if damage != "folder":
        assert entry.read_bytes() == good


def test_where_nothing_can_be_written(no_folder: None) -> None:
    found = model_cache.prepare(source_graph(SOURCE))
    assert found.story == "was converted now; no folder can be written that would keep it"
    assert model_cache.entries() == (None, [])


def test_a_full_disk_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert "no folder can be written" in model_cache.prepare(source_graph(SOURCE)).story
    assert not list(folder.iterdir())


def test_what_was_not_used_for_longest_goes_first(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("cu_tiny", "oh_davg_zero", SOURCE)
    sizes = {}
    for age, name in enumerate(names[:2]):
        before = set(folder.iterdir()) if folder.exists() else set()
        sizes[name] = len(model_cache.prepare(source_graph(name)).content)
        (entry,) = set(folder.iterdir()) - before
        os.utime(entry, (1000 + age, 1000 + age))
    model_cache.prepare(source_graph(names[0]))  # used again
    size = len(image(load_in_memory(names[2])))
    monkeypatch.setattr(model_cache, "LARGEST", sizes[names[0]] + size + 100)
    model_cache.prepare(source_graph(names[2]))
    monkeypatch.setattr(model_cache, "LARGEST", 10**9)
    stories = {name: model_cache.prepare(source_graph(name)).story for name in names}
    assert [name for name in names if "converted now" in stories[name]] == [names[1]]


def load_in_memory(name: str):
    return model_cache._converted(source_graph(name))


def test_a_model_larger_than_all_is_not_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_cache, "LARGEST", 1000)
    model_cache.prepare(source_graph(SOURCE))
    assert not list(folder.iterdir())


def test_processes_at_once(folder: Path) -> None:
    code = (
        "import hashlib, sys; from lmp_dp.engine import model_cache;"
        "sys.stdin.readline(); content = model_cache.prepare(sys.argv[1]).content;"
        "print(hashlib.sha256(content).hexdigest())"
    )
    command = [sys.executable, "-c", code, str(source_graph("hea"))]
    with contextlib.ExitStack() as stack:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        processes = [stack.enter_context(subprocess.Popen(command, **pipes)) for _ in range(3)]
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        found = {process.communicate(timeout=120)[0] for process in processes}
    assert len(found) == 1
    assert found != {""}
    assert len(list(folder.iterdir())) == 1


# --------------------------------------------------------------------------- compressed


def tables(model) -> list[np.ndarray]:
    return [t.coefficients_veq for t in model.tables]


@pytest.mark.parametrize("kind", ["pb", "h5"])
def test_compressed_as_by_the_command(
    kind: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compressed
) -> None:
    path = INPUTS / "models" / f"cu.{kind}"
    found = [Potential(path, "reference", compress=True).model]
    monkeypatch.setattr(model_cache, "with_tables", never)
    found.append(Potential(path, "reference", compress=True).model)
    assert len(list(folder.iterdir())) == 1
    for model in found:
        assert model.descriptor.nets.embeddings
        for one, other in zip(tables(model), tables(compressed["cu"]), strict=True):
            assert np.array_equal(one, other)


def test_a_model_with_tables_is_used_as_it_is(
    folder: Path, compressed_file: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_cache, "with_tables", never)
    path = compressed_file("cu")
    assert Potential(path, "reference", compress=True).model.tables
    assert Potential(load(path), "reference", compress=True).model.tables
    assert not folder.exists() or not list(folder.iterdir())


def test_without_a_smallest_distance_the_command_is_named(
    folder: Path, cu_model: Path, tmp_path: Path
) -> None:
    model = load(cu_model)
    provenance = dataclasses.replace(model.provenance, min_nbor_dist=None)
    save(dataclasses.replace(model, provenance=provenance), tmp_path / "a.h5")
    with pytest.raises(InputError, match=r"give --min-distance \(Å\) of lmp-dp compress"):
        Potential(tmp_path / "a.h5", "reference", compress=True)
    assert not list(folder.iterdir())


def test_kinks_are_named(converted: Callable[[str], Path]) -> None:
    model = load(converted("oh_two_sided"))  # has relu, and says no distance
    provenance = dataclasses.replace(model.provenance, min_nbor_dist=1.5)
    model = dataclasses.replace(model, provenance=provenance)
    with pytest.warns(UserWarning, match="relu has kinks, which tables round off"):
        Potential(model, "reference", compress=True)


def test_copies_are_compressed_too(compressed) -> None:
    potential = Potential(INPUTS / "models" / "cu.pb", "reference", compress=True)
    copy = pickle.loads(pickle.dumps(potential))
    for model in (potential.model, copy.model):
        assert np.array_equal(tables(model)[0], tables(compressed["cu"])[0])


def test_compress_is_no_word() -> None:
    with pytest.raises(InputError, match=r"compress is 'no' .*expected True or False"):
        Potential(MODELS / "cu_tiny.pb", compress="no")  # type: ignore[arg-type]


# --------------------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model.pb", b"\x00garbage"),
        ("model.pb", b""),
        ("model.pb", b"version https://git-lfs.github.com/spec/v1"),
        ("model.pt2", b"PK\x03\x04"),
        ("model.json", b'{"base_code":{"magic":"pir"'),
        ("model.ckpt.meta", b"\n\x05"),
    ],
)
def test_refused_with_the_sentence_of_the_command(
    name: str, content: bytes, folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    sentences = []
    for attempt in (lambda: Potential(path), lambda: convert(path, tmp_path / "out.h5")):
        with pytest.raises((ModelFileError, UnsupportedModelError)) as refused:
            attempt()
        sentences.append(str(refused.value))
    assert sentences[0] == sentences[1]
    assert not folder.exists() or not list(folder.iterdir())


def test_a_missing_file() -> None:
    for name in ("nowhere.pb", "nowhere.h5", "nowhere"):
        with pytest.raises(ModelFileError, match=f"model file {name} does not exist"):
            Potential(name)
    for path in ("a" * 5000, "a\0b", "a\0b.h5"):
        with pytest.raises(ModelFileError, match=r"does not exist|cannot read the model file"):
            Potential(path)
