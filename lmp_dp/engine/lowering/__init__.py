"""From a model to forms (`lmp_dp.engine.forms`): the one place that turns descriptors into them.

Each kind of descriptor has a module here that registers how it is lowered (`registry`).
"""

from __future__ import annotations

import importlib
import pkgutil

import numpy as np

from lmp_dp.engine.folded_fitting import FoldedFitting, FoldedLayer, with_plain_ends
from lmp_dp.engine.forms import Element
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
    descriptor, fitting = model.descriptor, model.fitting
    if type(descriptor) not in LOWERINGS:
        raise BackendError(
            f"descriptor {descriptor.kind} is evaluated by the backends reference and "
            "gpu-reference only: choose one of them"
        )
    net = with_plain_ends(fitting.nets[t])
    first = net.layers[0]
    n_d = descriptor.n_out
    forms, weight_io = LOWERINGS[type(descriptor)](descriptor, t, first.weight_io[:n_d])
    with np.errstate(over="ignore"):  # what is not finite in float32 is reported with the energies
        folded_fo = weight_io.astype(net.dtype)
    of_features = FoldedLayer(**{**vars(first), "weight_io": folded_fo})
    return Element(
        forms,
        FoldedFitting(
            net=Network((of_features, *net.layers[1:])),
            parameter_weight_fo=first.weight_io[n_d:],
            bias=float(fitting.bias_atom_e_t[t]),
            original=net,
            subtract_vacuum=bool(fitting.subtract_vacuum_t[t]),
        ),
    )


for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
