"""The array namespace: the reference engine is written once and runs on NumPy or CuPy arrays."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy


def namespace_of(array: Any) -> ModuleType:
    """``cupy`` for CuPy arrays, else ``numpy``; never imports CuPy by itself."""
    cupy = sys.modules.get("cupy")
    if cupy is not None and isinstance(array, cupy.ndarray):
        return cupy
    return numpy


def to_numpy(array: Any) -> numpy.ndarray:
    """Copy a device array to the host; NumPy arrays pass through."""
    return array if namespace_of(array) is numpy else array.get()


def repeat(values: Any, counts: Any) -> Any:
    """``repeat`` with an array of counts (CuPy's own takes host numbers only)."""
    xp = namespace_of(values)
    if xp is numpy:
        return numpy.repeat(values, counts)
    ends = xp.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    return values[xp.searchsorted(ends, xp.arange(total), side="right")]
