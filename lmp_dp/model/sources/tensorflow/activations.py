"""Activation functions of a family of nets."""

from __future__ import annotations

import re
from typing import Any

from lmp_dp.errors import ModelFileError
from lmp_dp.model.network import canonical_activation
from lmp_dp.model.sources.tensorflow.graph import Graph

#: Operations of the plain functions, and those that the others are made of.
ACTIVATION_OPS = {
    "Tanh": "tanh",
    "Relu": "relu",
    "Relu6": "relu6",
    "Softplus": "softplus",
    "Sigmoid": "sigmoid",
    "GeluCustom": "gelu",
    "Gelu": "gelu",
}


def activation_of(graph: Graph, pattern: str, section: dict[str, Any]) -> str:
    """Activation of a family of nets: the script's word, or that of the graph's operations.

    The operations name the plain functions; those made of several (gelu, silu, silut) contain a
    Tanh or Sigmoid beside others, and only the script tells them apart.

    Parameters
    ----------
    graph : Graph
    pattern : str
        Regular expression that the names of the nets' nodes begin with.
    section : dict
        The training script's section of these nets.
    """
    if "activation_function" in section:
        return canonical_activation(section["activation_function"])
    ops = {
        graph.op(name)
        for name in graph.names()
        if graph.op(name) in ACTIVATION_OPS and re.match(pattern, name)
    }
    if section or ops == {"Tanh"}:
        return "tanh"  # DeePMD-kit's default
    if len(ops) == 1:
        return ACTIVATION_OPS[ops.pop()]
    raise ModelFileError(
        "this graph carries no training script, and its activation function is not plain from "
        f"its operations ({', '.join(sorted(ops)) or 'none'}); give --input input.json"
    )
