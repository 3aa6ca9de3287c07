"""DP models: ``.dp`` (HDF5: JSON and a dataset for each array) and ``.yaml``, as a tree."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import h5py

from lmp_dp.errors import ModelFileError
from lmp_dp.model.file.reader import Reader
from lmp_dp.model.sources.v3 import yaml_text

_VARIABLE = re.compile(r"/?(variable_\d+)")


def dp_tree(path: Path) -> dict[str, Any]:
    """The tree in a ``.dp`` file.

    Raises
    ------
    ModelFileError
        The file is no DP model, or broken.
    """
    try:
        with h5py.File(path, "r") as file:
            reader = Reader(file)
            if not reader.has_attribute("json"):
                raise ModelFileError(
                    f"{path.name} is an HDF5 file without the attribute 'json': no DP model, or "
                    "one that was not written to its end"
                )
            tree = json.loads(reader.string("json"))
            if not isinstance(tree, dict):
                raise ModelFileError(f"{path.name}: the attribute 'json' is no object")
            return dict(_with_arrays(tree, reader, False))
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, MemoryError) as error:
        # h5py reports damage inside a file by any of these; RecursionError is a RuntimeError
        raise ModelFileError(f"{path.name} is damaged or no DP model: {error}") from error


def _with_arrays(part: Any, reader: Reader, variables: bool) -> Any:
    """`part` with the arrays that its variables name."""
    if isinstance(part, dict):
        return {
            name: _with_arrays(item, reader, variables or name == "@variables")
            for name, item in part.items()
        }
    if isinstance(part, list):
        return [_with_arrays(item, reader, variables) for item in part]
    if variables and isinstance(part, str):
        named = _VARIABLE.fullmatch(part)
        if named is None:
            raise ModelFileError(f"a variable is named {part[:40]!r}, expected /variable_N")
        return reader.numbers(named[1])
    return part


def yaml_tree(path: Path) -> dict[str, Any]:
    """The tree in a ``.yaml`` file.

    Raises
    ------
    ModelFileError
        The file is no DP model, or broken.
    """
    try:
        tree = yaml_text.read(path.read_bytes())
    except OSError as error:
        raise ModelFileError(f"cannot read {path}: {error}") from error
    if not isinstance(tree, dict) or "model" not in tree:
        raise ModelFileError(f"{path.name} is no DP model: it has no 'model'")
    return tree
