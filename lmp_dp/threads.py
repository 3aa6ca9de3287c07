"""How many threads: what the user wants, as an argument or in OMP_NUM_THREADS."""

from __future__ import annotations

import operator
import os
import re
from typing import Any

from lmp_dp.errors import InputError


def omp_num_threads() -> int | None:
    """The first number of OMP_NUM_THREADS; None if it is not set.

    Raises
    ------
    InputError
        It is no positive whole number.
    """
    text = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if not text:
        return None
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) < 1:
        raise InputError(
            f"OMP_NUM_THREADS is {text[:40]!r}, expected a positive number: "
            f"export OMP_NUM_THREADS=1, or unset it"
        )
    return int(text)


def thread_count(requested: Any = None) -> int:
    """Threads to use: as requested, else OMP_NUM_THREADS, else the cores of this process.

    Raises
    ------
    InputError
        One of them is no positive whole number.
    """
    cores = len(os.sched_getaffinity(0))
    if requested is None:
        requested = omp_num_threads() or cores
    try:
        wanted = operator.index(requested)
    except TypeError:
        wanted = 0
    if isinstance(requested, bool) or wanted < 1:
        raise InputError(f"threads is {requested!r}, expected a positive number")
    return min(wanted, cores)


def threads_per_rank(local_size: int, node_cores: int) -> int:
    """Threads of one rank: OMP_NUM_THREADS, or a share of the cores that the node's ranks may use.

    `node_cores` counts the distinct cores of all `local_size` ranks of the node, so that the answer
    is right both where each rank is bound to its own cores and where all share the same ones.
    """
    own = len(os.sched_getaffinity(0))
    return omp_num_threads() or max(1, min(own, node_cores // max(1, local_size)))
