"""Parts of a model wherever they stand in it: found, or replaced."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

_T = TypeVar("_T")


def find_all(thing: Any, kind: type[_T]) -> list[_T]:
    """All instances of `kind` in the fields of `thing`, fields' fields, ..."""
    found: list[_T] = []

    def note(part: _T) -> _T:
        found.append(part)
        return part

    replace_all(thing, kind, note)
    return found


def replace_all(thing: _T, kind: type | tuple[type, ...], function: Callable[[Any], Any]) -> _T:
    """`thing` with `function` applied to all instances of `kind` in its fields, and theirs."""
    if isinstance(thing, kind):
        return function(thing)
    if isinstance(thing, tuple):
        return tuple(replace_all(item, kind, function) for item in thing)  # type: ignore[return-value]
    if not dataclasses.is_dataclass(thing) or isinstance(thing, type):
        return thing
    changes = {}
    for field in dataclasses.fields(thing):
        old = getattr(thing, field.name)
        new = replace_all(old, kind, function)
        if new is not old:
            changes[field.name] = new
    return dataclasses.replace(thing, **changes) if changes else thing
