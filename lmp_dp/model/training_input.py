"""The training input (input.json): written by hand, and not always for the model at hand."""

from __future__ import annotations

import json
from typing import Any

from lmp_dp.errors import ModelFileError


def read(text: str, what: str) -> dict[str, Any]:
    """The training input from its JSON text.

    Raises
    ------
    ModelFileError
        It is not the JSON of an object; `what` names it in the message.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{what} cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise ModelFileError(f"{what} is not a JSON object")
    return content


def section(parent: dict[str, Any], name: str) -> dict[str, Any]:
    """A section; empty if it is absent or null.

    Raises
    ------
    ModelFileError
        It is something else than an object.
    """
    found = parent.get(name)
    if not isinstance(found, dict | None):
        raise unfit(name, found, "an object")
    return found or {}


def unfit(name: str, value: object, expected: str) -> ModelFileError:
    """The error about a value of the wrong kind."""
    kind = type(value).__name__
    return ModelFileError(f"'{name}' in the training input is of type {kind}, expected {expected}")
