"""Models used as they are: converted and tabulated in memory, and kept for the next start.

What is made of a source depends on its content and on the programs that make it, and is kept under
the SHA-256 of both: a changed source, or another version of lmp_dp, finds nothing. Entries are
sealed model files (`lmp_dp.model.file`), written whole or not at all; a damaged one is made anew.
The folder holds `LARGEST` bytes, what was not used for longest goes first. Where nothing can be
written, every start converts.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from lmp_dp import files
from lmp_dp.engine.cache_folder import cache_folder, digest_of_sources
from lmp_dp.engine.compression import compress as with_tables
from lmp_dp.errors import ModelFileError, OutputError
from lmp_dp.files import StrPath
from lmp_dp.model import DeepPotential, load
from lmp_dp.model.file import image, of_image
from lmp_dp.model.sources.any_source import read_source
from lmp_dp.model.sources.source_files import format_of, is_model_file

FOLDER = "lmp_dp-models"
#: Bytes of all entries together.
LARGEST = 1_000_000_000
_UNPROVEN = "unproven: converted in memory, without deepmd-kit"


class Prepared(NamedTuple):
    """A model that is ready to be evaluated, and the content of a file that holds it.

    `story` says in words where it comes from.
    """

    model: DeepPotential
    content: bytes | memoryview
    story: str


def needs_preparation(path: StrPath, compress: bool) -> bool:
    """False for a model file that is evaluated as it is."""
    return compress or not is_model_file(Path(path))


def opened(model: StrPath | DeepPotential, compress: bool = False) -> DeepPotential:
    """The model of any file that can be read: a model file, or a source as it is.

    Parameters
    ----------
    model : path, or DeepPotential
    compress : bool
        Tabulate its nets as ``lmp-dp compress`` does by default; a model with tables stays as it
        is.

    Raises
    ------
    lmp_dp.errors.ModelFileError, lmp_dp.errors.UnsupportedModelError
        As ``lmp-dp convert``.
    lmp_dp.errors.InputError
        As ``lmp-dp compress``.
    """
    if isinstance(model, DeepPotential):
        return with_tables(model) if compress and not model.tables else model
    return prepare(model, compress).model if needs_preparation(model, compress) else load(model)


def prepare(path: StrPath, compress: bool = False) -> Prepared:
    """As `opened`, for those who pass the model on."""
    path = Path(path)
    source = None
    if is_model_file(path):
        source = load(path)
        if source.tables:
            return Prepared(source, image(source), "has tables, which are used")
    else:
        format_of(path)  # before its content is looked for: some names alone are refused
    digest = _digest(path)
    folder = cache_folder(FOLDER)
    entry = folder and folder / f"{digest}-{_made_by(path.name, compress)}.h5"
    if entry and (kept := _kept(entry)):
        return kept
    model = source or _converted(path)
    if compress and not model.tables:
        model = with_tables(model)
    content = image(model)
    done = "was tabulated now" if compress else "was converted now"
    if entry and _digest(path) == digest and _keep(entry, content):
        return Prepared(model, content, f"{done}, kept for the next start in {folder}")
    return Prepared(model, content, f"{done}; no folder can be written that would keep it")


def entries() -> tuple[Path | None, list[os.stat_result]]:
    """The folder, and the files that it holds, in the order of their last use."""
    folder = cache_folder(FOLDER)
    return folder, [state for _, state in _by_last_use(folder)] if folder else []


def _converted(path: Path) -> DeepPotential:
    model = read_source(path)
    notes = (*model.provenance.notes, _UNPROVEN)
    return dataclasses.replace(model, provenance=dataclasses.replace(model.provenance, notes=notes))


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ModelFileError(f"cannot read the model file {path}: {error}") from error


@functools.cache
def _made_by(name: str, compress: bool) -> str:
    """Of all that decides, besides the content of the source, what the entry is."""
    sources = digest_of_sources(*(("model", "engine") if compress else ("model",)))
    made_by = f"{compress} {name} {sources}".encode(errors="surrogateescape")
    return hashlib.sha256(made_by).hexdigest()[:16]


def _kept(entry: Path) -> Prepared | None:
    """What an earlier start has left; None if there is nothing, or it is damaged."""
    try:
        content = entry.read_bytes()
        model = of_image(content, entry)
    except (OSError, ModelFileError):
        return None  # it is made anew, and replaced
    with suppress(OSError):
        os.utime(entry)
    return Prepared(model, content, f"was made by an earlier start, kept in {entry.parent}")


def _keep(entry: Path, content: bytes | memoryview) -> bool:
    """Write an entry, and remove what is too much; False if that cannot be done."""
    if len(content) > LARGEST:
        return False
    try:
        files.write(entry, content)
    except OutputError:  # a full disk, say: nothing is lost
        return False
    kept = _by_last_use(entry.parent)
    size = sum(state.st_size for _, state in kept)
    for path, state in kept:
        if size <= LARGEST:
            break
        with suppress(OSError):
            path.unlink()
        size -= state.st_size
    return True


def _by_last_use(folder: Path) -> list[tuple[Path, os.stat_result]]:
    found = []
    for path in folder.iterdir():
        with suppress(FileNotFoundError):  # another process has removed it
            found.append((path, path.stat()))
    return sorted(found, key=lambda item: item[1].st_mtime)
