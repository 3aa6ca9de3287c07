"""``lmp-dp info``: what a model file holds, and (``--verify``) whether it evaluates as its source.

A file proves itself by its reference frame: a configuration with the energies, forces and virial
that the source model gave for it when it was converted.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from lmp_dp.errors import LmpDpError
from lmp_dp.model import DeepPotential, ReferenceFrame, load

#: Largest deviations from the source that --verify accepts. float64: summation order alone
#: (observed 1e-13) with a margin; float32: some 10 units in the last place (6e-8) of
#: intermediate values of order 10, and of forces relative to their norm. Tables are made for a
#: relative error of 1e-9 of G, slopes and sums over neighbours make it a hundred times more.
TOLERANCES = {
    "float64": {"energy_per_atom": 1e-10, "force": 1e-9, "virial": 1e-8},
    "compressed": {"energy_per_atom": 1e-8, "force": 1e-6, "virial": 1e-5},
    "float32": {"energy_per_atom": 1e-5, "force": 1e-3, "virial": 1e-2},
}


def describe(path: str, model: DeepPotential) -> dict[str, Any]:
    """What `info` prints, as a dict of plain values."""
    d, fitting, source = model.descriptor, model.fitting, model.provenance
    pairs = [[model.type_map[i], model.type_map[j]] for i, j in np.argwhere(d.excluded_tt).tolist()]
    nets = {net.widths for net in d.embeddings}
    activations = {net.layers[0].activation for net in d.embeddings}
    return {
        "file": path,
        "elements": list(model.type_map),
        "descriptor": "se_e2_a",
        "precision": model.precision,
        "rcut": d.rcut,
        "rcut_smth": d.rcut_smth,
        "sel": d.sel_t.tolist(),
        "embedding_net": [list(widths) for widths in sorted(nets)],
        "embedding_activation": sorted(activations),
        "tables": {
            "count": len(d.tables),
            "megabytes": round(sum(t.coefficients_pkr.nbytes for t in d.tables) / 1e6, 2),
            "basis_functions": sorted(table.rank for table in d.tables),
            "error_of_G": max(table.error for table in d.tables),
            "error_of_dG_ds": max(table.slope_error for table in d.tables),
        }
        if d.tables
        else None,
        "axis_neuron": d.axis_neuron,
        "type_one_side": d.type_one_side,
        "exclude_types": pairs,
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


def _parameters(avg_f: np.ndarray, istd_f: np.ndarray) -> dict[str, Any] | None:
    """How many, and what they were in the training data."""
    if not len(avg_f):
        return None
    return {"count": len(avg_f), "mean": avg_f.tolist(), "spread": (1.0 / istd_f).tolist()}


def verify(model: DeepPotential, backend: str = "reference") -> dict[str, Any]:
    """Evaluate the reference frame and compare with what the source gave.

    Returns
    -------
    dict
        ``passed``, and per quantity ``deviation`` and ``tolerance`` (eV per atom, eV/Å, eV).

    Raises
    ------
    LmpDpError
        The file has no reference frame: it is unproven.
    """
    from lmp_dp.engine import Potential

    frame = model.reference_frame
    if frame is None:
        reason = next((note for note in model.provenance.notes if note.startswith("unproven")), "")
        raise LmpDpError(
            f"this file has no reference frame ({reason or 'unproven'}); convert it again where "
            "deepmd-kit is installed, or compare with 'lmp-dp check'"
        )
    # the frame is denser than matter: leaving out neighbours is part of what is compared
    potential = Potential(model, backend=backend, sel="ignore", table="ignore")
    deviations = _deviations(potential, frame)
    exact = "compressed" if model.descriptor.tables else "float64"
    tolerances = TOLERANCES[exact if model.precision == "float64" else "float32"]
    return {
        "passed": all(deviations[name] <= tolerances[name] for name in tolerances),
        "backend": backend,
        "source": frame.evaluated_by,
        "deviation": deviations,
        "tolerance": tolerances,
    }


def _deviations(potential: Any, frame: ReferenceFrame) -> dict[str, float]:
    result = potential.evaluate(
        frame.positions_ac,
        frame.types_a,
        frame.cell_cc,
        fparam=frame.fparam_f,
        aparam=frame.aparam_af,
    )
    return {
        "energy_per_atom": abs(result.energy - frame.energy) / max(1, len(frame.types_a)),
        "force": float(np.abs(result.forces - frame.forces_ac).max(initial=0.0)),
        "virial": float(np.abs(result.virial - frame.virial_cc).max()),
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``lmp-dp info``."""
    parser.add_argument("model", help="model file (.h5)")
    parser.add_argument("--verify", action="store_true", help="evaluate the file's own proof")
    parser.add_argument("--json", action="store_true", help="print JSON")


def main(args: argparse.Namespace) -> int:
    """Run ``lmp-dp info``; 1 if verification fails."""
    model = load(args.model)
    content = describe(args.model, model)
    if args.verify:
        content["verification"] = verify(model)
    passed = content.get("verification", {}).get("passed", True)
    if args.json:
        print(json.dumps(content, indent=2))
        return 0 if passed else 1
    console = Console()
    table = Table(show_header=False, box=None)
    for name, value in content.items():
        if name != "verification":
            table.add_row(name.replace("_", " "), "-" if value in (None, [], "") else str(value))
    console.print(table)
    if args.verify:
        outcome = content["verification"]
        proof = Table("quantity", "deviation", "tolerance")
        for name, tolerance in outcome["tolerance"].items():
            proof.add_row(
                name.replace("_", " "), f"{outcome['deviation'][name]:.1e}", f"{tolerance:.0e}"
            )
        console.print(proof)
        console.print(f"{'agrees' if passed else 'DISAGREES'} with {outcome['source']}")
    return 0 if passed else 1
