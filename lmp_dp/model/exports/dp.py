"""A model as a ``.dp`` file of DeePMD-kit 3.

Nets say of each layer how it is evaluated, so that those of the TF family are written as they are.
Where DP evaluates something otherwise, it is rewritten with the same values, or refused by name.
"""

from __future__ import annotations

import io
import json
from typing import Any

import h5py
import numpy as np

from lmp_dp.errors import UnsupportedModelError
from lmp_dp.model.deep_potential import DeepPotential
from lmp_dp.model.descriptors.se_atten import SeAtten
from lmp_dp.model.exports import descriptors, nets
from lmp_dp.model.exports.nets import Tree
from lmp_dp.model.fitting import Fitting
from lmp_dp.model.network import Network


def image(model: DeepPotential, software: str) -> memoryview:
    """The bytes of the file.

    Raises
    ------
    UnsupportedModelError
        The DP format cannot express the model, by name.
    """
    tree, content = {**to_tree(model), "software": software}, io.BytesIO()
    with h5py.File(content, "w") as file:
        numbered = _numbered(tree, file, False)
        file.attrs["json"] = json.dumps(numbered, separators=(",", ":"))
    return content.getbuffer()


def _numbered(part: Any, file: h5py.File, variables: bool) -> Any:
    """`part` with names of datasets in place of its arrays, which are written."""
    if isinstance(part, dict):
        return {
            name: _numbered(item, file, variables or name == "@variables")
            for name, item in part.items()
        }
    if isinstance(part, list):
        return [_numbered(item, file, variables) for item in part]
    if variables and part is not None:
        return file.create_dataset(f"variable_{len(file):04d}", data=part).name
    return part


def to_tree(model: DeepPotential) -> Tree:
    """The tree of the format, with arrays under ``@variables``.

    Raises
    ------
    UnsupportedModelError
        The DP format cannot express the model, by name.
    """
    if model.tables:
        raise UnsupportedModelError(
            "a compressed model cannot be exported; export the one that it was made of"
        )
    if model.pair_table is not None:
        raise UnsupportedModelError("a model with a pair table cannot be exported")
    if model.provenance.half_precision:
        raise UnsupportedModelError("a model of half precision cannot be exported")
    parts, fitting = model.descriptor.parts, model.fitting
    mixed = _is_mixed(model)
    smallest = model.provenance.min_nbor_dist
    unseen = [part.environment.unseen_tt for part in parts]
    unseen_tt = np.zeros((len(model.type_map),) * 2, dtype=bool) if unseen[0] is None else unseen[0]
    if any(not np.array_equal(unseen_tt, of) for of in unseen if of is not None):
        raise UnsupportedModelError("parts with different pair_exclude_types cannot be exported")
    silent = [] if fitting.silent_t is None else np.flatnonzero(fitting.silent_t).tolist()
    n_types = len(model.type_map)
    return {
        "backend": "DPModel",
        "version": "3.0.0",
        "model": {
            "@class": "Model",
            "@version": 2,
            "type": "standard",
            "type_map": list(model.type_map),
            "atom_exclude_types": silent,
            "pair_exclude_types": np.argwhere(np.triu(unseen_tt | unseen_tt.T)).tolist(),
            "rcond": None,
            "preset_out_bias": None,
            "descriptor": descriptors.write(parts, model.type_map, mixed),
            "fitting": _fitting(model, mixed, silent),
            "@variables": {
                "out_bias": fitting.bias_atom_e_t.reshape(1, n_types, 1),
                "out_std": np.ones((1, n_types, 1)),
            },
        },
        "model_def_script": _script(model),
        "@variables": {} if smallest is None else {"min_nbor_dist": np.float64(smallest)},
    }


def _script(model: DeepPotential) -> Any:
    """The model section of the training input; what was not kept is not made up."""
    try:
        script = json.loads(model.provenance.training_script or "{}")
    except ValueError:
        return {}
    return script.get("model", script) if isinstance(script, dict) else {}


# --------------------------------------------------------------------------- fitting nets
def _is_mixed(model: DeepPotential) -> bool:
    """Whether one net for all elements takes te of the only part, a se_atten, behind its D."""
    fitting, parts = model.fitting, model.descriptor.parts
    if len(parts) != 1 or not isinstance(parts[0], SeAtten) or fitting.type_to is None:
        return False
    same = np.array_equal(parts[0].nets.type_to[:-1].astype(fitting.dtype), fitting.type_to)
    vacuum = fitting.subtract_vacuum_t
    typed = vacuum.any() and (fitting.vacuum_is_typed or not vacuum.all())
    return bool(len(fitting.nets) == 1 and same and not typed)


def _fitting(model: DeepPotential, mixed: bool, silent: list[int]) -> Tree:
    fitting, parts = model.fitting, model.descriptor.parts
    n_types, n_d = fitting.n_types, model.descriptor.n_out
    found = list(fitting.nets) if mixed else _by_elements(fitting, n_d)
    vacuum = [0.0 if subtracted else None for subtracted in fitting.subtract_vacuum_t.tolist()]
    statistics = {
        name: None if not len(values) else values
        for name, values in (
            ("fparam_avg", fitting.fparam_avg_f),
            ("fparam_inv_std", fitting.fparam_istd_f),
            ("aparam_avg", fitting.aparam_avg_f),
            ("aparam_inv_std", fitting.aparam_istd_f),
        )
    }
    told = fitting.n_told if mixed else 0
    return {
        "@class": "Fitting",
        "@version": 4,
        "type": "ener",
        "var_name": "energy",
        "ntypes": n_types,
        "dim_out": 1,
        "dim_descrpt": sum(part.n_out for part in parts) + told,
        "neuron": list(found[0].widths[:-1]),
        "resnet_dt": any(layer.idt_o is not None for layer in found[0].layers),
        "numb_fparam": fitting.n_fparam,
        "numb_aparam": fitting.n_aparam,
        "dim_case_embd": 0,
        "default_fparam": None,
        "rcond": None,
        "activation_function": found[0].layers[0].activation,
        "precision": fitting.dtype.name,
        "mixed_types": mixed,
        "exclude_types": silent,
        "nets": nets.collection(found, n_types, 0 if mixed else 1, "FittingNetwork"),
        "type_map": list(model.type_map),
        "atom_ener": vacuum if fitting.subtract_vacuum_t.any() else None,
        "tot_ener_zero": False,
        "trainable": True,
        "layer_name": None,
        "use_aparam_as_mask": False,
        "spin": None,
        "@variables": {
            "bias_atom_e": np.zeros((n_types, 1)),
            "case_embd": None,
            **statistics,
        },
    }


def _by_elements(fitting: Fitting, n_d: int) -> list[Network]:
    """A net for each element, which is no longer told it."""
    if fitting.type_to is None:
        return [fitting.net(t) for t in range(fitting.n_types)]
    if fitting.subtract_vacuum_t.any() and not fitting.vacuum_is_typed:
        raise UnsupportedModelError(
            "a hybrid with type embedding and atom_ener cannot be exported: its vacuum is told no "
            "element"
        )
    return [nets.told(fitting.net(t), n_d, fitting.type_to[t]) for t in range(fitting.n_types)]
