"""``lmp-dp convert``: a DeePMD-kit model file in, an lmp_dp model file out.

Where deepmd-kit is installed, the source itself evaluates one small frame, which goes into the
file as its proof; a model that does not reproduce it is not written. Reading needs neither
deepmd-kit nor TensorFlow.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lmp_dp import files
from lmp_dp.errors import ModelFileError, UnsupportedModelError
from lmp_dp.model import DeepPotential, save
from lmp_dp.model.sources.any_source import read_source
from lmp_dp.model.sources.training_input import model_section
from lmp_dp.text import printable
from lmp_dp.tools.reference_frame import evaluate_source, verify
from lmp_dp.tools.terminal import Terminal

_UNITS = {"energy_per_atom": "eV", "force": "eV/Å", "virial": "eV"}


def convert(
    source: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    *,
    input_json: str | os.PathLike[str] | None = None,
    progress: Callable[[str], None] = lambda stage: None,
) -> DeepPotential:
    """Convert a DeePMD-kit model (``.pb``, ``.pbtxt``, ``.pth``, ``.dp``, ``.yaml``) to HDF5.

    Parameters
    ----------
    source, destination : path
    input_json : path, optional
        The training input, for graphs that do not carry it.
    progress : callable
        Called with a line at the start of each stage.

    Returns
    -------
    DeepPotential
        The model as written.

    Raises
    ------
    UnsupportedModelError
        The model uses something that lmp_dp cannot evaluate, or evaluates otherwise than the
        source does; nothing is written.
    ModelFileError
        The source is missing or broken.
    OutputError
        The destination cannot be written, is the source, or is no plain file.
    """
    source = Path(source)
    files.check_destinations(
        [destination], [source, *([input_json] if input_json is not None else [])]
    )
    script = _read_json(input_json) if input_json is not None else None

    progress("reading the model")
    model = read_source(source, script=script)
    progress("evaluating a reference frame with deepmd-kit")
    frame, note = evaluate_source(source, model)
    notes = (*model.provenance.notes, *([note] if note else []))
    provenance = dataclasses.replace(model.provenance, notes=notes)
    model = dataclasses.replace(model, provenance=provenance, reference_frame=frame)
    if frame is not None:
        progress("comparing the converted model with that frame")
        _refuse_what_differs(model)
    progress("writing")
    save(model, destination)
    return model


def _read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelFileError(f"cannot read the training input {path}: {error}") from error
    if not isinstance(content, dict):
        raise ModelFileError(f"the training input {path} is not a JSON object")
    model_section(content)  # a wrong one is told before deepmd-kit is loaded
    return content


def _refuse_what_differs(model: DeepPotential) -> None:
    outcome = verify(model)
    if outcome["passed"]:
        return
    allowed = outcome["tolerance"]
    found = ", ".join(
        f"{name.replace('_', ' ')} {value:.1e} {_UNITS[name]} (at most {allowed[name]:.0e})"
        for name, value in outcome["deviation"].items()
    )
    raise UnsupportedModelError(
        f"the converted model does not evaluate as {model.provenance.source_file} does by "
        f"{outcome['source']}: largest differences on the reference frame are {found}; no file "
        "was written. The source computes something that lmp_dp does not know of: please report it"
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``lmp-dp convert``."""
    parser.add_argument("source", help="frozen model (.pb, .pbtxt, .pth, .dp, .yaml)")
    parser.add_argument("destination", help="model file to write (.h5)")
    parser.add_argument("--input", help="training input (JSON), for graphs that lack it")


def main(args: argparse.Namespace) -> int:
    """Run ``lmp-dp convert``."""
    terminal = Terminal(stderr=True)
    with terminal.working("converting") as update:
        model = convert(
            args.source,
            args.destination,
            input_json=args.input,
            progress=lambda stage: update(f"{args.source}: {stage}"),
        )
    for note in model.provenance.notes:
        terminal.say(f"note: {note}")
    frame = model.reference_frame
    proof = f"agrees with {frame.evaluated_by} on a reference frame" if frame else "unproven"
    print(
        printable(
            f"{args.destination}: {' '.join(model.type_map)}, {model.precision}, "
            f"rcut {model.rcut:g} Å, {proof}"
        )
    )
    return 0
