"""Which of DeePMD-kit's TensorFlow graphs lmp_dp can evaluate; the others are refused by name.

The graph decides; the training input names what operations alone do not tell.
"""

from __future__ import annotations

import re
from typing import Any

from lmp_dp.errors import ModelFileError, UnsupportedModelError
from lmp_dp.model.sources.tensorflow_graph import Graph

#: Operations that build a se_e2_a environment matrix: DeePMD-kit >= 2, 1.x.
ENVIRONMENT_OPS = ("ProdEnvMatA", "DescrptSeA")
#: Operations of other descriptors, one for each part of a model -> what the graph is.
_FOREIGN_OPS = {
    "ProdEnvMatR": "descriptor se_e2_r is not supported",
    "DescrptSeR": "descriptor se_e2_r is not supported",
    "ProdEnvMatAMix": "descriptor se_atten (DPA-1) is not supported",
    "DescrptNorot": "graphs of DeePMD-kit 0.x are not supported",
    "Descrpt": "descriptor loc_frame is not supported",
    "DescrptSeAEf": "descriptor se_a_ef (electric field) is not supported",
    "DescrptSeAEfPara": "descriptor se_a_ef (electric field) is not supported",
    "DescrptSeAEfVert": "descriptor se_a_ef (electric field) is not supported",
    "DescrptSeAMask": "descriptor se_a_mask is not supported",
    "ProdEnvMatANvnmdQuantize": "models for NVNMD hardware are not supported",
    "ProdEnvMatAMixNvnmdQuantize": "models for NVNMD hardware are not supported",
}
#: Descriptor types of training scripts that are se_e2_a; the others' names -> today's.
_SE_E2_A = ("se_e2_a", "se_a")
_TODAYS_NAMES = {
    "se_r": "se_e2_r",
    "se_at": "se_e3",
    "se_a_3be": "se_e3",
    "dpa1": "se_atten (DPA-1)",
    "se_atten": "se_atten (DPA-1)",
    "se_a_tpe": "se_a_tpe (type embedding)",
    "se_a_ebd": "se_a_tpe (type embedding)",
    "se_a_tpe_v2": "se_a_tpe_v2 (type embedding)",
    "se_a_ebd_v2": "se_a_tpe_v2 (type embedding)",
}
#: Models of models: how DeePMD-kit names the parts' scopes -> the model's type.
_COMPOUNDS = {
    r"descrpt_attr_model\d": "linear_ener",
    r"descrpt_attr_qm": "pairwise_dprc",
    r"load[^/]*/descrpt_attr/": "frozen",
}


def supported_environment(graph: Graph, section: dict[str, Any]) -> str:
    """The node of the environment matrix of an uncompressed se_e2_a energy model.

    Parameters
    ----------
    graph : Graph
    section : dict
        The section "model" of the training input.

    Raises
    ------
    UnsupportedModelError
        The graph is another model, by name.
    ModelFileError
        The graph is none of DeePMD-kit's.
    """
    _refuse_other_models(graph, section)
    environment = _environment(graph, section)
    _refuse_other_options(graph, environment, section)
    return environment


def _refuse_other_models(graph: Graph, section: dict[str, Any]) -> None:
    """Check that this is one plain energy model, before a descriptor is looked for."""
    modifier = graph.text("modifier_attr/type")
    if not modifier and section.get("modifier"):
        found = section["modifier"]
        modifier = str(found.get("type", "")) if isinstance(found, dict) else str(found)
    if modifier:
        raise UnsupportedModelError(f"a model with modifier '{modifier}' is not supported")
    if section.get("spin") or "spin_attr/ntypes_spin" in graph:
        raise UnsupportedModelError("models with spin are not supported")
    kinds = [graph.text("model_attr/model_type") or "ener"]
    if section.get("type", "standard") != "standard":
        kinds.insert(0, str(section["type"]))
    kinds += [
        kind
        for scope, kind in _COMPOUNDS.items()
        if any(re.match(scope, name) for name in graph.names())
    ]
    kind = next((kind for kind in kinds if kind != "ener"), "ener")
    if kind != "ener":
        raise UnsupportedModelError(f"model type '{kind}' is not supported, only 'ener' (energy)")


def _environment(graph: Graph, section: dict[str, Any]) -> str:
    """The one environment node of a se_e2_a descriptor; refuses the other descriptors."""
    described = section.get("descriptor", {}).get("type") or "se_e2_a"
    if described not in _SE_E2_A:
        name = _TODAYS_NAMES.get(described, described)
        raise UnsupportedModelError(f"descriptor {name} is not supported")
    environments = [name for op in ENVIRONMENT_OPS for name in graph.named_by_op(op)]
    foreign = [text for op, text in _FOREIGN_OPS.items() for _ in graph.named_by_op(op)]
    if len(environments) + len(foreign) > 1:
        raise UnsupportedModelError("descriptor hybrid is not supported")
    if foreign:
        raise UnsupportedModelError(foreign[0])
    if not environments:
        raise ModelFileError(
            "this graph has no DeePMD-kit descriptor (no operation "
            f"{' or '.join(ENVIRONMENT_OPS)}); is it a frozen DeePMD-kit model?"
        )
    if "TabulateFusionSeT" in graph.ops() or any(
        re.match(r"filter_type_all.*/matrix_\d+_\d+_\d+$", name) for name in graph.names()
    ):
        raise UnsupportedModelError("descriptor se_e3 is not supported")
    if any(name.startswith("type_embed_net") for name in graph.names()):
        raise UnsupportedModelError("a type embedding (se_e2_a_tebd) is not supported")
    return environments[0]


def _refuse_other_options(graph: Graph, environment: str, section: dict[str, Any]) -> None:
    """Check for what a se_e2_a energy model may have that lmp_dp cannot evaluate."""
    compressed = graph.text("model_type") == "compressed_model"
    if compressed or any(op.startswith("TabulateFusion") for op in graph.ops()):
        raise UnsupportedModelError(
            "this model is compressed: convert the original (uncompressed) frozen model "
            "and run 'lmp-dp compress' on the result"
        )
    if any(graph.attr(environment, "sel_r")) or graph.attr(environment, "rcut_a") > 0:
        raise UnsupportedModelError("descriptor se_a with radial-only neighbours is not supported")
    if any("t_tab_info" in name for name in graph.names()) or section.get("use_srtab"):
        raise UnsupportedModelError("a short-range pair table (use_srtab) is not supported")
    if section.get("pair_exclude_types") or section.get("atom_exclude_types"):
        raise UnsupportedModelError("model-level exclude types are not supported")
    fitting_script = section.get("fitting_net", {})
    if fitting_script.get("tot_ener_zero"):
        raise UnsupportedModelError("fitting option tot_ener_zero is not supported")
    if fitting_script.get("use_aparam_as_mask"):
        raise UnsupportedModelError("fitting option use_aparam_as_mask is not supported")
