"""How kernels are compiled, and where the machine code is kept.

The cache is a folder of its own, named after the kernels' source text, so that code of an older
version is never taken: below ``$NUMBA_CACHE_DIR``, else ``$XDG_CACHE_HOME`` or ``~/.cache``, else
(nothing there can be written) below the folder for temporary files.
"""

from __future__ import annotations

import functools
import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba

# Sums may be reordered (they are vectorised), NaN and infinity keep their meaning.
_FAST = {"reassoc", "contract", "nsz", "arcp"}


@functools.cache
def cache_directory() -> Path:
    """The folder for compiled kernels; it exists and can be written."""
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    name = f"lmp_dp-{digest.hexdigest()[:12]}"
    roots = [os.environ.get("NUMBA_CACHE_DIR"), os.environ.get("XDG_CACHE_HOME")]
    for root in [*roots, os.path.expanduser("~/.cache")]:
        if root and _is_writable(Path(root) / name):
            return Path(root) / name
    shared = Path(tempfile.gettempdir()) / f"{name}-{os.getuid()}"
    return shared if _is_writable(shared) else Path(tempfile.mkdtemp(prefix=name))


def _is_writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            # machine code is loaded from here: nobody else's folder
            return folder.stat().st_uid == os.getuid()
    except OSError:
        return False


def kernel(function: Callable[..., Any]) -> Any:
    """Decorator: compile on first use, release the GIL, keep the machine code on disk."""
    previous = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(cache_directory())
    try:
        return numba.njit(nogil=True, cache=True, fastmath=_FAST, error_model="numpy")(function)
    finally:
        numba.config.CACHE_DIR = previous
