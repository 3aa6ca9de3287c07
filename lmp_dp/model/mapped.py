"""Parts of a model wherever they stand in it: found, or replaced."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar, get_args, get_type_hints

from lmp_dp.model.arrays import Parameters

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
    return _replace(thing, lambda part, hint: isinstance(part, kind), function, None)


def replace_parameters(thing: _T, function: Callable[[Any], Any]) -> _T:
    """`thing` with `function` applied to the parameters of its nets (`arrays.Parameters`)."""
    return _replace(thing, _is_parameters, function, None)


def replace_evaluated(
    thing: _T, of_parameters: Callable[[Any], Any], kind: type, of_kind: Callable[[Any], Any]
) -> _T:
    """`replace_parameters` and `replace_all` at once: parts that must agree change together."""
    return _replace(
        thing,
        lambda part, hint: isinstance(part, kind) or _is_parameters(part, hint),
        lambda part: of_kind(part) if isinstance(part, kind) else of_parameters(part),
        None,
    )


def _is_parameters(part: Any, hint: Any) -> bool:
    return part is not None and Parameters in (hint, *get_args(hint))


def _replace(
    thing: Any, chosen: Callable[[Any, Any], bool], function: Callable[[Any], Any], hint: Any
) -> Any:
    if chosen(thing, hint):
        return function(thing)
    if isinstance(thing, tuple):
        return tuple(_replace(item, chosen, function, None) for item in thing)
    if not dataclasses.is_dataclass(thing) or isinstance(thing, type):
        return thing
    hints, changes = _hints(type(thing)), {}
    for field in dataclasses.fields(thing):
        old = getattr(thing, field.name)
        new = _replace(old, chosen, function, hints[field.name])
        if new is not old:
            changes[field.name] = new
    return dataclasses.replace(thing, **changes) if changes else thing


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)
