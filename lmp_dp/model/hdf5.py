"""The model file: one HDF5 file per model (`lmp_dp.model.schema`), with a checksum in front.

`save` writes a complete file or none (a temporary file is renamed at the end); `load` trusts
nothing: every group and dataset is checked, nothing is unpickled, and the message of a failure
says what was found and what was expected.

The HDF5 library is not safe on damaged files (a flipped bit can send it round in circles, or have
it ask for gigabytes), and a flipped bit in a weight is a valid number. So a file starts with a
block that HDF5 leaves to its users, which holds the SHA-256 of the rest; it is compared before HDF5
sees the file. Files without that block, as they were written at first, are read unchecked.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path

import h5py

from lmp_dp.errors import ModelFileError
from lmp_dp.model import schema
from lmp_dp.model.deep_potential import DeepPotential
from lmp_dp.model.hdf5_reader import Reader

SEAL_BYTES = 512  # the smallest user block of HDF5
_SEAL = b"lmp_dp model: HDF5 from byte 512 on, of which the SHA-256 is "
_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"


# --------------------------------------------------------------------------- writing
def save(model: DeepPotential, path: str | os.PathLike[str]) -> None:
    """Write `model` to `path`; an interrupted or failed write leaves no file behind.

    Raises
    ------
    ModelFileError
        The folder cannot be written.
    """
    path = Path(path)
    try:
        handle, temporary = tempfile.mkstemp(prefix=path.name, suffix=".part", dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise ModelFileError(f"cannot write {path}: {error.strerror or error}") from error
    try:
        with h5py.File(temporary, "w", userblock_size=SEAL_BYTES) as file:
            schema.write(file, model)
        seal(temporary)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # mkstemp gives 0600
        os.replace(temporary, path)
    except OSError as error:
        raise ModelFileError(f"cannot write {path}: {error}") from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


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
        text = _SEAL + hashlib.sha256(file.read()).hexdigest().encode()
        file.seek(0)
        file.write(text.ljust(SEAL_BYTES, b"\0"))


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
    if not path.is_file():  # also a FIFO, on which one would wait for ever
        state = "is not a file" if path.exists() else "does not exist"
        hint = "" if path.suffix != ".pb" else " (a frozen graph is converted with lmp-dp convert)"
        raise ModelFileError(f"model file {path} {state}{hint}")
    try:
        _check_seal(path)
        with h5py.File(path, "r") as file:
            return schema.read(Reader(file))
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from None
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, MemoryError) as error:
        # h5py reports damage inside a file by any of these
        raise ModelFileError(f"{path} is damaged or not a model file: {error}") from error


def _check_seal(path: Path) -> None:
    """Refuse a file whose content is not that which was written."""
    with open(path, "rb") as file:
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
            "lmp_dp.model.hdf5.seal)"
        )
