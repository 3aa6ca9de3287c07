"""Dataclasses of any make to groups and back; what does not fit is refused with its place."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args, get_type_hints

import h5py
import numpy as np
import pytest

from conftest import MODELS
from lmp_dp.errors import ModelFileError
from lmp_dp.model import DeepPotential, load, save
from lmp_dp.model.arrays import Flags, Floats, Integers, Parameters, Text
from lmp_dp.model.descriptors.registry import KINDS, Descriptor, register
from lmp_dp.model.file import mapping, seal
from lmp_dp.model.file.reader import Reader
from small_model import assert_same, full_model, small_model


@dataclass(frozen=True)
class Part:
    size: int
    values_i: Floats

    def __post_init__(self) -> None:
        if self.size > 9:
            raise ModelFileError(f"size is {self.size}, expected at most 9")


@dataclass(frozen=True)
class Whole:
    """A field of every kind that a model may have."""

    number: float
    count: int
    flag: bool
    word: str
    choice: Literal["one", "two"]
    dtype: np.dtype
    text: Text
    floats_ij: Floats
    parameters_i: Parameters
    integers_i: Integers
    flags_i: Flags
    words: tuple[str, ...]
    part: Part
    parts: tuple[Part, ...]
    numbers: tuple[float, ...]
    empty: tuple[Part, ...]
    optional_number: float | None
    optional_i: Floats | None = None
    optional_part: Part | None = None
    later: tuple[Part, ...] = ()
    later_i: Floats = field(default_factory=lambda: np.empty(0))


def whole(**values) -> Whole:
    given = {
        "number": 1.5, "count": 3, "flag": True, "word": "ä", "choice": "two",
        "dtype": np.dtype("f4"), "text": "many\nlines", "floats_ij": np.arange(6.0).reshape(2, 3),
        "parameters_i": np.ones(2, "f4"), "integers_i": np.array([1, -1]),
        "flags_i": np.array([True, False]), "words": ("a", "b"), "part": Part(1, np.ones(1)),
        "parts": (Part(2, np.zeros(2)), Part(3, np.zeros(0))), "numbers": (0.5, 2.0), "empty": (),
        "optional_number": None,
    }  # fmt: skip
    return Whole(**{**given, **values})


def written(thing: object) -> h5py.File:
    file = h5py.File(io.BytesIO(), "w")
    mapping.write(file, thing)
    return file


def again(file: h5py.File, kind: type = Whole):
    file.flush()
    return mapping.read(Reader(file), kind)


@pytest.mark.parametrize(
    "thing",
    [
        whole(),
        whole(optional_number=0.0, optional_i=np.zeros(3), optional_part=Part(0, np.ones(2))),
        whole(optional_i=np.zeros(0), later=(Part(1, np.ones(1)),), later_i=np.ones(2)),
        whole(words=(), parts=(), numbers=(), text="", word=""),
    ],
)
def test_round_trip(thing: Whole) -> None:
    assert_same(again(written(thing)), thing)


def test_what_stands_where() -> None:
    file = written(whole(optional_part=Part(0, np.ones(2))))
    assert set(file) == {
        "text", "floats_ij", "parameters_i", "integers_i", "flags_i", "words", "part", "parts",
        "numbers", "empty", "optional_part",
    }  # fmt: skip
    assert set(file.attrs) == {"number", "count", "flag", "word", "choice", "dtype"}
    assert file.attrs["dtype"] == "float32"
    assert set(file["parts"]) == {"0", "1"}
    assert file["parts"].attrs["count"] == 2
    assert file["parts/1"].attrs["size"] == 3


def put(name: str, value: object) -> Callable[[h5py.File], None]:
    """``group@name``, or another dataset."""

    def change(file: h5py.File) -> None:
        group, at, attribute = name.partition("@")
        if at:
            file[group].attrs[attribute] = value
        else:
            if name in file:
                del file[name]
            file[name] = value

    return change


def delete(name: str) -> Callable[[h5py.File], None]:
    group, at, attribute = name.partition("@")
    return lambda file: file[group].attrs.__delitem__(attribute) if at else file.__delitem__(name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        *[
            (delete(f"/@{name}"), f"attribute /@{name} is missing")
            for name in ("number", "count", "flag", "word", "choice", "dtype")
        ],
        *[
            (delete(name), f"(dataset|group) /{name} is missing")
            for name in ("text", "floats_ij", "words", "part", "parts", "empty", "parts/0/values_i")
        ],
        (put("/@number", "1.5"), "attribute /@number has the unusable value '1.5', expected a num"),
        (put("/@count", 3.0), "attribute /@count has the unusable value .*expected an integer"),
        (put("/@flag", 1), "attribute /@flag has the unusable value .*expected true or false"),
        (put("/@word", 1), "attribute /@word has the unusable value .*expected a string"),
        (put("/@word", ["a"]), "attribute /@word is not a plain number or string"),
        (put("/@choice", "three"), "attribute /@choice: 'three' found, expected one or two"),
        (put("/@choice", "x" * 50_000), "attribute /@choice: 'x{40}' found, expected one or two"),
        (put("/@dtype", "float16"), "attribute /@dtype: 'float16' found, expected float32 or flo"),
        (put("text", 1.0), "dataset /text is not a string"),
        (put("words", "a"), "dataset /words is not a list of strings"),
        (put("floats_ij", np.zeros(3)), "dataset /floats_ij has type float64 and 1 axes"),
        (put("floats_ij", np.zeros((1, 2, 3))), "/floats_ij has type float64 and 3 axes"),
        (put("floats_ij", np.zeros((1, 2), int)), "/floats_ij has type int64"),
        (put("parameters_i", np.zeros(3, "f2")), "/parameters_i has type float16"),
        (put("integers_i", np.zeros(3)), "/integers_i has type float64"),
        (put("flags_i", np.zeros(3, int)), "/flags_i has type int64"),
        (put("part", 1.0), "/part is not a group"),
        (put("part@size", 10), "^/part: size is 10, expected at most 9$"),
        (put("parts/1@size", 10), "^/parts/1: size is 10, expected at most 9$"),
        (put("parts", 1.0), "/parts is not a group"),
        (delete("parts@count"), "attribute /parts/@count is missing"),
        (put("parts@count", 3), "group /parts/2 is missing"),
        (put("parts@count", -1), "attribute /parts/@count is -1, expected 0 to"),
        (put("parts@count", 2.0), "attribute /parts/@count has the unusable value"),
        (put("parts@count", 2**62), "attribute /parts/@count is 4611686018427387904, expected"),
        (delete("parts/1"), "group /parts/1 is missing"),
        (lambda file: file["parts"].move("1", "2"), "group /parts/1 is missing"),
        (lambda file: file["parts"].move("1", "01"), "group /parts/1 is missing"),
        (put("parts/1", 1.0), "/parts/1 is not a group"),
        (delete("numbers@1"), "attribute /numbers/@1 is missing"),
        (put("/@optional_number", "x"), "attribute /@optional_number has the unusable value"),
        (put("optional_number", 1.0), "attribute /@optional_number is missing"),
        (put("optional_i", np.zeros((2, 2))), "dataset /optional_i has type float64 and 2 axes"),
        (put("/@optional_i", 1.0), "dataset /optional_i is missing"),
        (lambda file: file.create_group("optional_part"), "attribute /optional_part/@size is miss"),
        (lambda file: file.create_group("later"), "attribute /later/@count is missing"),
    ],
)
def test_what_does_not_fit_is_refused(change, message: str) -> None:
    file = written(whole())
    change(file)
    with pytest.raises(ModelFileError, match=message) as caught:
        again(file)
    assert len(str(caught.value)) < 200


def test_what_nobody_asked_for_is_left_alone() -> None:
    file = written(whole())
    file.attrs["more"] = file["part"].attrs["more"] = 1
    file["more"] = file["parts/more"] = file["parts/2"] = 1.0
    assert_same(again(file), whole())


def test_parts_that_are_one_group_are_counted_each_time() -> None:
    """A list of a million names for one array: no more is read than the file is long."""
    file = written(whole(parts=(Part(1, np.zeros(5000)),)))
    for n in range(1, 1000):
        file[f"parts/{n}"] = file["parts/0"]
    file["parts"].attrs["count"] = 1000
    with pytest.raises(ModelFileError, match="/values_i claims 40000 bytes more than a file of"):
        again(file)


# --------------------------------------------------------------------------- descriptors
@pytest.fixture
def toy():
    """A kind of descriptor that holds others."""

    @register
    @dataclass(frozen=True)
    class Toy:
        kind: ClassVar[str] = "toy"
        size: int
        inner: tuple[Descriptor, ...] = ()

    yield Toy
    del KINDS["toy"]


@dataclass(frozen=True)
class Holder:
    descriptor: Descriptor


def test_descriptors_are_named_by_their_kind(toy) -> None:
    holder = Holder(toy(1, (toy(2), toy(3, (toy(4), small_model().descriptor)))))
    file = written(holder)
    assert file["descriptor/inner/1/inner/1"].attrs["kind"] == "se_e2_a"
    assert_same(again(file, Holder), holder)
    place = "/descriptor/inner/1"
    file[place].attrs["kind"] = "x" * 1000
    with pytest.raises(ModelFileError) as caught:
        again(file, Holder)
    assert str(caught.value) == (
        f"attribute {place}/@kind: '{'x' * 40}' found, expected {' or '.join(sorted(KINDS))}"
    )
    del file[place].attrs["kind"]
    file[place].attrs["type"] = "toy"
    with pytest.raises(ModelFileError, match=f"attribute {place}/@kind is missing"):
        again(file, Holder)


def test_a_descriptor_inside_of_itself_is_refused(toy, tmp_path: Path) -> None:
    path = tmp_path / "model.h5"
    save(small_model(), path)
    with h5py.File(path, "r+") as file:
        del file["descriptor"]
        mapping.write(file, Holder(toy(1, (toy(2),))))
        del file["descriptor/inner/0"]
        file["descriptor/inner/0"] = file["descriptor"]
    seal(path)
    with pytest.raises(ModelFileError, match=r"damaged or not a model file: .*recursion"):
        load(path)


# --------------------------------------------------------------------------- models
@pytest.mark.parametrize("make", [small_model, full_model])
def test_models_round_trip(make, tmp_path: Path) -> None:
    save(make(), tmp_path / "model.h5")
    assert_same(load(tmp_path / "model.h5"), make())


def test_tables_alone_round_trip(tmp_path: Path) -> None:
    model = full_model()
    nets = replace(model.descriptor.nets, embeddings=())
    model = replace(model, descriptor=replace(model.descriptor, nets=nets))
    save(model, tmp_path / "model.h5")
    assert_same(load(tmp_path / "model.h5"), model)


def test_every_link_of_a_model_is_a_hard_one(tmp_path: Path) -> None:
    """Every group and dataset in turn, as a link to elsewhere: none of them is followed."""
    path, away = tmp_path / "model.h5", tmp_path / "away.h5"
    save(full_model(), path)
    content = path.read_bytes()
    away.write_bytes(content)
    places: list[str] = []
    with h5py.File(path) as file:
        file.visit(places.append)
    assert len(places) > 60
    for place in places:
        for link in (h5py.SoftLink("/copy"), h5py.ExternalLink(str(away), f"/{place}")):
            path.write_bytes(content)
            with h5py.File(path, "r+") as file:
                file.move(place, "copy")
                file[place] = link
            seal(path)
            with pytest.raises(ModelFileError, match=f"/{place} is a (soft )?link"):
                load(path)


def test_every_part_of_a_model_is_asked_for(tmp_path: Path) -> None:
    """Without any one group or dataset a file is refused, but for those that not all have."""
    path, model = tmp_path / "model.h5", full_model()
    save(model, path)
    content, read, places = path.read_bytes(), set[str](), list[str]()
    with h5py.File(path) as file:
        file.visit(places.append)
    for place in places:
        path.write_bytes(content)
        with h5py.File(path, "r+") as file:
            del file[place]
        seal(path)
        with contextlib.suppress(ModelFileError):
            load(path)
            read.add(place)
    optional = {"provenance/notes", "reference_frame", "descriptor/nets/tables"}
    assert {place for place in read if not place.endswith("/idt_o")} == optional


def test_the_schema_names_all_that_stands_in_a_file(tmp_path: Path) -> None:
    """The page is installed beside the code, and has every name of a group, dataset, attribute."""
    schema = resources.files("lmp_dp").joinpath("pages", "schema.md").read_text()
    words, names = set(re.findall(r"\w+", schema)), set[str]()
    save(full_model(), tmp_path / "model.h5")
    with h5py.File(tmp_path / "model.h5") as file:
        file.visititems(lambda name, item: names.update(name.split("/"), item.attrs))
        names.update(file.attrs)
    assert len(names) > 50
    assert {name for name in names if not name.isdigit()} <= words


def gather(kind: Any, found: set[type]) -> set[type]:
    """Add the dataclasses of the package that a field of this type may hold, and what they hold."""
    if kind is Descriptor:
        inner = [one for one in KINDS.values() if one.__module__.startswith("lmp_dp.")]
    elif hasattr(kind, "__dataclass_fields__"):
        inner = [] if kind in found else list(get_type_hints(kind).values())
        found.add(kind)
    else:
        inner = list(get_args(kind))
    for one in inner:
        gather(one, found)
    return found


def test_version_2_is_what_it_was() -> None:
    """Every field that a model has, against a list made when version 2 was laid down.

    A reader ignores what it does not know. So where a field is new and changes numbers, raise
    FORMAT_VERSION and go on reading version 2; only then change the list.
    """
    found = [
        f"{getattr(kind, 'kind', kind.__name__)}.{one.name}: {one.type}"
        for kind in gather(DeepPotential, set())
        for one in fields(kind)
    ]
    assert sorted(found) == (MODELS / "format_version_2.txt").read_text().splitlines()
