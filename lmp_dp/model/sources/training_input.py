"""DeePMD-kit's training input: the section that describes the model, checked in what is read."""

from __future__ import annotations

from typing import Any

from lmp_dp.errors import ModelFileError

_Kind = type | tuple[type, ...]
#: What is read of it; anything but the plain objects may be null.
_EXPECTED: dict[str, tuple[_Kind, str]] = {
    "type": (str, "a string"),
    "type_map": (list, "a list"),
    "descriptor": (dict, "an object"),
    "descriptor/type": (str, "a string"),
    "descriptor/activation_function": (str, "a string"),
    "descriptor/axis_neuron": (int, "an integer"),
    "descriptor/list": (list, "a list"),
    "type_embedding": ((dict,), "an object"),
    "type_embedding/activation_function": (str, "a string"),
    "fitting_net": (dict, "an object"),
    "fitting_net/activation_function": (str, "a string"),
    "fitting_net/layer_name": (list, "a list"),
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
    for place, expected in _EXPECTED.items():
        _check(section, place, place, *expected)
    _check_members(section.get("descriptor", {}), "descriptor")
    shared = section.get("fitting_net", {}).get("layer_name") or []
    if not all(name is None or isinstance(name, str) for name in shared):
        raise _wrong("fitting_net/layer_name", shared, "a list of strings and nulls")
    names = section.get("type_map") or []
    if not all(isinstance(name, str) for name in names):
        raise _wrong("type_map", names, "a list of strings")
    return section


def _check(holder: dict[str, Any], place: str, shown: str, kind: _Kind, words: str) -> None:
    """Refuse what stands at a place if it is of another kind; anything but objects may be null."""
    *above, key = place.split("/")
    holder = (holder.get(above[0]) or {}) if above else holder
    value = holder.get(key)
    if not isinstance(value, kind) and (key in holder if kind is dict else value is not None):
        raise _wrong(shown, value, words)


def _check_members(descriptor: dict[str, Any], shown: str) -> None:
    """Check the members of a hybrid as the descriptors that they are."""
    for n, member in enumerate(descriptor.get("list") or []):
        place = f"{shown}/list/{n}"
        _check({"descriptor": member}, "descriptor", place, dict, "an object")
        for key in (key for key in _EXPECTED if key.startswith("descriptor/")):
            _check(
                {"descriptor": member}, key, key.replace("descriptor", place, 1), *_EXPECTED[key]
            )
        _check_members(member, place)


def _wrong(place: str, value: Any, expected: str) -> ModelFileError:
    return ModelFileError(
        f"'{place}' of the training input is {str(value)[:60]!r}, expected {expected}"
    )
