"""The training input (input.json): written by hand, and not always for the model at hand."""

from __future__ import annotations

import json
from typing import Any

from lmp_dp.errors import ModelFileError


def read(text: str, what: str) -> dict[str, Any]:
    """The training input from its JSON text; what the converter looks at has the type it expects.

    Raises
    ------
    ModelFileError
        It is not JSON, or not of that shape; `what` names it in the message.
    """
    try:
        content = json.loads(text)
        if not isinstance(content, dict):
            raise ModelFileError(f"{what} is not a JSON object")
        # DeePMD-kit stores {"model": ...}; an old or bare input may be the section itself
        model = _checked(content, "model", dict, content)
        sections = [_checked(model, name, dict, {}) for name in ("descriptor", "fitting_net")]
        for section in (model, *sections):
            _checked(section, "axis_neuron", int, 0)
            _checked(section, "activation_function", str, None)
        if not all(isinstance(name, str) for name in _checked(model, "type_map", list, None) or []):
            raise ValueError("'type_map' is not a list of names")
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{what} cannot be used: {error}") from None
    return content


def _checked(section: dict[str, Any], name: str, kind: type, default: Any) -> Any:
    """An entry of `section`; null only where that is the default."""
    value = section.get(name, default)
    if value is not default and not isinstance(value, kind):
        raise ValueError(f"'{name}' is of type {type(value).__name__}, expected {kind.__name__}")
    return value
