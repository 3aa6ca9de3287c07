"""Folders for what is made once and used again: compiled kernels, converted models.

Below ``$NUMBA_CACHE_DIR``, else ``$XDG_CACHE_HOME`` or ``~/.cache``, else (nothing there can be
written) below the folder for temporary files.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def cache_folder(name: str) -> Path | None:
    """The folder of this name; it exists and can be written. None where nothing can be."""
    roots = [os.environ.get("NUMBA_CACHE_DIR"), os.environ.get("XDG_CACHE_HOME")]
    for root in [*roots, os.path.expanduser("~/.cache")]:
        if root and _is_writable(Path(root) / name):
            return Path(root) / name
    shared = Path(tempfile.gettempdir()) / f"{name}-{os.getuid()}"
    return shared if _is_writable(shared) else None


def _is_writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            # what lies here is run, and computed with: nobody else's folder
            return folder.stat().st_uid == os.getuid()
    except OSError:
        return False
