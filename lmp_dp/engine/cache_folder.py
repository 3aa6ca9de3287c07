"""Folders for what is made once and used again: compiled kernels, converted models.

Below ``$NUMBA_CACHE_DIR``, else ``$XDG_CACHE_HOME`` or ``~/.cache``, else (nothing there can be
written) below the folder for temporary files.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

import lmp_dp


def cache_folder(name: str) -> Path | None:
    """The folder of this name; it exists and can be written. None where nothing can be."""
    roots = [os.environ.get("NUMBA_CACHE_DIR"), os.environ.get("XDG_CACHE_HOME")]
    for root in [*roots, os.path.expanduser("~/.cache")]:
        if root and _is_writable(Path(root) / name):
            return Path(root) / name
    shared = Path(tempfile.gettempdir()) / f"{name}-{os.getuid()}"
    return shared if _is_writable(shared) else None


def digest_of_sources(*parts: str) -> str:
    """SHA-256 of the package's own sources below these folders: of who has made an entry."""
    digest = hashlib.sha256()
    package = Path(lmp_dp.__file__).parent
    for part in parts:
        for source in sorted((package / part).rglob("*")):
            if source.suffix in (".py", ".cu"):
                digest.update(source.read_bytes())
    return digest.hexdigest()


def _is_writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            # what lies here is run, and computed with: nobody else's folder
            return folder.stat().st_uid == os.getuid()
    except OSError:
        return False
