"""Whether the installed lmp-dp is that of this checkout, and all that it needs is there."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import lmp_dp

ROOT = Path(__file__).resolve().parents[2]
SUFFIXES = (".py", ".cu")


def differing(ours: Path, installed: Path) -> list[str]:
    """Sources of one package folder that are not the same in another, or not there."""
    names = {
        str(path.relative_to(folder))
        for folder in (ours, installed)
        for path in folder.rglob("*")
        if path.suffix in SUFFIXES
    }

    def content(folder: Path, name: str) -> bytes | None:
        path = folder / name
        return path.read_bytes() if path.exists() else None

    return sorted(name for name in names if content(ours, name) != content(installed, name))


def missing(requirements: Iterable[str]) -> list[str]:
    """Distributions that are required, without any extra, and not installed."""
    found = []
    for requirement in requirements:
        match = re.match(r"[\w.-]+", requirement)
        if match is None or "extra ==" in requirement:
            continue
        try:
            metadata.version(match[0])
        except metadata.PackageNotFoundError:
            found.append(match[0])
    return found


def main() -> int:
    """0 if it is, and all is there."""
    installed = Path(lmp_dp.__file__).parent
    print(f"lmp_dp {lmp_dp.__version__} of {installed}, Python {sys.version.split()[0]}")
    if found := differing(ROOT / "lmp_dp", installed):
        print(
            f"that is not the package of this checkout, other are {', '.join(found[:5])}"
            f"{' ...' if found[5:] else ''}: gather its wheel again (.ci/gpu-wheels), or install it"
        )
        return 1
    if lacking := missing(metadata.requires("lmp-dp") or ()):
        print(f"not installed: {', '.join(lacking)}; .ci/gpu-wheels leaves out what --have names")
        return 1
    importlib.import_module("numba")  # refuses a NumPy that it does not know
    return 0


if __name__ == "__main__":
    sys.exit(main())
