"""The tree that all v3 formats hold: what is asked for is there and of its kind, or refused."""

from __future__ import annotations

from typing import Any

import numpy as np

from lmp_dp.errors import ModelFileError, UnsupportedModelError

_REQUIRED = object()
#: Parts of a tree that are named as lists: nets, layers, members.
_MAX_ITEMS = 100_000


class Tree:
    """One object of the tree.

    Parameters
    ----------
    values : dict
        Plain values, lists, dicts, and arrays under ``@variables``.
    place : str
        Where it stands, for messages.
    left : list of int, optional
        Items of lists that may still be taken, shared by the whole tree: one may name a part of
        itself many times.
    """

    def __init__(self, values: Any, place: str = "", left: list[int] | None = None) -> None:
        self.place = place
        self._left = [_MAX_ITEMS] if left is None else left
        self._content = values

    @property
    def _values(self) -> dict[str, Any]:
        if not isinstance(self._content, dict):
            raise ModelFileError(f"{self.place or 'the model'} is no object")
        return self._content

    def _get(self, name: str, kinds: tuple[type, ...], called: str, default: Any) -> Any:
        value = self._values.get(name)
        if value is None:
            if default is _REQUIRED:
                raise ModelFileError(f"{self.place}/{name} is missing")
            return default
        if type(value) not in kinds:
            raise ModelFileError(
                f"{self.place}/{name} is of type {type(value).__name__}, expected {called}"
            )
        return value

    def sub(self, name: str) -> Tree:
        """An object in this one."""
        return Tree(self._get(name, (dict,), "an object", _REQUIRED), self._at(name), self._left)

    def has(self, name: str) -> bool:
        """Whether there is something of this name, which is not null, false, zero or empty."""
        value = self._values.get(name)
        return value is not None and value is not False and value not in (0, "", [], {})

    def subs(self, name: str) -> list[Tree]:
        """A list of objects; what is none of them is refused when it is read."""
        items = self._get(name, (list,), "a list", _REQUIRED)
        self._left[0] -= len(items)
        if self._left[0] < 0:
            raise ModelFileError(f"{self._at(name)}: the model has more than {_MAX_ITEMS} parts")
        return [Tree(item, f"{self._at(name)}/{n}", self._left) for n, item in enumerate(items)]

    def text(self, name: str, default: Any = _REQUIRED) -> str:
        """A string."""
        return str(self._get(name, (str,), "a string", default))

    def flag(self, name: str, default: Any = _REQUIRED) -> bool:
        """True or false."""
        return bool(self._get(name, (bool,), "true or false", default))

    def number(self, name: str, default: Any = _REQUIRED) -> float:
        """A number."""
        return float(self._get(name, (float, int), "a number", default))

    def integer(self, name: str, default: Any = _REQUIRED) -> int:
        """An integer."""
        return int(self._get(name, (int,), "an integer", default))

    def integers(self, name: str) -> list[int]:
        """A list of integers; empty where there is none. One integer is a list of one."""
        value = self._get(name, (list, int), "a list of integers", [])
        return self._all_integers(name, value if type(value) is list else [value])

    def pairs(self, name: str) -> list[tuple[int, int]]:
        """A list of pairs of integers; empty where there is none."""
        found = []
        for pair in self._get(name, (list,), "a list of pairs", []):
            if type(pair) is not list or len(pair) != 2:
                raise ModelFileError(f"{self._at(name)} holds something else than pairs")
            one, two = self._all_integers(name, pair)
            found.append((one, two))
        return found

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of strings."""
        items = self._get(name, (list,), "a list of strings", _REQUIRED)
        if not all(type(item) is str for item in items):
            raise ModelFileError(f"{self._at(name)} holds something else than strings")
        return tuple(items)

    def flags(self, name: str) -> list[bool] | None:
        """A list of bools, or of what may be null: whether each is there and not false."""
        items = self._get(name, (list,), "a list", None)
        return None if items is None else [item is not None and item is not False for item in items]

    def _all_integers(self, name: str, items: list[Any]) -> list[int]:
        if not all(type(item) is int for item in items):
            raise ModelFileError(f"{self._at(name)} holds something else than integers")
        return items

    def array(self, name: str) -> np.ndarray | None:
        """An array among the variables, in its own precision; None where there is none.

        Raises
        ------
        UnsupportedModelError
            It holds numbers of half precision.
        """
        variables = self._get("@variables", (dict,), "an object", {})
        value = variables.get(name)
        if value is None:
            return None
        array = np.asarray(value) if type(value) in (float, int, np.ndarray) else None
        if array is None or array.dtype.kind not in "fiu":
            raise ModelFileError(f"{self._at('@variables')}/{name} is no array of numbers")
        if array.dtype.kind == "f" and array.dtype.itemsize < 4:
            raise UnsupportedModelError(
                f"{self._at('@variables')}/{name} has the precision {array.dtype}, only float32 "
                "and float64 are supported"
            )
        if array.dtype in (np.float32, np.float64):
            return np.ascontiguousarray(array, array.dtype.newbyteorder("="))
        return array.astype(np.float64)

    def needed(self, name: str) -> np.ndarray:
        """An array that must be there."""
        array = self.array(name)
        if array is None:
            raise ModelFileError(f"{self._at('@variables')}/{name} is missing")
        return array

    def _at(self, name: str) -> str:
        return f"{self.place}/{name}"

    def refuse(self, *names: str) -> None:
        """Refuse a part that has one of these set (to something else than none, false or empty).

        Raises
        ------
        UnsupportedModelError
            With its name.
        """
        for name in names:
            if self.has(name):
                raise UnsupportedModelError(f"{self._at(name)} of the model is not supported")

    def plain(self, name: str) -> Any:
        """Whatever there is of this name, unchecked."""
        return self._values.get(name)
