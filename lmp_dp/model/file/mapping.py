"""A model's dataclasses to and from HDF5 groups, by the types of their fields (pages/schema.md).

=============================  ======================================================
field                          in the group
=============================  ======================================================
number, bool, short string     attribute; a `numpy.dtype` by its name
array, `Text`, strings         dataset
dataclass                      group of the field's name
tuple of dataclasses           group with the groups ``0``, ``1``, ... and their ``count``
descriptor                     group with the attribute ``kind``
None, or its plain default     absent
=============================  ======================================================

An array's axes are the letters behind the last underscore of its name.
"""

from __future__ import annotations

import dataclasses
import types
from functools import cache
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import h5py
import numpy as np

from lmp_dp.errors import ModelFileError
from lmp_dp.model import bounds
from lmp_dp.model.arrays import Text
from lmp_dp.model.descriptors.registry import KINDS, Descriptor
from lmp_dp.model.file.reader import Reader

_T = TypeVar("_T")
_ATTRIBUTES = {str: Reader.string, float: Reader.number, int: Reader.integer, bool: Reader.flag}


# --------------------------------------------------------------------------- writing
def write(group: h5py.Group, thing: Any) -> None:
    """Fill an empty group with the fields of a dataclass."""
    hints = _hints(type(thing))  # type: ignore[arg-type]
    for field in dataclasses.fields(thing):
        value = getattr(thing, field.name)
        if value is not None and not _is_default(field, value):
            _write_value(group, field.name, _without_none(hints[field.name]), value)


def _write_value(group: h5py.Group, name: str, hint: Any, value: Any) -> None:
    if get_origin(hint) is Annotated:
        group[name] = value
    elif hint == tuple[str, ...]:
        group[name] = np.array(value, dtype=h5py.string_dtype())
    elif get_origin(hint) is tuple:
        inner = group.create_group(name)
        inner.attrs["count"] = len(value)
        for n, item in enumerate(value):
            _write_value(inner, str(n), get_args(hint)[0], item)
    elif hint is Descriptor or dataclasses.is_dataclass(hint):
        inner = group.create_group(name)
        if hint is Descriptor:
            inner.attrs["kind"] = value.kind
        write(inner, value)
    else:
        group.attrs[name] = value.name if hint is np.dtype else value


# --------------------------------------------------------------------------- reading
def read(reader: Reader, kind: type[_T]) -> _T:
    """A dataclass of a kind from its group.

    Raises
    ------
    ModelFileError
        Something is missing, of another type, or refused by the dataclass; with its place.
    """
    hints, values = _hints(kind), {}  # type: ignore[arg-type]
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        name, hint = field.name, _without_none(hints[field.name])
        optional = hint is not hints[name] or _may_be_absent(_default_of(field))
        if not optional or reader.has(name) or reader.has_attribute(name):
            values[name] = _read_value(reader, name, hint)
        elif hint is not hints[name]:
            values[name] = None
    try:
        return kind(**values)
    except ModelFileError as error:
        text = str(error)
        raise ModelFileError(f"{reader.place}: {text}" if reader.place else text) from None


def _read_value(reader: Reader, name: str, hint: Any) -> Any:
    if hint is np.dtype:
        return np.dtype(_one_of(("float32", "float64"), reader, name))
    if get_origin(hint) is Literal:
        return _one_of(get_args(hint), reader, name)
    if get_origin(hint) is Annotated:
        reads = getattr(Reader, hint.__metadata__[0])
        axes = () if hint == Text else (len(name.rpartition("_")[2]),)
        return reads(reader, name, *axes)
    if hint == tuple[str, ...]:
        return reader.texts(name)
    if get_origin(hint) is tuple:
        inner = reader.sub(name)
        count = inner.integer("count")
        bounds.check_number(f"attribute {inner.place}/@count", count, 0, bounds.MAX_PARTS)
        return tuple(_read_value(inner, str(n), get_args(hint)[0]) for n in range(count))
    if hint is Descriptor:
        inner = reader.sub(name)
        return read(inner, KINDS[_one_of(tuple(sorted(KINDS)), inner, "kind")])
    if dataclasses.is_dataclass(hint):
        return read(reader.sub(name), hint)  # type: ignore[arg-type]
    return _ATTRIBUTES[hint](reader, name)


def _one_of(values: tuple[str, ...], reader: Reader, name: str) -> str:
    found = reader.string(name)
    if found not in values:
        place, expected = f"{reader.place}/@{name}", " or ".join(values)
        raise ModelFileError(f"attribute {place}: '{found[:40]}' found, expected {expected}")
    return found


# --------------------------------------------------------------------------- fields
@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _without_none(hint: Any) -> Any:
    """``X`` of ``X | None``."""
    if get_origin(hint) in (Union, types.UnionType):
        return next(of for of in get_args(hint) if of is not type(None))
    return hint


def _default_of(field: dataclasses.Field[Any]) -> Any:
    """What the field is where nothing is said of it, MISSING if it must be given."""
    missing = dataclasses.MISSING
    return field.default if field.default_factory is missing else field.default_factory()


def _is_default(field: dataclasses.Field[Any], value: Any) -> bool:
    default = _default_of(field)
    if not _may_be_absent(default):
        return False
    return len(value) == 0 if isinstance(default, (tuple, np.ndarray)) else value == default


def _may_be_absent(default: Any) -> bool:
    """Whether nothing is written of a field with this default where it has that value."""
    if isinstance(default, (tuple, np.ndarray)):
        return len(default) == 0
    return isinstance(default, (bool, int, float))
