"""The YAML that DP models are written in: mappings, lists and plain values.

Only PyYAML's parser is used, which gives one event after the other: nothing is constructed by tags,
which are refused. What anchors and aliases repeat counts as often as it stands there.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import yaml

from lmp_dp.errors import ModelFileError

_PARSER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_WORDS = {"null": None, "~": None, "": None, "true": True, "false": False}
_NOT_FINITE = {".inf": "inf", "+.inf": "inf", "-.inf": "-inf", ".nan": "nan"}
_MAX_DEPTH = 64
_ARRAY = "np.ndarray"


def read(text: bytes) -> Any:
    """The document in `text`, with arrays where it describes them.

    Raises
    ------
    ModelFileError
        It is no YAML, or has what no DP model needs: tags, further documents, deep nesting.
    """
    builder = _Builder(2 * len(text))
    try:
        for event in yaml.parse(text, Loader=_PARSER):
            builder.take(event)
    except (yaml.YAMLError, ValueError, TypeError, OverflowError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelFileError(f"the file is no YAML as DP models have it: {reason}") from error
    if len(builder.documents) != 1:
        raise ModelFileError(f"the file has {len(builder.documents)} YAML documents, expected one")
    return builder.documents[0]


class _Builder:
    """Puts the events together; `room` is how many values all of them may be."""

    def __init__(self, room: int) -> None:
        self.documents: list[Any] = []
        self._room = room
        self._open: list[_Collection] = []
        self._anchored: dict[str, tuple[Any, int]] = {}

    def take(self, event: Any) -> None:
        if isinstance(event, yaml.ScalarEvent):
            _refuse_tag(event)
            self._add(_scalar(event), 1, event.anchor)
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchored:
                raise ModelFileError(f"the YAML file has no anchor {str(event.anchor)[:40]!r}")
            self._add(*self._anchored[event.anchor], None)
        elif isinstance(event, yaml.CollectionStartEvent):
            _refuse_tag(event)
            if len(self._open) >= _MAX_DEPTH:
                raise ModelFileError(f"the YAML file is nested deeper than {_MAX_DEPTH} levels")
            mapping = isinstance(event, yaml.MappingStartEvent)
            self._open.append(_Collection(mapping, event.anchor))
        elif isinstance(event, yaml.CollectionEndEvent):
            done = self._open.pop()
            self._add(done.finished(), done.size, done.anchor)

    def _add(self, value: Any, size: int, anchor: str | None) -> None:
        if anchor is not None:
            self._anchored[anchor] = (value, size)
        if not self._open:
            self.documents.append(value)
            return
        self._open[-1].items.append(value)
        self._open[-1].size += size
        if self._open[-1].size > self._room:
            raise ModelFileError("aliases of the YAML file repeat more than a model has")


class _Collection:
    """A list or mapping that is not at its end."""

    def __init__(self, mapping: bool, anchor: str | None) -> None:
        self.mapping, self.anchor = mapping, anchor
        self.items: list[Any] = []
        self.size = 1

    def finished(self) -> Any:
        if not self.mapping:
            return self.items
        keys = self.items[::2]
        if not all(type(key) is str for key in keys):
            raise ModelFileError("the YAML file has keys that are no text")
        if len(set(keys)) != len(keys):
            raise ModelFileError("the YAML file has a key twice")
        found = dict(zip(keys, self.items[1::2], strict=True))
        return _array(found) if found.get("@class") == _ARRAY else found


def _array(found: dict[str, Any]) -> np.ndarray:
    kind = found.get("dtype")
    if kind not in ("float16", "float32", "float64", "int32", "int64"):
        raise ModelFileError(f"the YAML file has an array of type {str(kind)[:40]}")
    return np.array(found.get("value"), dtype=kind)


def _refuse_tag(event: Any) -> None:
    if event.tag is not None and event.tag != "!":
        raise ModelFileError(f"the YAML file has the tag {event.tag[:60]!r}; it was not followed")


def _scalar(event: Any) -> Any:
    """A plain value by its look; what stands in quotes is text."""
    text = event.value
    if not event.implicit[0]:
        return text
    if text in _WORDS:
        return _WORDS[text]
    try:
        return int(text) if text.lstrip("+-").isdecimal() else float(_NOT_FINITE.get(text, text))
    except ValueError:
        return text
