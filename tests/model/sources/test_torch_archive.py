"""TorchScript archives: what PyTorch wrote is read; what would do anything else is refused."""

from __future__ import annotations

import io
import os
import pickle
import struct
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import MODELS
from lmp_dp.errors import LmpDpError, ModelFileError
from lmp_dp.model.sources.any_source import read_source
from lmp_dp.model.sources.v3 import torch_pickle
from lmp_dp.model.sources.v3.torch_archive import Archive, attribute

SOURCE = MODELS / "v3" / "v3_a_one_sided.pth"
FOLDER = "v3_a_one_sided"


def records() -> dict[str, bytes]:
    with zipfile.ZipFile(SOURCE) as archive:
        return {
            record.filename: archive.read(record)
            for record in archive.infolist()
            if "/code/" not in record.filename
        }


def write(path: Path, content: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


def with_pickle(path: Path, data: bytes) -> Path:
    return write(path, {**records(), f"{FOLDER}/data.pkl": data})


def text(value: str) -> bytes:
    """The instruction that gives a string."""
    encoded = value.encode()
    return b"X" + struct.pack("<I", len(encoded)) + encoded


class Runs:
    """An object whose pickle calls a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def marker(path: Path) -> Path:
    return path / "it_was_run"


TRICKS: dict[str, Callable[[str], bytes]] = {
    "system": lambda made: pickle.dumps(Runs(os.system, f"touch {made}"), protocol=2),
    "system, later protocol": lambda made: pickle.dumps(Runs(os.system, f"touch {made}"), 4),
    "eval": lambda made: pickle.dumps(Runs(eval, f"open({made!r}, 'w')"), protocol=2),
    "getattr": lambda made: pickle.dumps(Runs(getattr, "x", "join"), protocol=2),
    "text protocol": lambda made: f"cos\nsystem\n(S'touch {made}'\ntR.".encode(),
    "inst": lambda made: f"(S'touch {made}'\nios\nsystem\n.".encode(),
    "obj": lambda made: b"(cos\nsystem\n" + text(f"touch {made}") + b"o.",
    "build": lambda made: b"c__torch__.a\nB\n)\x81(X\x01\x00\x00\x00ac__main__\nX\nub.",
    "setstate of a class": lambda made: b"c__torch__.a\nB\n}b.",
    "stack_global": lambda made: b"\x80\x04\x8c\x02os\x8c\x06system\x93.",
    "extension": lambda made: b"\x80\x02\x82\x01.",
    "newobj_ex": lambda made: b"\x80\x04c__torch__.a\nB\n)}\x92.",
    "new object with arguments": lambda made: b"\x80\x02c__torch__.a\nB\nNN\x86\x81.",
    "call of a compiled class": lambda made: b"\x80\x02c__torch__.os\nsystem\n)R.",
    "call of a storage": lambda made: b"\x80\x02ctorch\nFloatStorage\n)R.",
    "call of a string": lambda made: b"\x80\x02" + text("x") + b")R.",
    "persistent text id": lambda made: b"P0\n.",
    "persistent id of no storage": lambda made: b"\x80\x02" + text("x") + b"Q.",
    "persistent id of a global": lambda made: (
        b"\x80\x02(" + text("storage") + b"cos\nsystem\n" + text("0") + text("cpu") + b"K\x01tQ."
    ),
    "persistent id with a path": lambda made: (
        b"\x80\x02("
        + text("storage")
        + b"ctorch\nFloatStorage\n"
        + text("../../etc/passwd")
        + text("cpu")
        + b"K\x01tQ."
    ),
    "torch.load": lambda made: b"\x80\x02ctorch\nload\n" + text("data.pkl") + b"\x85R.",
    "numpy": lambda made: b"\x80\x02cnumpy\nfromfile\n" + text("/etc/passwd") + b"\x85R.",
    "dictionary of lists": lambda made: b"\x80\x02}]K\x01s.",
    "long integer": lambda made: b"\x80\x02\x8b\x04\x00\x00\x00\xff\xff\xff\x7f.",
    "two values": lambda made: b"\x80\x02K\x01K\x02.",
    "nothing": lambda made: b"\x80\x02.",
    "no end": lambda made: b"\x80\x02K\x01",
    "empty": lambda made: b"",
    "stack without values": lambda made: b"\x80\x02\x86.",
    "mark that is missing": lambda made: b"\x80\x02t.",
    "memory that is empty": lambda made: b"\x80\x02h\x05.",
    "string beyond the end": lambda made: b"\x80\x02X\xff\xff\xff\x7fab.",
    "no module": lambda made: b"\x80\x02K\x01.",
    "an archive": lambda made: SOURCE.read_bytes(),
}


@pytest.mark.parametrize("trick", TRICKS)
def test_nothing_is_run(trick: str, tmp_path: Path) -> None:
    made = marker(tmp_path)
    path = with_pickle(tmp_path / "model.pth", TRICKS[trick](str(made)))
    with pytest.raises(ModelFileError, match="pickle"):
        read_source(path)
    assert not made.exists()


@pytest.mark.parametrize("trick", ["system", "system, later protocol", "text protocol", "inst"])
def test_python_would_run_them(trick: str, tmp_path: Path) -> None:
    """Else the test above would prove nothing."""
    made = marker(tmp_path)
    pickle.loads(TRICKS[trick](str(made)))
    assert made.exists()


def test_names_are_told() -> None:
    with pytest.raises(
        ModelFileError, match=r"names 'posix\.system', which is no part of a model; it was not run"
    ):
        torch_pickle.read(pickle.dumps(Runs(os.system, "true"), protocol=2))
    with pytest.raises(ModelFileError, match="instruction STRING"):
        torch_pickle.read(TRICKS["inst"]("x"))


def test_memory_is_no_array() -> None:
    """A number in the memory is one entry; Python's unpickler makes room for all below it."""
    assert torch_pickle.read(b"\x80\x02K\x07r\xff\xff\xff\x7f.") == 7


def test_what_repeats_itself_stays_small() -> None:
    """Twice the same in a tuple, and so on: 2^200 items, if somebody walks through them."""
    doubled = b"".join(b"q%ch%c\x86" % (n, n) for n in range(200))
    start = time.monotonic()
    found = torch_pickle.read(b"\x80\x02]" + doubled + b".")
    assert len(found) == 2
    assert time.monotonic() - start < 5.0


# ----------------------------------------------------------------------------- the zip
def test_what_pytorch_wrote_is_read() -> None:
    archive = Archive(SOURCE)
    tensor = attribute(archive.root, "atomic_model.fitting_net.bias_atom_e")
    values = archive.array(tensor)
    assert values.shape == (2, 1)
    assert values.dtype == np.float64
    assert ((values > -3) & (values < -1)).all()
    with zipfile.ZipFile(SOURCE) as file:
        raw = file.read(f"{FOLDER}/data/{tensor.storage.key}")
    assert values.tobytes() == raw


def test_the_program_is_not_needed(tmp_path: Path) -> None:
    path = write(tmp_path / "model.pth", {**records(), f"{FOLDER}/constants.pkl": b""})
    a, b = read_source(path), read_source(SOURCE)
    assert a.fitting.nets[0].layers[0].weight_io.tobytes() == (
        b.fitting.nets[0].layers[0].weight_io.tobytes()
    )


def bent(**changes: Any) -> Callable[[dict[str, bytes]], dict[str, bytes]]:
    def bend(content: dict[str, bytes]) -> dict[str, bytes]:
        return {
            **content,
            **{f"{FOLDER}/{name.replace('__', '/')}": data for name, data in changes.items()},
        }

    return bend


ARCHIVES: dict[str, tuple[Callable[[dict[str, bytes]], dict[str, bytes]], str]] = {
    "short record": (bent(data__3=b"\0" * 8), "data/3 has 8 bytes"),
    "long record": (bent(data__3=b"\0" * 80000), "data/3 has 80000 bytes"),
    "no pickle": (
        lambda content: {k: v for k, v in content.items() if not k.endswith("/data.pkl")},
        "no record data.pkl",
    ),
    "record that is missing": (
        lambda content: {k: v for k, v in content.items() if not k.endswith("data/3")},
        "data/3 has no bytes",
    ),
    "other byte order": (bent(byteorder=b"big"), "byte order"),
    "absolute path": (lambda content: {**content, "/etc/passwd": b""}, "no model's"),
    "path that leaves": (lambda content: {**content, f"{FOLDER}/../x": b""}, "no model's"),
    "two folders": (lambda content: {**content, "other/x": b""}, "2 folders"),
    "no folder": (lambda content: {**content, "data.pkl": b""}, "no model's"),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_bent_archives(name: str, tmp_path: Path) -> None:
    bend, message = ARCHIVES[name]
    path = write(tmp_path / "model.pth", bend(records()))
    with pytest.raises(ModelFileError, match=message):
        read_source(path)


def test_records_more_than_a_model_has(tmp_path: Path) -> None:
    path = write(tmp_path / "model.pth", {**records(), f"{FOLDER}/extra/notes.txt": b"hello"})
    assert read_source(path).type_map == ("O", "H")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_twice(tmp_path: Path) -> None:
    path = write(tmp_path / "model.pth", records())
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(f"{FOLDER}/data.pkl", b"\x80\x02N.")
    with pytest.raises(ModelFileError, match=r"two records 'data\.pkl'"):
        read_source(path)


def test_zip_bomb(tmp_path: Path) -> None:
    """200 MB of zeros in 200 kB: PyTorch stores numbers as they are."""
    bomb = {**records(), f"{FOLDER}/data/3": b"\0" * 200_000_000}
    path = write(tmp_path / "model.pth", bomb, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 1_000_000
    with pytest.raises(ModelFileError, match="is compressed"):
        read_source(path)


def test_records_that_overlap(tmp_path: Path) -> None:
    """One stretch of bytes as many records: together they claim more than the file has."""
    content = {**records(), f"{FOLDER}/data/99": b"\0" * 3000}
    path = write(tmp_path / "model.pth", content)
    with zipfile.ZipFile(path, "a") as archive:
        one = archive.getinfo(f"{FOLDER}/data/99")
        for n in range(1000, 1300):
            copy = zipfile.ZipInfo(f"{FOLDER}/data/{n}")
            for name in ("file_size", "compress_size", "CRC", "header_offset"):
                setattr(copy, name, getattr(one, name))
            archive.filelist.append(copy)
        archive._didModify = True
    with pytest.raises(ModelFileError, match=r"larger than its file|is broken"):
        read_source(path)


def test_encrypted(tmp_path: Path) -> None:
    path = write(tmp_path / "model.pth", records())
    data = bytearray(path.read_bytes())
    place = data.find(b"PK\x01\x02")
    while place != -1:
        data[place + 8] |= 1
        place = data.find(b"PK\x01\x02", place + 1)
    path.write_bytes(data)
    with pytest.raises(ModelFileError):
        read_source(path)


@pytest.mark.parametrize("share", [0.01, 0.3, 0.7, 0.99, 0.999])
def test_truncated(share: float, tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    path.write_bytes(SOURCE.read_bytes()[: int(share * SOURCE.stat().st_size)])
    with pytest.raises(ModelFileError, match="no TorchScript archive"):
        read_source(path)


def test_flipped_bytes(tmp_path: Path) -> None:
    """Whatever is flipped, a file is read or refused: nothing else, and in no time."""
    original = io.BytesIO()
    write(original, records())  # type: ignore[arg-type]
    rng = np.random.default_rng(5)
    path = tmp_path / "model.pth"
    refused = 0
    for _ in range(150):
        data = bytearray(original.getvalue())
        for place in rng.integers(0, len(data), 3).tolist():
            data[place] ^= 1 << int(rng.integers(0, 8))
        path.write_bytes(data)
        try:
            read_source(path)
        except LmpDpError:
            refused += 1
    assert refused > 100


# ----------------------------------------------------------------------------- tensors
def pickled_tensor(
    shape: tuple[int, ...], strides: tuple[int, ...], offset: int, count: int
) -> bytes:
    """The pickle of a module that has one tensor, `t`, of record 0."""

    def number(n: int) -> bytes:
        return b"\x8a\x08" + struct.pack("<q", n)

    def numbers(ns: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(map(number, ns)) + b"t"

    storage = (
        b"("
        + text("storage")
        + b"ctorch\nDoubleStorage\n"
        + text("0")
        + text("cpu")
        + number(count)
        + b"tQ"
    )
    tensor = (
        b"ctorch._utils\n_rebuild_tensor_v2\n("
        + storage
        + number(offset)
        + numbers(shape)
        + numbers(strides)
        + b"\x89ccollections\nOrderedDict\n)RtR"
    )
    return b"\x80\x02c__torch__.a\nB\n)\x81}" + text("t") + tensor + b"sb."


@pytest.mark.parametrize(
    ("shape", "strides", "offset", "count", "message"),
    [
        ((2, 3), (3, 1), 1, 6, "beyond its storage"),
        ((2, 3), (4, 1), 0, 6, "beyond its storage"),
        ((7,), (0,), 0, 6, "beyond its storage"),
        ((2**40, 2**40), (0, 0), 0, 6, "beyond its storage"),
        ((2, 3), (-3, 1), 3, 6, "has the shape"),
        ((-2, 3), (3, 1), 0, 6, "has the shape"),
        ((2, 3), (3, 1), -1, 6, "has the shape"),
        ((2, 3), (1,), 0, 6, "has the shape"),
        ((1,) * 9, (1,) * 9, 0, 6, "has the shape"),
        ((2, 3), (3, 1), 0, 7, "has 48 bytes"),
        ((2, 3), (3, 1), 0, 2**61, "has 48 bytes"),
    ],
)
def test_tensors_stay_in_their_storage(
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    offset: int,
    count: int,
    message: str,
    tmp_path: Path,
) -> None:
    content = {
        "m/data.pkl": pickled_tensor(shape, strides, offset, count),
        "m/data/0": np.arange(6.0).tobytes(),
    }
    archive = Archive(write(tmp_path / "model.pth", content))
    with pytest.raises(ModelFileError, match=message):
        archive.array(attribute(archive.root, "t"))


def test_views(tmp_path: Path) -> None:
    """A transposed part of a storage."""
    content = {
        "m/data.pkl": pickled_tensor((2, 2), (1, 3), 1, 6),
        "m/data/0": np.arange(6.0).tobytes(),
    }
    archive = Archive(write(tmp_path / "model.pth", content))
    assert archive.array(attribute(archive.root, "t")).tolist() == [[1.0, 4.0], [2.0, 5.0]]


def test_one_tensor_under_many_names(tmp_path: Path) -> None:
    """Modules that name one large tensor again and again take no more memory than the file."""
    content = {
        "m/data.pkl": pickled_tensor((50_000,), (1,), 0, 50_000),
        "m/data/0": np.zeros(50_000).tobytes(),
    }
    archive = Archive(write(tmp_path / "model.pth", content))
    tensor = attribute(archive.root, "t")
    archive.array(tensor)
    with pytest.raises(ModelFileError, match="more tensors than the file has"):
        [archive.array(tensor) for _ in range(2)]


def test_other_modules_are_named(tmp_path: Path) -> None:
    data = records()[f"{FOLDER}/data.pkl"]
    for old, new, message in (
        (b"EnergyModel", b"DipoleModel", "DipoleModel, expected an EnergyModel"),
        (b"DescrptSeA\n", b"DescrptXyZ\n", "descriptor DescrptXyZ is not supported"),
        (b"EnergyFittingNet", b"PolarFittingNet1", "fitting_net is a PolarFittingNet1"),
    ):
        assert old in data
        path = with_pickle(tmp_path / "model.pth", data.replace(old, new))
        with pytest.raises(LmpDpError, match=message):
            read_source(path)
