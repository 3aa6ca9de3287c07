"""``lmp-dp info``: what a model holds, and (``--verify``) whether it evaluates as its source.

A file proves itself by its reference frame (`lmp_dp.tools.reference_frame`).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from rich.table import Table

from lmp_dp.engine.model_cache import opened
from lmp_dp.model import DeepPotential
from lmp_dp.model.descriptors.registry import Part
from lmp_dp.text import printable
from lmp_dp.tools.reference_frame import verify
from lmp_dp.tools.terminal import Terminal


def describe(path: str, model: DeepPotential) -> dict[str, Any]:
    """What `info` prints, as a dict of plain values."""
    descriptor, fitting, source = model.descriptor, model.fitting, model.provenance
    names, parts = model.type_map, [_describe_part(part, model) for part in descriptor.parts]
    return {
        "file": path,
        "elements": list(names),
        "descriptor": descriptor.kind,
        "precision": model.precision,
        **(parts[0] if len(parts) == 1 else {"parts": parts}),
        "pair_table": model.pair_table.describe() if model.pair_table else None,
        "fitting_net": [list(widths) for widths in sorted({n.widths for n in fitting.nets})],
        "fitting_activation": sorted({net.layers[0].activation for net in fitting.nets}),
        "bias_atom_e": fitting.bias_atom_e_t.tolist(),
        "subtract_vacuum": fitting.subtract_vacuum_t.tolist(),
        "fparam": _parameters(fitting.fparam_avg_f, fitting.fparam_istd_f),
        "aparam": _parameters(fitting.aparam_avg_f, fitting.aparam_istd_f),
        "source_file": source.source_file,
        "source_sha256": source.source_sha256,
        "source_format": source.source_format,
        "converted_by": source.converted_by,
        "min_nbor_dist": source.min_nbor_dist,
        "notes": list(source.notes),
        "reference_frame": (
            f"{len(model.reference_frame.types_a)} atoms, {model.reference_frame.evaluated_by}"
            if model.reference_frame
            else None
        ),
    }


def _describe_part(part: Part, model: DeepPotential) -> dict[str, Any]:
    environment = part.environment
    unseen_tt = environment.unseen_tt
    return {
        **({} if part is model.descriptor else {"descriptor": part.kind}),
        "rules": environment.rules,
        "rcut": environment.rcut,
        "rcut_smth": environment.rcut_smth,
        "sel": environment.sel_t.tolist(),
        **part.describe(),
        "exclude_types": _pairs(environment.excluded_tt, model),
        **({} if unseen_tt is None else {"pair_exclude_types": _pairs(unseen_tt, model)}),
        **({"env_protection": environment.protection} if environment.protection else {}),
    }


def _pairs(pairs_tt: np.ndarray, model: DeepPotential) -> list[list[str]]:
    return [[model.type_map[t] for t in pair] for pair in np.argwhere(pairs_tt).tolist()]


def _parameters(avg_f: np.ndarray, istd_f: np.ndarray) -> dict[str, Any] | None:
    """How many, and what they were in the training data."""
    if not len(avg_f):
        return None
    return {"count": len(avg_f), "mean": avg_f.tolist(), "spread": (1.0 / istd_f).tolist()}


def _rows(content: dict[str, Any], of: str = "") -> Iterator[tuple[str, Any]]:
    """Names and values as they are shown: the parts of a hybrid model one after the other."""
    for name, value in content.items():
        if name == "parts":
            for number, part in enumerate(value, 1):
                yield from _rows(part, f"{number}. ")
        elif name != "verification":
            yield f"{of}{name}", value


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``lmp-dp info``."""
    parser.add_argument("model", help="model (.h5, .pb, ...)")
    parser.add_argument("--verify", action="store_true", help="evaluate the file's own proof")
    parser.add_argument("--json", action="store_true", help="print JSON")


def main(args: argparse.Namespace) -> int:
    """Run ``lmp-dp info``; 1 if verification fails."""
    model = opened(args.model)
    content = describe(args.model, model)
    if args.verify:
        content["verification"] = verify(model)
    passed = content.get("verification", {}).get("passed", True)
    if args.json:
        print(json.dumps(content, indent=2))
        return 0 if passed else 1
    console = Terminal()
    table = Table(show_header=False, box=None)
    for name, value in _rows(content):
        text = "-" if value in (None, [], "") else printable(value)
        table.add_row(name.replace("_", " "), text)
    console.print(table)
    if args.verify:
        outcome = content["verification"]
        proof = Table("quantity", "deviation", "tolerance")
        for name, tolerance in outcome["tolerance"].items():
            proof.add_row(
                name.replace("_", " "), f"{outcome['deviation'][name]:.1e}", f"{tolerance:.0e}"
            )
        console.print(proof)
        console.say(f"{'agrees' if passed else 'DISAGREES'} with {outcome['source']}")
    return 0 if passed else 1
