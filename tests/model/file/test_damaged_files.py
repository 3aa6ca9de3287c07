"""500 damaged model files: each is refused with a clear text, or is a readable model. Fixed seeds.

Half are damaged as a disk or a network does it, byte by byte; the checksum must see all of them.
The others are what a faulty program would write: sound HDF5 files, with the right checksum, whose
content is wrong.
"""

from __future__ import annotations

import resource
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from lmp_dp.errors import ModelFileError
from lmp_dp.model import load, save
from lmp_dp.model.file.container import SEAL_BYTES, seal
from small_model import small_model

N_BYTES, N_CONTENT = 250, 250


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("sound") / "model.h5"
    save(small_model(), path)
    return path.read_bytes()


# ------------------------------------------------------------------------ damaged bytes
def truncate(rng: np.random.Generator, data: bytearray) -> None:
    del data[rng.integers(0, len(data)) :]


def flip_a_bit(rng: np.random.Generator, data: bytearray) -> None:
    data[rng.integers(0, len(data))] ^= 1 << int(rng.integers(0, 8))


def flip_a_bit_of_the_first_block(rng: np.random.Generator, data: bytearray) -> None:
    data[rng.integers(0, SEAL_BYTES)] ^= 1 << int(rng.integers(0, 8))


def overwrite_a_sector(rng: np.random.Generator, data: bytearray) -> None:
    start = int(rng.integers(0, len(data) // 512)) * 512
    sector = rng.bytes(512) if rng.integers(0, 2) else bytes(512)
    data[start : start + 512] = sector if sector != data[start : start + 512] else b"\xff" * 512


def shift(rng: np.random.Generator, data: bytearray) -> None:
    position = int(rng.integers(1, len(data)))
    data[position:position] = rng.bytes(int(rng.integers(1, 9)))


BYTES = (truncate, flip_a_bit, flip_a_bit_of_the_first_block, overwrite_a_sector, shift)


def test_damaged_bytes_are_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.h5"
    for seed in range(N_BYTES):
        data = bytearray(content)
        BYTES[seed % len(BYTES)](np.random.default_rng(seed), data)
        path.write_bytes(data)
        with pytest.raises(ModelFileError, match="damaged") as caught:
            load(path)
        assert str(path) in str(caught.value)


# ------------------------------------------------------------------------ wrong content
def names(file: h5py.File, kind: type) -> list[str]:
    found: list[str] = []
    file.visititems(lambda name, item: found.append(name) if isinstance(item, kind) else None)
    return found


def pick(rng: np.random.Generator, values: list[str]) -> str:
    return values[rng.integers(0, len(values))]


def replace(file: h5py.File, name: str, value: object, **options: object) -> None:
    del file[name]
    file.create_dataset(name, data=value, **options)


def delete(rng: np.random.Generator, file: h5py.File) -> None:
    del file[pick(rng, names(file, h5py.Dataset) + names(file, h5py.Group))]


def delete_an_attribute(rng: np.random.Generator, file: h5py.File) -> None:
    owners = [file, *(file[name] for name in names(file, h5py.Group) if file[name].attrs)]
    owner = owners[rng.integers(0, len(owners))]
    optional = {"min_nbor_dist"}  # absent where a source does not say it
    del owner.attrs[pick(rng, sorted(set(owner.attrs) - optional))]


def change_an_attribute(rng: np.random.Generator, file: h5py.File) -> None:
    owners = [file, *(file[name] for name in names(file, h5py.Group) if file[name].attrs)]
    owner = owners[rng.integers(0, len(owners))]
    values = [
        "",
        "x" * 70000,
        np.nan,
        np.inf,
        -1,
        2**62,
        1e300,
        0,
        [1, 2],
        b"\xff",
        h5py.Empty("f"),
    ]
    value = values[rng.integers(0, len(values))]
    name = pick(rng, list(owner.attrs))
    if isinstance(value, str) and len(value) > 60000:
        value = value[:60000]  # the most that an attribute holds
    owner.attrs[name] = value


def change_the_shape(rng: np.random.Generator, file: h5py.File) -> None:
    name = pick(rng, [n for n in names(file, h5py.Dataset) if file[n].dtype.kind in "fiub"])
    old = file[name][()]
    shapes = [
        (),
        (0,),
        (1,),
        (3, 1, 2),
        (old.size + 1,),
        (*old.shape, 1),
        tuple(2 * n for n in old.shape),
    ]
    replace(file, name, np.resize(old, shapes[rng.integers(0, len(shapes))]))


def change_the_type(rng: np.random.Generator, file: h5py.File) -> None:
    name = pick(rng, names(file, h5py.Dataset))
    shape = file[name].shape
    makers: list[Callable[[], object]] = [
        lambda: np.zeros(shape, np.complex128),
        lambda: np.zeros(shape, np.uint8),
        lambda: np.zeros(shape, np.float16),
        lambda: np.zeros(shape, ">f4"),
        lambda: np.zeros(shape, "S5"),
        lambda: np.zeros(shape, [("a", "f8"), ("b", "i4")]),
        lambda: h5py.Empty("f8"),
        lambda: "text",
        lambda: b"\xff\xfe",
    ]
    replace(file, name, makers[rng.integers(0, len(makers))]())


def claim_a_huge_array(rng: np.random.Generator, file: h5py.File) -> None:
    name = pick(rng, [n for n in names(file, h5py.Dataset) if file[n].ndim])
    dtype, ndim = file[name].dtype, file[name].ndim
    del file[name]
    n = int(2 ** (rng.integers(29, 62) / ndim))  # 4 GB and more, none of it stored
    file.create_dataset(name, shape=(n,) * ndim, dtype=dtype, chunks=(16,) * ndim)


def put_something_else(rng: np.random.Generator, file: h5py.File) -> None:
    name = pick(rng, names(file, h5py.Dataset) + names(file, h5py.Group))
    del file[name]
    kind = rng.integers(0, 4)
    if kind == 0:
        file.create_group(name)
    elif kind == 1:
        file[name] = np.float64(1.0)
    elif kind == 2:
        file[name] = h5py.SoftLink("/" + name)  # of itself
    else:
        file[name] = h5py.ExternalLink("absent.h5", "/")


def flip_a_bit_of_a_number(rng: np.random.Generator, file: h5py.File) -> None:
    name = pick(
        rng, [n for n in names(file, h5py.Dataset) if file[n].dtype.kind in "fiu" and file[n].size]
    )
    values = np.atleast_1d(file[name][()])
    raw = values.view(np.uint8).reshape(-1)
    raw[rng.integers(0, raw.size)] ^= np.uint8(1 << int(rng.integers(0, 8)))
    file[name][...] = values.reshape(file[name].shape)


CONTENT = (
    delete,
    delete_an_attribute,
    change_an_attribute,
    change_the_shape,
    change_the_type,
    claim_a_huge_array,
    put_something_else,
    flip_a_bit_of_a_number,
)


def test_wrong_content_is_refused_or_read(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.h5"
    outcomes: dict[str, Counter[str]] = {change.__name__: Counter() for change in CONTENT}
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for seed in range(N_CONTENT):
        change = CONTENT[seed % len(CONTENT)]
        path.write_bytes(content)
        with h5py.File(path, "r+") as file:
            change(np.random.default_rng(seed), file)
        seal(path)
        start = time.process_time()
        try:
            load(path)
            outcome, message = "read", str(path)
        except ModelFileError as error:
            outcome, message = "refused", str(error)
        outcomes[change.__name__][outcome] += 1
        assert str(path) in message
        assert len(message) < 2000, message
        assert time.process_time() - start < 2.0, f"seed {seed}"
    # kB; the file has 42 kB, and the smallest claim is of 4 GB
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 200_000
    # what must fail failed, and what may be read was
    for change in (delete_an_attribute, claim_a_huge_array):
        assert set(outcomes[change.__name__]) == {"refused"}, outcomes
    assert outcomes["flip_a_bit_of_a_number"]["read"] > 0, outcomes
