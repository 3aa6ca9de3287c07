"""Memory that chunks are evaluated in: it grows, is reused, and nothing in it outlives a chunk."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from lmp_dp.engine.cpu.kernels.simd import WIDTH, aligned


class Buffer:
    """One array of a room, under its name there."""

    def __init__(self) -> None:
        self._memory: np.ndarray = np.empty(0)
        self._array: np.ndarray = np.empty(0)  # on the memory, of the shape used last

    def take(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """The array, uninitialised, with a vector of slack behind its last element."""
        last = self._array
        if last.shape == shape and last.dtype == dtype and last.size:
            return last
        size = math.prod(shape)
        if self._memory.size < size + WIDTH or self._memory.dtype != dtype:
            self._memory = aligned(size + WIDTH, dtype)
        self._array = self._memory[:size].reshape(shape)
        return self._array


@dataclass(frozen=True)
class RowsRoom:
    """Rows of a chunk (`kernels`); P is their capacity."""

    first_tb: Buffer = field(default_factory=Buffer)  # (n_types, n_b + 1) int64
    neighbour_p: Buffer = field(default_factory=Buffer)  # (P,) int32
    r_cp: Buffer = field(default_factory=Buffer)  # (3, P) float64
    s_p: Buffer = field(default_factory=Buffer)  # (P,) float64
    ds_p: Buffer = field(default_factory=Buffer)  # (P,) float64
    rows_kp: Buffer = field(default_factory=Buffer)  # (4, P)
    drows_kp: Buffer = field(default_factory=Buffer)  # (4, P)
    g_cp: Buffer = field(default_factory=Buffer)  # (3, P) float64
    # scratch of `gather`: as long as the longest list, and the slots of all centres
    candidate: Buffer = field(default_factory=Buffer)
    candidate_r2: Buffer = field(default_factory=Buffer)
    candidate_type: Buffer = field(default_factory=Buffer)
    slot_bs: Buffer = field(default_factory=Buffer)


@dataclass(frozen=True)
class MomentRoom:
    """A chunk on its way through a `Moment`."""

    rows: RowsRoom = field(default_factory=RowsRoom)
    piece_p: Buffer = field(default_factory=Buffer)  # (P,) int32
    x_p: Buffer = field(default_factory=Buffer)  # (P,)
    # of each neighbour element, made when one is met
    g_tpm: dict[int, Buffer] = field(default_factory=dict)  # of each (rows, M)
    dg_tpm: dict[int, Buffer] = field(default_factory=dict)  # of each (rows, M)
    work: Buffer = field(default_factory=Buffer)
    b_bkq: Buffer = field(default_factory=Buffer)  # (n_b, 4, n_columns)
    c_bkr: Buffer = field(default_factory=Buffer)  # (n_b, 4, rank)
    cast_bkr: Buffer = field(default_factory=Buffer)  # C in the fitting net's precision
    features_bi: Buffer = field(default_factory=Buffer)
    dc_bkr: Buffer = field(default_factory=Buffer)
    db_bkq: Buffer = field(default_factory=Buffer)


@dataclass(frozen=True)
class LayerRoom:
    """A layer of the fitting net."""

    y_bo: Buffer = field(default_factory=Buffer)
    slope_bo: Buffer = field(default_factory=Buffer)
    dx_bi: Buffer = field(default_factory=Buffer)
