"""CUDA kernels of the gpu backend: `.cu` files, compiled at run time.

The kernels are plain CUDA C++ without includes; `REAL` (float or double) is the precision of the
net that they work for. One warp works on one centre or atom unless a kernel says otherwise,
`THREADS` threads are a block. Axes as in DATAFLOW.md, and

    block    the slots of one centre b of a chunk for neighbours of one element t, number t n_b + b:
             slots offsets_g[block] .. offsets_g[block + 1] of the neighbour list
    slot     an entry of the neighbour list (cutoff and skin); gradients are stored by slot
    row      a slot within the cutoff that is used; the rows of a block are the first of its slots

Arrays of a chunk start at its first slot, so that 32 bits suffice for what counts slots in it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

#: Threads of a block, for all kernels.
THREADS = 128
#: Threads of a warp.
WARP = 32
#: Sums over atoms are added up in so many blocks at most: four for each multiprocessor of an H200.
SUM_BLOCKS = 512
#: `SUMMED` of sums.cu.
SUMMED = 11
_FILES = (
    "common.cu",
    "neighbours.cu",
    "environment.cu",
    "functions.cu",
    "moments.cu",
    "gradients.cu",
    "features.cu",
    "fitting.cu",
    "forces.cu",
    "sums.cu",
)


def source() -> str:
    """All kernels as one text; compilers report errors by file and line."""
    folder = Path(__file__).parent
    return "".join(f'#line 1 "{name}"\n{(folder / name).read_text()}\n' for name in _FILES)


def options(**defines: object) -> tuple[str, ...]:
    """What a compiler is told, with the macros `defines`."""
    return "--std=c++17", *(f"-D{name}={value}" for name, value in defines.items())


def real(dtype: np.dtype) -> str:
    """What `REAL` is for a net of this precision."""
    return "double" if dtype == np.float64 else "float"


def blocks(n_threads: int) -> int:
    """Blocks for so many threads."""
    return -(-n_threads // THREADS)


def warps(n: int) -> int:
    """Blocks for one warp per item."""
    return blocks(n * WARP)
