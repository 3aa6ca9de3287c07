"""Kernels that came compiled, for levels of CPUs: a container image names them `LMP_DP_KERNELS`.

numba keeps machine code under the name and the features of the CPU that it is for, which differ
from machine to machine. So the level that this CPU reaches is made numba's target in place of the
CPU itself, and what was compiled for it is copied to where kernels are kept: there numba adds those
that are missing. Without the variable, and where none of the levels is reached, numba compiles for
this CPU.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import llvmlite.binding
import numba
from numba.core.registry import cpu_target

#: Levels of x86-64, the highest first, and what a CPU has that reaches them, as LLVM calls it.
LEVELS = {
    "x86-64-v4": "avx512f avx512bw avx512cd avx512dq avx512vl avx2 bmi bmi2 f16c fma lzcnt movbe",
    "x86-64-v3": "avx2 bmi bmi2 f16c fma lzcnt movbe",
}


def target_features() -> str:
    """What numba compiles for, as LLVM writes it: ``+avx2,-avx512f,...``."""
    return str(cpu_target.target_context.codegen().magic_tuple()[2])


def written(level: str) -> str:
    """The features of a level in the manner of `target_features`."""
    return ",".join(f"+{feature}" for feature in LEVELS[level].split())


def choose() -> str | None:
    """Make the highest level with kernels numba's target; None where it is this CPU, as usual."""
    root = os.environ.get("LMP_DP_KERNELS")
    config: Any = numba.config  # its attributes come from the environment
    if not root or config.CPU_NAME:  # the user has chosen
        return None
    host = llvmlite.binding.get_host_cpu_features()
    for level, features in LEVELS.items():
        if all(host.get(feature) for feature in features.split()) and Path(root, level).is_dir():
            before = config.CPU_FEATURES
            config.CPU_NAME, config.CPU_FEATURES = level, written(level)
            if target_features() == written(level):
                return level
            # Someone in this process has compiled something already: numba's target is fixed.
            config.CPU_NAME, config.CPU_FEATURES = None, before
            return None
    return None


def copy(level: str, name: str, folder: Path) -> None:
    """Fill `folder`, if it is empty, with the kernels `name` of the level: with all or with none.

    What cannot be copied is compiled.
    """
    source = Path(os.environ["LMP_DP_KERNELS"], level, name)
    with suppress(OSError):
        if source.is_dir() and not any(folder.iterdir()):
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix=name) as scratch:
                shutil.copytree(source, Path(scratch, name))
                Path(scratch, name).rename(folder)  # refused where another rank was faster
