"""From a model to forms (`lmp_dp.engine.forms`): the one place that turns descriptors into them.

Each kind of descriptor has a module here that registers how it is lowered (`registry`).
"""

from __future__ import annotations

import importlib
import pkgutil

import numpy as np

from lmp_dp.engine.folded_fitting import FoldedFitting, FoldedLayer, fitting_nets
from lmp_dp.engine.forms import Element, Form
from lmp_dp.engine.lowering.pair_table import lower_pair_table
from lmp_dp.engine.lowering.registry import LOWERINGS
from lmp_dp.errors import BackendError
from lmp_dp.model import DeepPotential
from lmp_dp.model.network import Network


def lower(model: DeepPotential, t: int) -> Element:
    """What a backend evaluates for centres of element `t`.

    Raises
    ------
    BackendError
        There are no forms for this descriptor.
    """
    descriptor = model.descriptor
    told, vacuum = fitting_nets(model.fitting, t, descriptor.n_out)
    first = told.layers[0]
    silent = model.fitting.is_silent(t)
    forms: list[Form] = []
    folded, start = [], 0
    for part in descriptor.parts:
        if type(part) not in LOWERINGS:
            raise BackendError(
                f"descriptor {part.kind} is evaluated by the backends reference and "
                "gpu-reference only: choose one of them"
            )
        weight_do = first.weight_io[start : start + part.n_out]
        lowered = LOWERINGS[type(part)](part, t, weight_do)
        forms += lowered.forms
        folded.append(lowered.weight_io)
        start += part.n_out
    with np.errstate(over="ignore"):  # what is not finite in float32 is reported with the energies
        folded_fo = np.concatenate(folded).astype(told.dtype)
    of_features = FoldedLayer(**{**vars(first), "weight_io": folded_fo})
    return Element(
        tuple(forms),
        FoldedFitting(
            net=Network((of_features, *told.layers[1:])),
            parameter_weight_fo=first.weight_io[start:],
            bias=0.0 if silent else float(model.fitting.bias_atom_e_t[t]),
            vacuum_net=vacuum,
        ),
        None if silent or model.pair_table is None else lower_pair_table(model.pair_table, t),
    )


for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
