"""The one door for models of other programs: whatever a file is, a `DeepPotential`."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmp_dp
from lmp_dp.files import StrPath
from lmp_dp.model.deep_potential import DeepPotential
from lmp_dp.model.sources import source_files
from lmp_dp.model.sources.tensorflow.graph import Graph
from lmp_dp.model.sources.tensorflow.model import read_graph
from lmp_dp.model.sources.v3 import dp_file, torchscript
from lmp_dp.model.sources.v3.model import read_tree

Script = dict[str, Any]


def _graph(path: Path, script: Script | None) -> DeepPotential:
    return read_graph(Graph.read(path), script)


#: The reader of each format: path and training input (if one was given) -> model.
READERS: dict[str, Callable[[Path, Script | None], DeepPotential]] = {
    source_files.GRAPH: _graph,
    source_files.TORCHSCRIPT: lambda path, _: read_tree(torchscript.read(path), "PyTorch .pth"),
    source_files.DP: lambda path, _: read_tree(dp_file.dp_tree(path), "DP (NumPy) .dp"),
    source_files.YAML: lambda path, _: read_tree(dp_file.yaml_tree(path), "DP (NumPy) .yaml"),
}


def read_source(path: StrPath, *, script: Script | None = None) -> DeepPotential:
    """Read a model of another program, found out by content; nothing of it is run.

    Parameters
    ----------
    path : path
    script : dict, optional
        Training input, for files that do not carry it.

    Returns
    -------
    DeepPotential
        With name and SHA-256 of the source in its provenance; without a proof.

    Raises
    ------
    UnsupportedModelError
        The file is of a kind, or its model has something, that lmp_dp does not read, by name.
    ModelFileError
        The file is missing or broken.
    """
    path = Path(path)
    model = READERS[source_files.format_of(path)](path, script)
    provenance = dataclasses.replace(
        model.provenance,
        source_file=path.name,
        source_sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        converted_by=f"lmp_dp {lmp_dp.__version__}",
    )
    return dataclasses.replace(model, provenance=provenance)
