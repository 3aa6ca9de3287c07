"""Model files that name other files, or store data in ways that HDF5 alone understands: refused.

What the other file holds must neither be read nor printed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from lmp_dp import cli
from lmp_dp.errors import ModelFileError
from lmp_dp.model import load, save
from lmp_dp.model.file.container import SEAL_BYTES, seal
from small_model import full_model

SECRET = b"hunter2:x:0:0:\n\n" * 64
WEIGHT, BIAS = "fitting/nets/0/layers/1/weight_io", "fitting/nets/0/layers/1/bias_o"
Change = Callable[[h5py.File, Path], None]


def external_storage(file: h5py.File, secret: Path) -> None:
    old = file[BIAS][()]
    del file[BIAS]
    file.create_dataset(BIAS, old.shape, old.dtype, external=[(str(secret), 0, old.nbytes)])


def external_text(file: h5py.File, secret: Path) -> None:
    del file["provenance/notes"]
    file["provenance"].create_dataset("notes", (1,), "S64", external=[(str(secret), 0, 64)])


def external_link(file: h5py.File, secret: Path) -> None:
    del file[BIAS]
    file[BIAS] = h5py.ExternalLink(str(secret), "/bias")


def external_link_to_a_group(file: h5py.File, secret: Path) -> None:
    del file["provenance"]
    file["provenance"] = h5py.ExternalLink(str(secret), "/")


def virtual(file: h5py.File, secret: Path) -> None:
    shape = file[BIAS].shape
    layout = h5py.VirtualLayout(shape, "f8")
    layout[:] = h5py.VirtualSource(str(secret), "/bias", shape)
    del file[BIAS]
    file.create_virtual_dataset(BIAS, layout)


def soft_link(file: h5py.File, secret: Path) -> None:
    file["copy"] = file[BIAS][()]
    del file[BIAS]
    file[BIAS] = h5py.SoftLink("/copy")


def soft_link_to_a_group(file: h5py.File, secret: Path) -> None:
    file.move("fitting/nets/0", "fitting/other")
    file["fitting/nets/0"] = h5py.SoftLink("/fitting/other")


def soft_link_through_an_external_one(file: h5py.File, secret: Path) -> None:
    file["away"] = h5py.ExternalLink(str(secret), "/")
    del file[BIAS]
    file[BIAS] = h5py.SoftLink("/away/bias")


def compact(file: h5py.File, secret: Path) -> None:
    values = file[BIAS][()]
    del file[BIAS]
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_layout(h5py.h5d.COMPACT)
    space = h5py.h5s.create_simple(values.shape)
    h5py.h5d.create(file.id, BIAS.encode(), h5py.h5t.NATIVE_DOUBLE, space, creation).write(
        h5py.h5s.ALL, h5py.h5s.ALL, values
    )


def filtered(file: h5py.File, secret: Path) -> None:
    values = file[WEIGHT][()]
    del file[WEIGHT]
    file.create_dataset(WEIGHT, data=values, compression="gzip")


def filtered_by_a_plug_in(file: h5py.File, secret: Path) -> None:
    shape = file[WEIGHT].shape
    del file[WEIGHT]
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_chunk(shape)
    creation.set_filter(32001, h5py.h5z.FLAG_OPTIONAL, (1, 2))
    space = h5py.h5s.create_simple(shape)
    h5py.h5d.create(file.id, WEIGHT.encode(), h5py.h5t.NATIVE_DOUBLE, space, creation)


def never_written(file: h5py.File, secret: Path) -> None:
    shape = file[BIAS].shape
    del file[BIAS]
    file.create_dataset(BIAS, shape, "f8")


def references(file: h5py.File, secret: Path) -> None:
    shape = file[BIAS].shape
    del file[BIAS]
    file.create_dataset(BIAS, data=np.full(shape, file.ref, object), dtype=h5py.ref_dtype)


def lists_of_numbers(file: h5py.File, secret: Path) -> None:
    shape = file[BIAS].shape
    del file[BIAS]
    file.create_dataset(BIAS, shape, dtype=h5py.vlen_dtype("f8"))


def a_type(file: h5py.File, secret: Path) -> None:
    del file[BIAS]
    file[BIAS] = np.dtype("f8")


def a_dataset_for_a_group(file: h5py.File, secret: Path) -> None:
    del file["provenance"]
    file["provenance"] = 1.0


def attribute_with_a_reference(file: h5py.File, secret: Path) -> None:
    file["fitting/nets/0/layers/1"].attrs["activation"] = file.ref


def attribute_with_a_list(file: h5py.File, secret: Path) -> None:
    group = file["descriptor/environment"]
    kind = h5py.h5t.py_create(h5py.vlen_dtype("f8"), logical=True)
    del group.attrs["rcut"]
    h5py.h5a.create(group.id, b"rcut", kind, h5py.h5s.create(h5py.h5s.SCALAR))


def many_names_for_one_net(file: h5py.File, secret: Path) -> None:
    """1000 layers of 40,000 weights that are stored once."""
    layers = file["fitting/nets/0/layers"]
    for name, shape in (("weight_io", (200, 200)), ("bias_o", 200), ("idt_o", 200)):
        del layers[f"1/{name}"]
        layers[f"1/{name}"] = np.zeros(shape)
    del layers["2"]
    for k in range(2, 1000):
        layers[str(k)] = layers["1"]
    layers.attrs["count"] = 1000


REFUSED: dict[Change, str] = {
    external_storage: f"dataset /{BIAS} is stored in another file",
    external_text: "dataset /provenance/notes is stored in another file",
    external_link: f"dataset /{BIAS} is a link to another file",
    external_link_to_a_group: "group /provenance is a link to another file",
    virtual: f"dataset /{BIAS} is virtual",
    soft_link: f"dataset /{BIAS} is a soft link",
    soft_link_to_a_group: "group /fitting/nets/0 is a soft link",
    soft_link_through_an_external_one: f"dataset /{BIAS} is a soft link",
    compact: f"dataset /{BIAS} is virtual or compact",
    filtered: f"dataset /{WEIGHT} is compressed or filtered",
    filtered_by_a_plug_in: f"dataset /{WEIGHT} is compressed or filtered",
    never_written: f"dataset /{BIAS} is not stored as a whole",
    references: f"dataset /{BIAS} holds something else than numbers or strings",
    lists_of_numbers: f"dataset /{BIAS} holds something else than numbers or strings",
    a_type: f"/{BIAS} is not a dataset",
    a_dataset_for_a_group: "/provenance is not a group",
    attribute_with_a_reference: "/layers/1/@activation is not a plain number or string",
    attribute_with_a_list: "/descriptor/environment/@rcut is not a plain number or string",
    many_names_for_one_net: "claims 320000 bytes more than a file of",
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save(full_model(), tmp_path / "model.h5")
    return tmp_path / "model.h5"


def another_file(path: Path, kind: str) -> None:
    """A file that nobody asked to read."""
    if kind == "text":
        path.write_bytes(SECRET)
    elif kind == "FIFO":
        os.mkfifo(path)
    else:
        with h5py.File(path, "w") as file:
            file["bias"] = np.frombuffer(SECRET[:40])
            file["source_file"] = SECRET.decode()


@pytest.mark.parametrize("sealed", [True, False])
@pytest.mark.parametrize("kind", ["text", "HDF5"])
@pytest.mark.parametrize("change", REFUSED, ids=lambda change: change.__name__)
def test_only_the_file_itself_is_read(
    change: Change, kind: str, sealed: bool, path: Path, tmp_path: Path, capsys
) -> None:
    secret = tmp_path / "passwd"
    another_file(secret, kind)
    with h5py.File(path, "r+") as file:
        change(file, secret)
    seal(path)
    if not sealed:
        path.write_bytes(path.read_bytes()[SEAL_BYTES:])
    with pytest.raises(ModelFileError, match=REFUSED[change]) as caught:
        load(path)
    assert "hunter2" not in str(caught.value)
    assert cli.main(["info", str(path)]) == 2
    output = capsys.readouterr()
    assert "hunter2" not in output.out + output.err


def test_a_pipe_in_the_place_of_another_file_is_not_waited_for(path: Path, tmp_path: Path) -> None:
    """In a process of its own: a FIFO holds up whoever opens it."""
    pipe, paths = tmp_path / "pipe", []
    another_file(pipe, "FIFO")
    for change in REFUSED:
        paths.append(tmp_path / f"{change.__name__}.h5")
        paths[-1].write_bytes(path.read_bytes())
        with h5py.File(paths[-1], "r+") as file:
            change(file, pipe)
        seal(paths[-1])
    code = (
        "import sys; from lmp_dp import cli; print([cli.main(['info', p]) for p in sys.argv[1:]])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, *map(str, paths), str(pipe)],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert run.stdout.split() == f"{[2] * (len(paths) + 1)}".split()
    assert "pipe is no regular file" in run.stderr
    assert "Traceback" not in run.stderr


def test_members_that_nobody_reads_do_no_harm(path: Path) -> None:
    """Room for what later versions add."""
    before = load(path)
    with h5py.File(path, "r+") as file:
        file["more/than/that"] = np.zeros(3)
        file["away"] = h5py.ExternalLink("absent.h5", "/")
    seal(path)
    assert load(path).type_map == before.type_map


def test_chunked_data_are_read(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        values = file[WEIGHT][()]
        del file[WEIGHT]
        file.create_dataset(WEIGHT, data=values, chunks=(2, 2))
    seal(path)
    np.testing.assert_array_equal(load(path).fitting.nets[0].layers[1].weight_io, values)
