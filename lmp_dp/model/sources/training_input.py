"""DeePMD-kit's training input: the section that describes the model, checked in what is read."""

from __future__ import annotations

from typing import Any

from lmp_dp.errors import ModelFileError

#: What is read of it; anything but the objects may be null.
_EXPECTED: dict[str, tuple[type, str]] = {
    "type": (str, "a string"),
    "type_map": (list, "a list"),
    "descriptor": (dict, "an object"),
    "descriptor/type": (str, "a string"),
    "descriptor/activation_function": (str, "a string"),
    "descriptor/axis_neuron": (int, "an integer"),
    "fitting_net": (dict, "an object"),
    "fitting_net/activation_function": (str, "a string"),
    "axis_neuron": (int, "an integer"),
}


def model_section(script: dict[str, Any]) -> dict[str, Any]:
    """The section "model" of a training input.

    Raises
    ------
    ModelFileError
        A part that is read is of another kind than DeePMD-kit has there.
    """
    # DeePMD-kit stores {"model": ...}; an old or bare input may be the section itself
    section = script.get("model", script)
    if not isinstance(section, dict):
        raise _wrong("model", section, "an object")
    for place, (kind, words) in _EXPECTED.items():
        *above, key = place.split("/")
        holder = section.get(above[0], {}) if above else section
        value = holder.get(key)
        if not isinstance(value, kind) and (key in holder if kind is dict else value is not None):
            raise _wrong(place, value, words)
    names = section.get("type_map") or []
    if not all(isinstance(name, str) for name in names):
        raise _wrong("type_map", names, "a list of strings")
    return section


def _wrong(place: str, value: Any, expected: str) -> ModelFileError:
    return ModelFileError(
        f"'{place}' of the training input is {str(value)[:60]!r}, expected {expected}"
    )
