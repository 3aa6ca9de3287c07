"""TorchScript archives (``.pth``): a zip of one pickle and the raw numbers of tensors.

Only the pickle (`torch_pickle`), the byte order and the numbers of tensors that are asked for are
read, which PyTorch stores as they are: together they are no larger than the file. The program in
the archive is not looked at.
"""

from __future__ import annotations

import math
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from lmp_dp.errors import ModelFileError
from lmp_dp.model.sources.v3 import torch_pickle
from lmp_dp.model.sources.v3.torch_pickle import Module, Tensor

#: Records of an archive; a hybrid of many elements has some thousands.
_MAX_RECORDS = 1_000_000
_MAX_AXES = 8
#: At least, of the pickle and of the zip's directory: modules may name one tensor many times.
_BYTES_OF_TENSOR = 64
#: What `zipfile` raises where an archive is damaged (RuntimeError: encrypted, or of no known kind).
_BROKEN = (
    zipfile.BadZipFile,
    OSError,
    EOFError,
    ValueError,
    OverflowError,
    RuntimeError,
    struct.error,
    zlib.error,
)


class Archive:
    """A TorchScript archive that is open for reading.

    Parameters
    ----------
    path : path

    Raises
    ------
    ModelFileError
        It is no such archive, broken, or one that PyTorch does not write.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._file = zipfile.ZipFile(path)
            self._left = path.stat().st_size
            self._room = 2 * self._left
        except _BROKEN as error:
            raise ModelFileError(f"{path} is no TorchScript archive: {error}") from error
        with self._file:
            self._records = _records(self._file.infolist())
            order = self._content("byteorder") if "byteorder" in self._records else b"little"
            if order != b"little":
                raise ModelFileError(f"the archive's byte order is {order[:20]!r}, expected little")
            self.root = self._root()
            self._storages = {
                name: self._content(name) for name in self._records if name.startswith("data/")
            }

    def _root(self) -> Module:
        root = torch_pickle.read(self._content("data.pkl"))
        if not isinstance(root, Module):
            raise ModelFileError("the archive's pickle holds no compiled module")
        return root

    def _content(self, name: str) -> bytes:
        if name not in self._records:
            raise ModelFileError(f"the archive has no record {name}")
        record = self._records[name]
        if record.compress_type != zipfile.ZIP_STORED or record.flag_bits & 0x1:
            raise ModelFileError(f"the archive's record {name} is compressed, expected plain data")
        self._left -= record.file_size
        if record.file_size != record.compress_size or self._left < 0:
            raise ModelFileError(
                f"the archive's records claim more bytes than the file has: {name}"
            )
        try:
            return self._file.read(record)
        except _BROKEN as error:
            raise ModelFileError(f"the archive's record {name} is broken: {error}") from error

    def array(self, tensor: Tensor) -> np.ndarray:
        """The numbers of a tensor.

        Raises
        ------
        ModelFileError
            It reaches beyond its storage, or that beyond its record.
        """
        storage, dtype = tensor.storage, np.dtype(tensor.storage.dtype)
        name = f"data/{storage.key}"
        content = self._storages.get(name)
        if content is None or storage.count * dtype.itemsize != len(content):
            raise ModelFileError(
                f"the archive's record {name} has "
                f"{'no' if content is None else len(content)} bytes, expected "
                f"{storage.count} numbers of {dtype.itemsize}"
            )
        shape, strides = tensor.shape, tensor.strides
        lengths = (tensor.offset, *shape, *strides)
        if len(shape) != len(strides) or len(shape) > _MAX_AXES or min(lengths) < 0:
            raise ModelFileError(f"a tensor has the shape {shape[:9]} and strides {strides[:9]}")
        size = math.prod(shape)
        self._room -= size * dtype.itemsize + _BYTES_OF_TENSOR
        last = tensor.offset + sum(
            (n - 1) * stride for n, stride in zip(shape, strides, strict=True)
        )
        if size > storage.count or (size and last >= storage.count):
            raise ModelFileError(
                f"a tensor of shape {shape} reaches beyond its storage of {storage.count} numbers"
            )
        if self._room < 0:
            raise ModelFileError("the archive's modules name more tensors than the file has")
        if not size:
            return np.zeros(shape, dtype)
        numbers = np.frombuffer(content, dtype)[tensor.offset :]
        steps = [stride * dtype.itemsize for stride in strides]
        return np.lib.stride_tricks.as_strided(numbers, shape, steps, writeable=False).copy()


def _records(found: list[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
    """Records by their names below the archive's one folder."""
    if len(found) > _MAX_RECORDS:
        raise ModelFileError(f"the archive has {len(found)} records, expected <= {_MAX_RECORDS}")
    records: dict[str, zipfile.ZipInfo] = {}
    folders = set()
    for record in found:
        folder, _, name = record.filename.partition("/")
        folders.add(folder)
        if not folder or not name or ".." in record.filename.split("/") or name.startswith("/"):
            raise ModelFileError(f"the archive has a record {record.filename[:80]!r}: no model's")
        if name in records:
            raise ModelFileError(f"the archive has two records {name[:80]!r}")
        records[name] = record
    if len(folders) != 1:
        raise ModelFileError(f"the archive has {len(folders)} folders, expected one")
    return records


def attribute(module: Any, path: str, default: Any = None) -> Any:
    """What stands at ``a.b.c`` below a module, `default` where a part of the way is missing."""
    for name in path.split("."):
        if not isinstance(module, Module) or name not in module.attributes:
            return default
        module = module.attributes[name]
    return module
