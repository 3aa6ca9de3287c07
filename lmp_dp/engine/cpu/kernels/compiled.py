"""How kernels are compiled, and where the machine code is kept.

The cache is a folder of its own, named after the kernels' source text, so that code of an older
version is never taken (`lmp_dp.engine.cache_folder` says where; `lmp_dp.engine.cpu.precompiled` of
kernels that came compiled).
"""

from __future__ import annotations

import functools
import hashlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba

from lmp_dp.engine.cache_folder import cache_folder
from lmp_dp.engine.cpu import precompiled

# Sums may be reordered (they are vectorised), NaN and infinity keep their meaning.
_FAST = {"reassoc", "contract", "nsz", "arcp"}


@functools.cache
def cache_directory() -> Path:
    """The folder for compiled kernels; it exists and can be written."""
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    name = f"lmp_dp-{digest.hexdigest()[:12]}"
    level = precompiled.choose()
    kept = f"{name}-{level}" if level else name
    folder = cache_folder(kept) or Path(tempfile.mkdtemp(prefix=kept))
    if level:
        precompiled.copy(level, name, folder)
    return folder


def kernel(function: Callable[..., Any]) -> Any:
    """Decorator: compile on first use, release the GIL, keep the machine code on disk."""
    previous = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(cache_directory())
    try:
        return numba.njit(nogil=True, cache=True, fastmath=_FAST, error_model="numpy")(function)
    finally:
        numba.config.CACHE_DIR = previous
