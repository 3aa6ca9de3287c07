"""From the tree of a v3 format to a `DeepPotential`, with the rules of its backends (DP)."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from lmp_dp.errors import ModelFileError, UnsupportedModelError
from lmp_dp.model.deep_potential import DeepPotential
from lmp_dp.model.provenance import Provenance
from lmp_dp.model.sources.v3 import descriptors, fitting, pair_table
from lmp_dp.model.sources.v3.tree import Tree


def read_tree(values: dict[str, Any], source_format: str) -> DeepPotential:
    """Turn a parsed tree into a model (its provenance holds what the tree itself says).

    Raises
    ------
    UnsupportedModelError
        Something that lmp_dp cannot evaluate, by name.
    ModelFileError
        The tree is no DeePMD-kit model or lacks a part.
    """
    tree = Tree(values)
    whole = model = tree.sub("model")
    if (kind := whole.text("type", "standard")) == "zbl":
        members = pair_table.members(whole)
        model, bias_t = members.energy, members.bias_t
    elif kind not in ("standard", "ener"):
        raise UnsupportedModelError(
            f"a model of type '{kind[:40]}' is not supported: only energy models of one descriptor "
            "and fitting net (standard), also with a table of pairs (zbl), are"
        )
    else:
        bias_t = pair_table.out_bias(model)
    type_map = whole.texts("type_map")
    n_types = len(type_map)
    unseen_tt = descriptors.pairs_of(whole, "pair_exclude_types", n_types)
    silent_t = fitting.elements_of(whole, "atom_exclude_types", n_types)
    parts = descriptors.read(
        model.sub("descriptor"), n_types, unseen_tt if unseen_tt.any() else None
    )
    nets = fitting.read(model.sub("fitting"), n_types, parts, silent_t)
    return DeepPotential(
        type_map=type_map,
        descriptor=descriptors.joined(parts),
        fitting=dataclasses.replace(nets, bias_atom_e_t=nets.bias_atom_e_t + bias_t),
        provenance=Provenance(
            source_format=source_format,
            model_version=tree.text("version", "")[:40],
            min_nbor_dist=_smallest_distance(tree),
            training_script=_script(tree),
        ),
        pair_table=pair_table.read(whole, members, [typed.part for typed in parts])
        if kind == "zbl"
        else None,
    )


def _smallest_distance(tree: Tree) -> float | None:
    found = tree.array("min_nbor_dist")
    if found is None or found.size != 1 or not found.ravel()[0] > 0.0:
        return None  # -1 where nobody set it
    return float(found.ravel()[0])


def _script(tree: Tree) -> str:
    """The model section of the training input, as JSON."""
    script = tree.plain("model_def_script")
    if isinstance(script, str):
        return script
    try:
        return json.dumps({"model": script}) if script else ""
    except (TypeError, ValueError, RecursionError) as error:
        raise ModelFileError(f"model_def_script is no JSON: {str(error)[:80]}") from None
