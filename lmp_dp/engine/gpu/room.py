"""Device memory of steps: it grows and is reused, at the same places on every step."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any

from lmp_dp.engine.neighbourhood import Array


def with_headroom(size: int) -> int:
    """What is allocated for so much: lists that grow a little do not move everything."""
    return size + size // 16


class Buffer:
    """One array of a room, under its name there."""

    def __init__(self) -> None:
        self._memory: Array | None = None

    @property
    def nbytes(self) -> int:
        """Bytes that it holds."""
        return 0 if self._memory is None else int(self._memory.nbytes)

    def take(self, xp: Any, shape: tuple[int, ...], dtype: Any) -> Array:
        """The array, uninitialised."""
        size = math.prod(shape)
        if self._memory is None or self._memory.size < size or self._memory.dtype != dtype:
            self._memory = None  # first, so that the new one may have its memory
            self._memory = xp.empty(with_headroom(size), dtype)
        return self._memory[:size].reshape(shape)


@dataclass(frozen=True)
class ListRoom:
    """What lists have for each slot."""

    neighbours_p: Buffer = field(default_factory=Buffer)  # int32
    reverse_p: Buffer = field(default_factory=Buffer)  # uint32


@dataclass(frozen=True)
class StepRoom:
    """What a step reads and writes, besides the lists."""

    up: Buffer = field(default_factory=Buffer)  # bytes: positions, and parameters of atoms
    down: Buffer = field(default_factory=Buffer)  # float64: `chunk.Packed`
    gradients_pc: Buffer = field(default_factory=Buffer)  # (n_slots, 3) float64
    totals: Buffer = field(default_factory=Buffer)  # (2,) uint64: dropped, beyond the tables
    partial: Buffer = field(default_factory=Buffer)  # float64: of blocks (sums.cu)


@dataclass(frozen=True)
class MomentRoom:
    """A chunk on its way through a `Moment`."""

    n_rows_tb: Buffer = field(default_factory=Buffer)
    empty_tb: Buffer = field(default_factory=Buffer)
    slot_p: Buffer = field(default_factory=Buffer)
    rows_pk: Buffer = field(default_factory=Buffer)
    fade_up: Buffer = field(default_factory=Buffer)  # fade and its slope, where there is any
    piece_p: Buffer = field(default_factory=Buffer)
    x_p: Buffer = field(default_factory=Buffer)
    # of embedding nets: input, before the activation, two layers in turn, and the last one's
    # output, which is kept until the backward pass, of each neighbour element
    net_x_pi: Buffer = field(default_factory=Buffer)
    net_z_po: Buffer = field(default_factory=Buffer)
    net_y_po: tuple[Buffer, Buffer] = field(default_factory=lambda: (Buffer(), Buffer()))
    g_tpm: dict[int, Buffer] = field(default_factory=dict)
    b_bkq: Buffer = field(default_factory=Buffer)
    c_bkr: Buffer = field(default_factory=Buffer)
    features_bi: Buffer = field(default_factory=Buffer)
    dfeatures_bi: Buffer = field(default_factory=Buffer)  # where there are several forms
    dc_bkr: Buffer = field(default_factory=Buffer)
    db_bkq: Buffer = field(default_factory=Buffer)
    # where the fitting net's precision is another one
    cast_c_bkr: Buffer = field(default_factory=Buffer)
    cast_dc_bkr: Buffer = field(default_factory=Buffer)


@dataclass(frozen=True)
class LayerRoom:
    """A layer of the fitting net."""

    y_bo: Buffer = field(default_factory=Buffer)
    slope_bo: Buffer = field(default_factory=Buffer)
    dx_bi: Buffer = field(default_factory=Buffer)


@dataclass(frozen=True)
class Room:
    """All memory that steps reuse."""

    lists: ListRoom = field(default_factory=ListRoom)
    step: StepRoom = field(default_factory=StepRoom)
    # by the place of the form; the features and their gradient of all forms, where they are several
    moments: dict[int, MomentRoom] = field(default_factory=dict)
    features_bi: Buffer = field(default_factory=Buffer)
    layers: dict[int, LayerRoom] = field(default_factory=dict)


def nbytes(thing: Any) -> int:
    """Bytes in all buffers of a room."""
    return sum(buffer.nbytes for buffer in _buffers(thing))


def _buffers(thing: Any) -> Iterator[Buffer]:
    if isinstance(thing, Buffer):
        yield thing
        return
    if isinstance(thing, dict):
        parts = list(thing.values())
    elif isinstance(thing, tuple):
        parts = list(thing)
    else:
        parts = [getattr(thing, of.name) for of in fields(thing)]
    for part in parts:
        yield from _buffers(part)
