"""A frozen PyTorch model (``.pth``) as the tree that the other v3 formats hold.

What the modules of the archive hold is what is evaluated, and decides; only what PyTorch does not
keep there (lists that are empty, say) has DeePMD-kit's defaults.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from lmp_dp.errors import ModelFileError, UnsupportedModelError
from lmp_dp.model.sources.v3.torch_archive import Archive, attribute
from lmp_dp.model.sources.v3.torch_pickle import Module, Tensor

Tree = dict[str, Any]
#: Classes of descriptors, and the name in the tree.
_DESCRIPTORS = {
    "DescrptSeA": "se_e2_a",
    "DescrptSeR": "se_r",
    "DescrptSeT": "se_e3",
    "DescrptDPA1": "dpa1",
    "DescrptSeAttenV2": "se_atten_v2",
    "DescrptHybrid": "hybrid",
}
#: Where the parameters of a descriptor stand that are in a module of their own.
_BLOCKS = {"se_e2_a": "sea", "se_e3": "seat", "dpa1": "se_atten", "se_atten_v2": "se_atten"}
_ATOMIC_MODEL, _FITTING = "DPEnergyAtomicModel", "EnergyFittingNet"
#: A model and what is in it: of one descriptor and fitting net; and with a table of pairs.
_MODEL, _WITH_PAIRS = "EnergyModel", ("DPZBLModel", "DPZBLLinearEnergyAtomicModel")
#: Plain values of a descriptor's module, which have the same name in the tree.
_PLAIN = (
    *("rcut", "rcut_smth", "axis_neuron", "type_one_side", "env_protection", "use_exp_switch"),
    *("attn_layer", "attn_mask", "lmax", "tebd_input_mode"),
    *("compress", "geo_compress", "tebd_compress"),
)
_PLAIN_OF_FITTING = (
    *("dim_case_embd", "numb_fparam", "numb_aparam", "use_aparam_as_mask", "tot_ener_zero"),
    "remove_vaccum_contribution",
)


def read(path: Path) -> Tree:
    """The model in a TorchScript archive; nothing of it is run.

    Raises
    ------
    UnsupportedModelError
        A model of another kind, by name.
    ModelFileError
        The file is no such archive, broken, or holds what no model needs.
    """
    archive = Archive(path)
    root = archive.root
    kind = _class(root)
    if kind not in (_MODEL, _WITH_PAIRS[0]):
        raise UnsupportedModelError(
            f"the archive holds a {kind[:60]}, expected an {_MODEL} of DeePMD-kit's PyTorch backend"
        )
    reader = _Reader(archive)
    script = attribute(root, "model_def_script")
    smallest = reader.value(root, "min_nbor_dist")
    if kind == _MODEL:
        model = reader.energy_model(_module(root, "atomic_model", _ATOMIC_MODEL))
    else:
        model = reader.with_pairs(_module(root, "atomic_model", _WITH_PAIRS[1]))
    return {
        "backend": "PyTorch",
        "model": model,
        "model_def_script": script if type(script) is str else None,
        "@variables": {} if smallest is None else {"min_nbor_dist": smallest},
    }


def _class(module: Module) -> str:
    return module.kind.rpartition(".")[2]


def _module(above: Module, path: str, kind: str | None = None) -> Module:
    found = attribute(above, path)
    if not isinstance(found, Module):
        raise ModelFileError(f"the archive's {_class(above)[:60]} has no {path}")
    if kind is not None and _class(found) != kind:
        raise UnsupportedModelError(f"{path} is a {_class(found)[:60]}, expected a {kind}")
    return found


class _Reader:
    """Turns modules into parts of the tree."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive

    def value(self, module: Module, name: str) -> np.ndarray | None:
        """A tensor as an array, None where there is none."""
        found = attribute(module, name)
        if found is not None and not isinstance(found, Tensor):
            raise ModelFileError(f"{name} of a {_class(module)[:60]} is no tensor")
        return None if found is None else self._archive.array(found)

    def values(self, module: Module, *names: str, **renamed: str) -> Tree:
        return {
            **{name: self.value(module, name) for name in names},
            **{name: self.value(module, there) for name, there in renamed.items()},
        }

    # ------------------------------------------------------------------- models
    def energy_model(self, module: Module) -> Tree:
        """One descriptor and its fitting nets."""
        return {
            "type": "standard",
            **self._of_all(module),
            "descriptor": self.descriptor(_module(module, "descriptor")),
            "fitting": self.fitting(_module(module, "fitting_net", _FITTING)),
        }

    def with_pairs(self, module: Module) -> Tree:
        """An energy model and a table of pairs."""
        members = _listed(_module(module, "models"))
        if [_class(member) for member in members] != ["DPAtomicModel", "PairTabAtomicModel"]:
            raise UnsupportedModelError(
                f"a model made of {[_class(member)[:40] for member in members][:5]} is not "
                "supported"
            )
        energy, pairs = members
        table = {
            "type": "pairtab",
            **self._of_all(pairs),
            "rcut": attribute(pairs, "rcut"),
            "sel": attribute(pairs, "sel"),
            "tab": {"@variables": self.values(pairs, "tab_info", "tab_data")},
        }
        return {
            "type": "zbl",
            **self._of_all(module),
            **{name: attribute(module, name) for name in ("sw_rmin", "sw_rmax", "smin_alpha")},
            "models": [self.energy_model(energy), table],
            "members_add_out_bias": True,
        }

    def _of_all(self, module: Module) -> Tree:
        return {
            "type_map": attribute(module, "type_map"),
            "atom_exclude_types": attribute(module, "atom_exclude_types", []),
            "pair_exclude_types": attribute(module, "pair_exclude_types", []),
            "@variables": self.values(module, "out_bias", "out_std"),
        }

    # ------------------------------------------------------------------- networks
    def networks(self, module: Module) -> Tree:
        """A NetworkCollection."""
        nets = _listed(_module(module, "networks"))
        return {
            "ndim": attribute(module, "ndim"),
            "networks": [self.network(net) for net in nets],
        }

    def network(self, module: Module) -> Tree:
        layers = [self.layer(layer) for layer in _listed(_module(module, "layers"))]
        if not layers:
            raise ModelFileError(f"the archive's {_class(module)[:60]} has no layers")
        return {"layers": layers}

    def layer(self, module: Module) -> Tree:
        if attribute(module, "matrix") is None:
            raise ModelFileError(f"the archive's {_class(module)[:60]} has no matrix")
        return {
            "activation_function": attribute(module, "activate.activation"),
            "resnet": attribute(module, "resnet"),
            "@variables": self.values(module, "idt", w="matrix", b="bias"),
        }

    # ------------------------------------------------------------------- descriptors
    def descriptor(self, module: Module) -> Tree:
        kind = _DESCRIPTORS.get(_class(module))
        if kind is None:
            raise UnsupportedModelError(f"the descriptor {_class(module)[:60]} is not supported")
        if kind == "hybrid":
            members = _listed(_module(module, "descrpt_list"))
            if any(_class(member) == "DescrptHybrid" for member in members):
                raise ModelFileError("a hybrid is a member of a hybrid")
            return {"type": kind, "list": [self.descriptor(member) for member in members]}
        block = _module(module, _BLOCKS[kind]) if kind in _BLOCKS else module
        tree: Tree = {
            "type": kind,
            **{name: attribute(block, name) for name in _PLAIN if name in block.attributes},
            "sel": attribute(block, "sel"),
            "exclude_types": attribute(block, "exclude_types", []),
            "embeddings": self.networks(_module(block, "filter_layers")),
            "@variables": self.values(block, davg="mean", dstd="stddev"),
        }
        return {**tree, **self._typed(module, block)} if "attn_layer" in tree else tree

    def _typed(self, module: Module, block: Module) -> Tree:
        """What descriptors with type embedding have besides."""
        layers = _listed(_module(block, "dpa1_attention.attention_layers"))
        embedding = _module(module, "type_embedding.embedding")
        strip = attribute(block, "filter_layers_strip")
        return {
            "smooth_type_embedding": attribute(block, "smooth"),
            "concat_output_tebd": attribute(module, "concat_output_tebd"),
            "attention_layers": {"attention_layers": [self._attention(one) for one in layers]},
            "type_embedding": {
                "use_econf_tebd": attribute(embedding, "use_econf_tebd", False),
                "embedding": self.network(_module(embedding, "embedding_net")),
            },
            **({"embeddings_strip": self.networks(strip)} if isinstance(strip, Module) else {}),
        }

    def _attention(self, module: Module) -> Tree:
        layer, norm = _module(module, "attention_layer"), _module(module, "attn_layer_norm")
        plain = ("num_heads", "dotr", "normalize", "scaling_factor", "temperature", "smooth")
        return {
            "attention_layer": {
                **{name: attribute(layer, name) for name in plain if name in layer.attributes},
                "in_proj": self.layer(_module(layer, "in_proj")),
                "out_proj": self.layer(_module(layer, "out_proj")),
            },
            "attn_layer_norm": {
                "eps": attribute(norm, "eps"),
                "@variables": self.values(norm, w="matrix", b="bias"),
            },
        }

    # ------------------------------------------------------------------- fitting nets
    def fitting(self, module: Module) -> Tree:
        statistics = ("fparam_avg", "fparam_inv_std", "aparam_avg", "aparam_inv_std")
        plain = {
            name: attribute(module, name) for name in _PLAIN_OF_FITTING if name in module.attributes
        }
        return {
            "type": "ener",
            **plain,
            "exclude_types": attribute(module, "exclude_types", []),
            "nets": self.networks(_module(module, "filter_layers")),
            "@variables": self.values(module, "bias_atom_e", *statistics),
        }


def _listed(module: Module) -> list[Module]:
    """Members 0, 1, ... of a ModuleList."""
    members: list[Module] = []
    while isinstance(member := module.attributes.get(str(len(members))), Module):
        members.append(member)
    return members
