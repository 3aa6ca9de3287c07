"""The structs that the plugin and Python share, and views of the plugin's arrays.

Twin of `plugin/bridge.h`, field by field, which says what they mean: change both together.
`difference` compares where the fields lie.
"""

from __future__ import annotations

import ctypes
import math
from ctypes import c_char_p, c_double, c_int, c_int32, c_int64, c_void_p
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: What a call into Python returns.
CALL_OK, CALL_FAILED, CALL_INTERRUPTED = 0, 1, 2


class Run(ctypes.Structure):
    """What holds for a run: answers to `settings` and `coeff`, and facts of LAMMPS."""

    _fields_ = (
        ("cutoff", c_double),
        ("device", c_char_p),
        ("n_models", c_int32),
        ("builds_lists", c_int32),
        ("rank", c_int32),
        ("world_size", c_int32),
        ("restarted", c_int32),
        ("local_rank", c_int32),
        ("local_size", c_int32),
        ("node_cores", c_int32),
        ("n_types", c_int32),
        ("model_types", c_void_p),
        ("masses", c_void_p),
        ("tag_size", c_int32),
        ("lammps_version", c_char_p),
        ("unit_style", c_char_p),
        ("boltz", c_double),
        ("angstrom", c_double),
        ("counts", c_void_p),
        ("models", c_void_p),
        ("models_size", c_int64),
        ("watching", c_int32),
    )

    @property
    def tag_type(self) -> type[np.generic]:
        """NumPy's type of atom IDs."""
        return np.int64 if self.tag_size == 8 else np.int32


class Step(ctypes.Structure):
    """What changes on each step, and its results."""

    _fields_ = (
        ("timestep", c_int64),
        ("n_neighbours", c_int64),
        ("n_local", c_int32),
        ("n_all", c_int32),
        ("n_centres", c_int32),
        ("rebuilt", c_int32),
        ("want_virial", c_int32),
        ("x", c_void_p),
        ("f", c_void_p),
        ("types", c_void_p),
        ("tags", c_void_p),
        ("centres", c_void_p),
        ("offsets", c_void_p),
        ("neighbours", c_void_p),
        ("energies", c_void_p),
        ("virials6", c_void_p),
        ("virials9", c_void_p),
        ("energy", c_double),
        ("virial", c_double * 6),
        ("skin", c_double),
        ("scale", c_double),
        ("box_low", c_double * 3),
        ("box", c_double * 6),
    )


class Deviation(ctypes.Structure):
    """Model deviation of one step."""

    _fields_ = (
        ("model_forces", c_void_p),
        ("model_virials", c_void_p),
        ("deviations", c_void_p),
        ("all_deviations", c_void_p),
        ("all_tags", c_void_p),
        ("n_atoms", c_int64),
    )


class Parameters(ctypes.Structure):
    """Parameters of the frame and of atoms: what gives them, and their values on each step."""

    _fields_ = (
        ("fparam_compute", c_char_p),
        ("fparam_fix", c_char_p),
        ("aparam_compute", c_char_p),
        ("ttm_fix", c_char_p),
        ("fparam_index", c_int32),
        ("n_fparam", c_int32),
        ("n_aparam", c_int32),
        ("ttm_group", c_int32),
        ("fparam", c_void_p),
        ("aparam", c_void_p),
        ("ttm", c_void_p),
        ("n_ttm", c_int64),
        ("groups", c_void_p),
    )


class Shared(ctypes.Structure):
    """What the plugin and one `PairStyle` tell each other: `struct Shared` of plugin/bridge.h."""

    _fields_ = (
        ("handle", c_int64),
        ("message", c_char_p),
        ("log", c_char_p),
        ("warning", c_char_p),
        ("run", Run),
        ("step", Step),
        ("deviation", Deviation),
        ("parameters", Parameters),
    )


class Field(ctypes.Structure):
    """Where the plugin has a field of `Shared`, or one of its parts: "part.field"."""

    _fields_ = (("name", c_char_p), ("offset", c_int64), ("size", c_int64))


Call = ctypes.CFUNCTYPE(c_int, c_void_p)
CallWithArguments = ctypes.CFUNCTYPE(c_int, c_void_p, c_int, ctypes.POINTER(c_char_p))


class Bridge(ctypes.Structure):
    """The functions that the plugin calls: `struct Bridge` of plugin/bridge.h."""

    _fields_ = (
        ("bridge_size", c_int64),
        ("n_fields", c_int64),
        ("fields", ctypes.POINTER(Field)),
        ("prepare", CallWithArguments),
        ("settings", CallWithArguments),
        ("coeff", CallWithArguments),
        ("init", Call),
        ("compute", Call),
        ("deviate", Call),
        ("record", Call),
        ("count", Call),
        ("warn", Call),
        ("finish", Call),
        ("close", Call),
    )


#: The functions of a `Bridge`, which Python fills in.
CALLS = {name: kind for name, kind in Bridge._fields_ if kind in (Call, CallWithArguments)}

Place = tuple[int, int]


def places(structure: type[ctypes.Structure], part: str = "", start: int = 0) -> dict[str, Place]:
    """Offset and size in bytes of each field of a structure, after those of its parts' fields."""
    result: dict[str, Place] = {}
    kinds: Any = structure._fields_
    for name, kind in kinds:
        field = getattr(structure, name)
        if issubclass(kind, ctypes.Structure):
            result |= places(kind, f"{part}{name}.", start + field.offset)
        result[part + name] = (start + field.offset, field.size)
    return result


def difference(bridge: Bridge) -> str:
    """How the plugin's structures differ from these, by the first field; "" if they do not."""
    here: dict[str, Place] = {"Bridge": (0, ctypes.sizeof(Bridge))}
    there: dict[str, Place] = {"Bridge": (0, bridge.bridge_size)}
    if here == there:  # `fields` is where it is thought to be
        here |= places(Shared)
        fields = bridge.fields[: bridge.n_fields]
        there |= {field.name.decode(): (field.offset, field.size) for field in fields}
    # a field that one side lacks has moved those behind it
    for name in sorted({**here, **there}, key=lambda name: name in here and name in there):
        if here.get(name) != there.get(name):
            return f"{name} is {_placed(there.get(name))} there, {_placed(here.get(name))} here"
    return ""


def _placed(place: Place | None) -> str:
    return f"{place[1]} bytes at {place[0]}" if place else "absent"


class View:
    """A NumPy array on memory of the plugin, made anew only when that memory moves or resizes."""

    def __init__(self, dtype: type[np.generic], *columns: int) -> None:
        self.dtype = dtype
        self.columns = columns
        self.address: int | None = -1
        self.array: NDArray[Any] = np.empty((0, *columns), dtype)

    def at(self, address: int | None, rows: int) -> NDArray[Any]:
        """The array of `rows` rows that starts at `address`; no copy."""
        if address != self.address or rows != len(self.array):
            self.address = address
            shape = (rows, *self.columns)
            if rows == 0 or address is None:  # a rank without atoms
                self.array = np.empty((0, *self.columns), self.dtype)
            else:
                size = math.prod(shape) * np.dtype(self.dtype).itemsize
                memory = (ctypes.c_char * size).from_address(address)
                self.array = np.ndarray(shape, self.dtype, buffer=memoryview(memory))
        return self.array
