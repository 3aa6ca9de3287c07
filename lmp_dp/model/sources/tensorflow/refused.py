"""Which of DeePMD-kit's TensorFlow graphs lmp_dp can evaluate; the others are refused by name.

The graph decides; the training input names what operations alone do not tell.
"""

from __future__ import annotations

import re
from typing import Any

from lmp_dp.errors import ModelFileError, UnsupportedModelError
from lmp_dp.model.sources.tensorflow.graph import Graph
from lmp_dp.model.sources.tensorflow.pieces import ENVIRONMENT_OPS

#: Operations of other descriptors -> what the graph is.
_FOREIGN_OPS = {
    "DescrptSeAEf": "descriptor se_a_ef (electric field) is not supported",
    "DescrptSeAEfPara": "descriptor se_a_ef (electric field) is not supported",
    "DescrptSeAEfVert": "descriptor se_a_ef (electric field) is not supported",
    "DescrptSeAMask": "descriptor se_a_mask is not supported",
    "ProdEnvMatANvnmdQuantize": "models for NVNMD hardware are not supported",
    "ProdEnvMatAMixNvnmdQuantize": "models for NVNMD hardware are not supported",
}
#: Nets of the first se_e2_a with type embeddings (se_a_tpe), which lie elsewhere and are others.
_FIRST_TYPE_EMBEDDING = r"type_embed_layer_\d+/matrix"
#: Models of models: how DeePMD-kit names the parts' scopes -> the model's type.
_COMPOUNDS = {
    r"descrpt_attr_model\d": "linear_ener",
    r"descrpt_attr_qm": "pairwise_dprc",
    r"load[^/]*/descrpt_attr/": "frozen",
}


def refuse_unsupported(graph: Graph, section: dict[str, Any]) -> None:
    """Check that a graph is an uncompressed energy model of descriptors that lmp_dp evaluates.

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
    _refuse_other_descriptors(graph)
    _refuse_other_options(graph, section)


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


def _refuse_other_descriptors(graph: Graph) -> None:
    """Check that there is a descriptor, and no operation of another one."""
    foreign = [text for op, text in _FOREIGN_OPS.items() if graph.named_by_op(op)]
    if foreign:
        raise UnsupportedModelError(foreign[0])
    if any(re.fullmatch(_FIRST_TYPE_EMBEDDING, name) for name in graph.names()):
        raise UnsupportedModelError("descriptor se_a_tpe (type embedding) is not supported")
    if not graph.ops() & set(ENVIRONMENT_OPS):
        raise ModelFileError(
            "this graph has no DeePMD-kit descriptor (no operation "
            f"{' or '.join(ENVIRONMENT_OPS)}); is it a frozen DeePMD-kit model?"
        )


def _refuse_other_options(graph: Graph, section: dict[str, Any]) -> None:
    """Check for what an energy model may have that lmp_dp cannot evaluate."""
    of_four = [op for op, (_, width) in ENVIRONMENT_OPS.items() if width == 4]
    for environment in (name for op in of_four for name in graph.named_by_op(op)):
        if any(graph.attr(environment, "sel_r")) or graph.attr(environment, "rcut_a") > 0:
            raise UnsupportedModelError(
                "descriptor se_a with radial-only neighbours is not supported"
            )
    fitting_script = section.get("fitting_net", {})
    if fitting_script.get("tot_ener_zero"):
        raise UnsupportedModelError("fitting option tot_ener_zero is not supported")
    if fitting_script.get("use_aparam_as_mask"):
        raise UnsupportedModelError("fitting option use_aparam_as_mask is not supported")
