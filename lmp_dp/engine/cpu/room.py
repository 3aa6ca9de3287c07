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
    empty_tb: Buffer = field(default_factory=Buffer)  # (n_types, n_b) int64
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
    fade_p: Buffer = field(default_factory=Buffer)  # (P,)
    fade_slope_p: Buffer = field(default_factory=Buffer)  # (P,)
    b_bkq: Buffer = field(default_factory=Buffer)  # (n_b, 4, n_columns)
    c_bkr: Buffer = field(default_factory=Buffer)  # (n_b, 4, rank)
    cast_bkr: Buffer = field(default_factory=Buffer)  # C in the fitting net's precision
    features_bi: Buffer = field(default_factory=Buffer)
    dc_bkr: Buffer = field(default_factory=Buffer)
    db_bkq: Buffer = field(default_factory=Buffer)


@dataclass(frozen=True)
class AngularRoom:
    """A chunk on its way through an `Angular`; P are vectors, and pairs of a list (`angular`)."""

    rows: RowsRoom = field(default_factory=RowsRoom)
    v_cp: Buffer = field(default_factory=Buffer)  # (3, P)
    dv_cp: Buffer = field(default_factory=Buffer)  # (3, P)
    count_p: Buffer = field(default_factory=Buffer)  # (P,)
    start_tb: Buffer = field(default_factory=Buffer)  # (n_types, n_b + 1) int64
    b_bq: Buffer = field(default_factory=Buffer)  # (n_b, n_columns)
    db_bq: Buffer = field(default_factory=Buffer)  # (n_b, n_columns)
    # pairs of some centres
    e_p: Buffer = field(default_factory=Buffer)
    weight_p: Buffer = field(default_factory=Buffer)
    one_p: Buffer = field(default_factory=Buffer)  # int32
    two_p: Buffer = field(default_factory=Buffer)  # int32
    first_b: Buffer = field(default_factory=Buffer)  # int64
    piece_p: Buffer = field(default_factory=Buffer)  # int32
    x_p: Buffer = field(default_factory=Buffer)
    de_p: Buffer = field(default_factory=Buffer)
    g_pm: Buffer = field(default_factory=Buffer)
    dg_pm: Buffer = field(default_factory=Buffer)
    work: Buffer = field(default_factory=Buffer)


@dataclass(frozen=True)
class RadialRoom:
    """A chunk on its way through a `Radial`; P is the capacity of its rows."""

    rows: RowsRoom = field(default_factory=RowsRoom)
    piece_p: Buffer = field(default_factory=Buffer)  # (P,) int32
    x_p: Buffer = field(default_factory=Buffer)  # (P,)
    g_pm: Buffer = field(default_factory=Buffer)
    dg_tpm: dict[int, Buffer] = field(default_factory=dict)  # of each neighbour element
    work: Buffer = field(default_factory=Buffer)
    b_bq: Buffer = field(default_factory=Buffer)  # (n_b, n_columns)
    db_bq: Buffer = field(default_factory=Buffer)  # (n_b, n_columns)


@dataclass(frozen=True)
class LayerRoom:
    """A layer of the fitting net."""

    y_bo: Buffer = field(default_factory=Buffer)
    slope_bo: Buffer = field(default_factory=Buffer)
    dx_bi: Buffer = field(default_factory=Buffer)
