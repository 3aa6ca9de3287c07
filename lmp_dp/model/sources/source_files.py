"""What a source is that is no frozen TensorFlow graph: named by its content, else by its name."""

from __future__ import annotations

import re
import stat
import zipfile
from pathlib import Path

from lmp_dp.errors import ModelFileError, UnsupportedModelError

_ONLY_GRAPHS = "only frozen TensorFlow graphs (.pb, .pbtxt) are converted"
#: deepmd-kit rewrites these, but joins the layers of some fitting nets otherwise in TensorFlow.
_REWRITE = (
    f"{_ONLY_GRAPHS}. 'dp convert-backend' of deepmd-kit makes one of it; see that both give the "
    "same energies there, which some fitting nets do not"
)
_FREEZE = f"{_ONLY_GRAPHS}; make one with 'dp freeze'"
_SAVED_MODEL = f"a SavedModel directory (JAX or TensorFlow 2 backend of DeePMD-kit); {_ONLY_GRAPHS}"
_PADDLE = f"a Paddle model; {_ONLY_GRAPHS}"
_JAX = f"a JAX model; {_ONLY_GRAPHS}"
_CHECKPOINT = f"part of a TensorFlow checkpoint; {_FREEZE}"

_BY_SUFFIX = {
    ".pth": f"a PyTorch model; {_REWRITE}",
    ".pt": f"a PyTorch checkpoint; {_ONLY_GRAPHS}",
    ".pt2": f"a PyTorch model (exported); {_ONLY_GRAPHS}",
    ".pte": f"a PyTorch model (exported); {_ONLY_GRAPHS}",
    ".dp": f"a DP (NumPy) model; {_REWRITE}",
    ".yaml": f"a DP (NumPy) model; {_REWRITE}",
    ".yml": f"a DP (NumPy) model; {_REWRITE}",
    ".hlo": _JAX,
    ".jax": _JAX,
    ".savedmodel": _SAVED_MODEL,
    ".savedmodeltf": _SAVED_MODEL,
    ".pd": f"a Paddle checkpoint; {_ONLY_GRAPHS}",
    ".pdmodel": _PADDLE,
    ".pdiparams": f"the parameters of a Paddle model; {_ONLY_GRAPHS}",
    ".meta": _CHECKPOINT,
    ".index": _CHECKPOINT,
}
_BY_FIRST_BYTES = (
    (b"lmp_dp model:", "a model file of lmp_dp already; nothing is to be converted"),
    (b"\x89HDF\r\n\x1a\n", f"an HDF5 file (a DP model or an old model file); {_ONLY_GRAPHS}"),
    (b"version https://git-lfs", "a pointer of Git LFS; fetch the file itself: git lfs pull"),
    (b"model_checkpoint_path:", _CHECKPOINT),
    (b"<!DOCTYPE", "a web page; download the file itself"),
    (b"\x80", f"a Python pickle (a checkpoint of PyTorch or Paddle); {_ONLY_GRAPHS}"),
)


def refuse_other_formats(path: Path) -> None:
    """Check that `path` can be a frozen TensorFlow graph.

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
            raise ModelFileError(f"{path} is no regular file; {_ONLY_GRAPHS}")
        with open(path, "rb") as file:
            head = file.read(512)
    except FileNotFoundError:
        raise ModelFileError(f"model file {path} does not exist") from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise ModelFileError(f"cannot read the model file {path}: {error}") from error
    if not head:
        raise ModelFileError(f"{path} is empty, not a TensorFlow GraphDef: it has no nodes")
    found = _by_content(path, head) or _BY_SUFFIX.get(path.suffix.lower())
    if path.name == "saved_model.pb":
        found = f"the graph of {_SAVED_MODEL}"
    if ".data-00000-of" in path.name:
        found = _CHECKPOINT
    if found:
        raise UnsupportedModelError(f"{path.name} is {found}")


def _directory(path: Path) -> str:
    if (path / "saved_model.pb").exists() or (path / "saved_model.pbtxt").exists():
        return _SAVED_MODEL
    if (path / "checkpoint").exists() or any(path.glob("*.meta")):
        return f"a directory with TensorFlow checkpoints; {_ONLY_GRAPHS}: 'dp freeze -c {path}'"
    return _BY_SUFFIX.get(path.suffix.lower(), f"a directory; {_ONLY_GRAPHS}")


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
    return _BY_SUFFIX.get(path.suffix.lower(), f"a zip archive; {_ONLY_GRAPHS}")


def _json(path: Path, head: bytes) -> str:
    if b'"base_code"' in head or path.with_suffix(".pdiparams").exists():
        return f"the program of {_PADDLE}"
    return f"a JSON file, no model; {_ONLY_GRAPHS} (a training input is given with --input)"
