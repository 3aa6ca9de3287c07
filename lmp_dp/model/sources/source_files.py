"""What a source is: found by its content, else by its name; what no reader takes is refused.

`any_source` has the readers.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import zipfile
from pathlib import Path

from lmp_dp.errors import ModelFileError, UnsupportedModelError

#: The formats that are read, and what their files are called.
GRAPH, TORCHSCRIPT, DP, YAML = "graph", "torchscript", "dp", "yaml"
FORMATS = {
    GRAPH: "frozen TensorFlow graphs (.pb, .pbtxt)",
    TORCHSCRIPT: "frozen PyTorch models (.pth)",
    DP: "DP models (.dp)",
    YAML: "DP models in text form (.yaml)",
}
#: Of formats that are known by their suffix to others.
SUFFIXES = {TORCHSCRIPT: ".pth", DP: ".dp", YAML: ".yaml"}

_ONLY = "only " + " and ".join(", ".join(FORMATS.values()).rsplit(", ", 1)) + " are read"
_FREEZE = f"{_ONLY}; make one with 'dp freeze'"
_SAVED_MODEL = f"a SavedModel directory (JAX or TensorFlow 2 backend of DeePMD-kit); {_ONLY}"
_PADDLE = f"a Paddle model; {_ONLY}"
_JAX = f"a JAX model; {_ONLY}"
_CHECKPOINT = f"part of a TensorFlow checkpoint; {_FREEZE}"

#: What a file is: a format that is read, or what is said of it.
_BY_SUFFIX = {
    ".pth": TORCHSCRIPT,
    ".pt": f"a PyTorch checkpoint; {_ONLY}; make one with 'dp --pt freeze'",
    ".pt2": f"a PyTorch model (exported); {_ONLY}; make one with 'dp convert-backend'",
    ".pte": f"a PyTorch model (exported); {_ONLY}; make one with 'dp convert-backend'",
    ".dp": DP,
    ".yaml": YAML,
    ".yml": YAML,
    ".hlo": _JAX,
    ".jax": _JAX,
    ".savedmodel": _SAVED_MODEL,
    ".savedmodeltf": _SAVED_MODEL,
    ".pd": f"a Paddle checkpoint; {_ONLY}",
    ".pdmodel": _PADDLE,
    ".pdiparams": f"the parameters of a Paddle model; {_ONLY}",
    ".meta": _CHECKPOINT,
    ".index": _CHECKPOINT,
}
_MODEL_FILE, _HDF5 = b"lmp_dp model:", b"\x89HDF\r\n\x1a\n"
_BY_FIRST_BYTES = (
    (_MODEL_FILE, "a model file of lmp_dp already; nothing is to be converted"),
    (_HDF5, f"an HDF5 file (an old model file, or a DP model if it is named .dp); {_ONLY}"),
    (b"version https://git-lfs", "a pointer of Git LFS; fetch the file itself: git lfs pull"),
    (b"model_checkpoint_path:", _CHECKPOINT),
    (b"<!DOCTYPE", "a web page; download the file itself"),
    (b"\x80", f"a Python pickle (a checkpoint of PyTorch or Paddle); {_ONLY}"),
)


def is_model_file(path: Path) -> bool:
    """Whether `path` is, or is called, a model file of lmp_dp, for which there is `load`."""
    if path.suffix.lower() in (".h5", ".hdf5"):
        return True
    if not os.path.isfile(path):  # whatever the path is: a name too long, a null byte, a FIFO
        return False
    try:
        with open(path, "rb") as file:
            head = file.read(16)
    except OSError:  # `format_of` says why
        return False
    return head.startswith(_MODEL_FILE) or (head.startswith(_HDF5) and path.suffix.lower() != ".dp")


def format_of(path: Path) -> str:
    """The format of a source, one of `FORMATS`.

    Raises
    ------
    UnsupportedModelError
        A model of another kind, or something else that is known, by its name.
    ModelFileError
        There is no such file, it is empty or cannot be read.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise UnsupportedModelError(f"{path} is {_directory(path)}")
        if not stat.S_ISREG(mode):
            raise ModelFileError(f"{path} is no regular file; {_ONLY}")
        with open(path, "rb") as file:
            head = file.read(512)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        if getattr(error, "errno", None) in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
            raise ModelFileError(f"model file {path} does not exist") from None
        raise ModelFileError(f"cannot read the model file {path}: {error}") from error
    if not head:
        raise ModelFileError(f"{path} is empty, not a TensorFlow GraphDef: it has no nodes")
    found = _by_content(path, head) or _BY_SUFFIX.get(path.suffix.lower())
    if path.name == "saved_model.pb":
        found = f"the graph of {_SAVED_MODEL}"
    if ".data-00000-of" in path.name:
        found = _CHECKPOINT
    if found is None:  # a graph begins with whatever its first node is
        return GRAPH
    if found not in FORMATS:
        raise UnsupportedModelError(f"{path.name} is {found}")
    return found


def _directory(path: Path) -> str:
    if (path / "saved_model.pb").exists() or (path / "saved_model.pbtxt").exists():
        return _SAVED_MODEL
    if (path / "checkpoint").exists() or any(path.glob("*.meta")):
        return f"a directory with TensorFlow checkpoints; {_ONLY}: 'dp freeze -c {path}'"
    found = _BY_SUFFIX.get(path.suffix.lower())
    return f"a directory; {_ONLY}" if found is None or found in FORMATS else found


def _by_content(path: Path, head: bytes) -> str | None:
    if head.startswith(b"PK\x03\x04"):
        return _archive(path)
    if head.startswith((b"{", b"[")):
        return _json(path, head)
    for first, meaning in _BY_FIRST_BYTES:
        if head.startswith(first):
            # the suffix knows more where it is one of a model (.dp is HDF5, .pd a pickle)
            return _BY_SUFFIX.get(path.suffix.lower(), meaning)
    if path.suffix == ".pbtxt" and b"\0" in head:
        return "not text; name a graph in binary form .pb"
    if path.suffix != ".pbtxt" and re.match(rb"\s*node\s*{", head):
        return "a graph in text form; name it .pbtxt"
    return None


def _archive(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError):
        names = []
    if any(name.endswith("/constants.pkl") for name in names):
        return _BY_SUFFIX[".pth"]
    if any(name.endswith("/data.pkl") for name in names):
        return _BY_SUFFIX[".pt"]
    return _BY_SUFFIX.get(path.suffix.lower(), f"a zip archive; {_ONLY}")


def _json(path: Path, head: bytes) -> str:
    if b'"base_code"' in head or path.with_suffix(".pdiparams").exists():
        return f"the program of {_PADDLE}"
    return f"a JSON file, no model; {_ONLY} (a training input is given with --input)"
