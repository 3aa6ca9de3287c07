"""Models that the first rank converts or tabulates for all ranks.

What it sends: for each model of the command the length of a model file (8 bytes, 0 if there is
none: each rank reads the file that is named) and its content.
"""

from __future__ import annotations

import ctypes
import os
import struct
from typing import Any

from lmp_dp.engine import model_cache
from lmp_dp.engine.compression import doubts_of_tables
from lmp_dp.lammps.arguments import Arguments
from lmp_dp.lammps.bridge import Run
from lmp_dp.model import DeepPotential
from lmp_dp.model.file import of_image
from lmp_dp.text import printable

_LENGTH = struct.Struct("<q")


def prepare(arguments: Arguments) -> tuple[bytes, str, str]:
    """What all ranks are sent, lines for the log, and a warning.

    Raises
    ------
    LmpDpError
        As `model_cache.opened`.
    """
    parts: list[bytes | memoryview] = []
    log, warnings = "", []
    for path in arguments.models:
        if not model_cache.needs_preparation(path, arguments.compress):
            parts.append(_LENGTH.pack(0))
            continue
        model, content, story = model_cache.prepare(path, arguments.compress)
        parts += [_LENGTH.pack(len(content)), content]
        log += f"pair_style dp: {printable(path)} {printable(story)}\n"
        if arguments.compress and (doubts := doubts_of_tables(model)):
            warnings.append(f"pair_style dp: {path}: {doubts}")
    return b"".join(parts), log, "; ".join(warnings)


def models(run: Run, paths: list[str]) -> list[str | DeepPotential]:
    """The models of the command, and the paths of those that each rank reads itself."""
    content = ctypes.string_at(run.models or 0, run.models_size) if run.models_size else b""
    found: list[str | DeepPotential] = []
    start = 0
    for path in paths:
        start += _LENGTH.size
        size = _LENGTH.unpack(content[start - _LENGTH.size : start])[0]
        found.append(of_image(memoryview(content)[start : start + size], path) if size else path)
        start += size
    return found


def from_first_rank(model: Any, compress: bool, comm: Any) -> Any:
    """What each rank gives `Potential`, which is the same everywhere, or the same error."""
    is_path = isinstance(model, (str, os.PathLike))
    if comm is None or not is_path or not model_cache.needs_preparation(model, compress):
        return model
    outcome: Any = None
    if comm.Get_rank() == 0:
        try:
            outcome = bytes(model_cache.prepare(model, compress).content)
        except Exception as error:
            outcome = error
    outcome = comm.bcast(outcome)
    if isinstance(outcome, Exception):
        raise outcome
    return of_image(outcome, model)
