"""The model file: one HDF5 file per model (`mapping`), with a checksum in front.

`save` writes a complete file or none; `load` trusts nothing: every group and dataset is checked,
nothing is unpickled, and the message of a failure says what was found and what was expected.

The HDF5 library is not safe on damaged files (a flipped bit can send it round in circles, or have
it ask for gigabytes), and a flipped bit in a weight is a valid number. So a file starts with a
block that HDF5 leaves to its users, which holds the SHA-256 of the rest; it is compared before HDF5
sees the file. Files without that block, as they were written at first, are read unchecked.
"""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path
from typing import BinaryIO

import h5py

from lmp_dp import files
from lmp_dp.errors import ModelFileError, OutputError
from lmp_dp.files import StrPath
from lmp_dp.model.deep_potential import DeepPotential
from lmp_dp.model.file import mapping, version_1
from lmp_dp.model.file.reader import Reader

FORMAT = "lmp_dp"
FORMAT_VERSION = 2

SEAL_BYTES = 512  # the smallest user block of HDF5
_SEAL = b"lmp_dp model: HDF5 from byte 512 on, of which the SHA-256 is "
_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"


# --------------------------------------------------------------------------- writing
def save(model: DeepPotential, path: str | os.PathLike[str]) -> None:
    """Write `model` to `path`; an interrupted or failed write leaves what was there before.

    Raises
    ------
    ModelFileError
        The file cannot be written, or something else than a file has its name.
    """
    try:
        files.write(path, image(model))
    except OutputError as error:
        raise ModelFileError(str(error)) from error


def image(model: DeepPotential) -> memoryview:
    """The content of the file of a model."""
    # in memory: the library of HDF5 ends the process where a disk is full
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", userblock_size=SEAL_BYTES) as file:
        _write(file, model)
    content = buffer.getbuffer()
    content[:SEAL_BYTES] = _block(content[SEAL_BYTES:])
    return content


def _write(file: h5py.File, model: DeepPotential) -> None:
    file.attrs["format"] = FORMAT
    file.attrs["format_version"] = FORMAT_VERSION
    file.attrs["model_type"] = "energy"
    mapping.write(file, model)


def seal(path: str | os.PathLike[str]) -> None:
    """Write the checksum of a model file into it, after its content was changed on purpose.

    Parameters
    ----------
    path : path
        A file that `save` wrote.

    Raises
    ------
    OSError
        The file cannot be read and written.
    """
    with open(path, "r+b") as file:
        file.seek(SEAL_BYTES)
        block = _block(file.read())
        file.seek(0)
        file.write(block)


def _block(content: bytes | memoryview) -> bytes:
    """The block at the start of a file that goes on with `content`."""
    return (_SEAL + hashlib.sha256(content).hexdigest().encode()).ljust(SEAL_BYTES, b"\0")


# --------------------------------------------------------------------------- reading
def load(path: str | os.PathLike[str]) -> DeepPotential:
    """Read and check a model file.

    Raises
    ------
    ModelFileError
        The file is missing, not HDF5, not a model of lmp_dp, of a newer format, truncated or
        inconsistent; the message names the file and the place in it.
    """
    path = Path(path)
    if not os.path.isfile(path):  # also a FIFO, on which one would wait for ever
        state = "is not a file" if os.path.exists(path) else "does not exist"
        hint = "" if path.suffix != ".pb" else " (a frozen graph is converted with lmp-dp convert)"
        raise ModelFileError(f"model file {path} {state}{hint}")
    try:
        with open(path, "rb") as file:
            _check_seal(file, path)
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from None
    except OSError as error:
        raise ModelFileError(f"{path} is damaged or not a model file: {error}") from error
    return _opened(path, path)


def of_image(content: bytes | memoryview, name: StrPath) -> DeepPotential:
    """The model whose file has this content, called `name` in messages.

    Raises
    ------
    ModelFileError
        As `load`; the content must be sealed.
    """
    buffer = io.BytesIO(content)
    if bytes(content[: len(_SEAL)]) != _SEAL:
        raise ModelFileError(f"{name}: not a model file of lmp_dp, or damaged at its start")
    _check_seal(buffer, Path(name))
    return _opened(buffer, name)


def _opened(file_or_buffer: StrPath | io.BytesIO, name: StrPath) -> DeepPotential:
    try:
        with h5py.File(file_or_buffer, "r") as file:
            return _read(Reader(file))
    except ModelFileError as error:
        raise ModelFileError(f"{name}: {error}") from None
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, MemoryError) as error:
        # h5py reports damage inside a file by any of these
        raise ModelFileError(f"{name} is damaged or not a model file: {error}") from error


def _read(file: Reader) -> DeepPotential:
    if not file.has_attribute("format") or file.string("format") != FORMAT:
        raise ModelFileError(f"not a model of lmp_dp (attribute 'format' is not '{FORMAT}')")
    version = file.integer("format_version")
    if version == 1:
        return version_1.read(file)
    if version != FORMAT_VERSION:
        raise ModelFileError(
            f"format version {version} found, this lmp_dp reads 1 to {FORMAT_VERSION}; "
            + ("update lmp-dp" if version > FORMAT_VERSION else "convert the model again")
        )
    if (kind := file.string("model_type")) != "energy":
        raise ModelFileError(f"attribute /@model_type: '{kind[:40]}' found, expected 'energy'")
    return mapping.read(file, DeepPotential)


def _check_seal(file: BinaryIO, path: Path) -> None:
    """Refuse a file whose content is not that which was written."""
    head = file.read(SEAL_BYTES)
    if head.startswith(_HDF5_SIGNATURE):
        return
    if not head.startswith(_SEAL):
        raise ModelFileError(
            "not a model file of lmp_dp, or damaged at its start; convert a frozen DeePMD-kit "
            f"model with 'lmp-dp convert {path} {path.stem}.h5' and use the .h5 file"
        )
    digest = hashlib.sha256(file.read()).hexdigest().encode()
    if head != (_SEAL + digest).ljust(SEAL_BYTES, b"\0"):
        raise ModelFileError(
            f"the file is damaged: its content has the SHA-256 {digest.decode()[:12]}..., and the "
            "file says otherwise. Copy or convert it again (if it was edited on purpose: "
            "lmp_dp.model.file.seal)"
        )
