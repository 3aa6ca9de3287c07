"""Random models whose nets are told the elements: se_e2_a with type embedding, and se_atten."""

from __future__ import annotations

import numpy as np

from lmp_dp.model import DeepPotential, Environment, Fitting, Layer, Network
from lmp_dp.model.descriptors.se_atten import SeAtten
from lmp_dp.model.descriptors.se_e2_a_tebd import SeE2ATebd
from lmp_dp.model.network import embedding_join
from lmp_dp.model.typed_nets import TypedNets

RCUT, N_TEBD = 4.0, 3


def net(
    rng, dtype, n_in: int, *widths: int, activation: str = "tanh", idt: bool = False
) -> Network:
    layers = []
    for width in widths:
        weight = rng.normal(size=(n_in, width)) / n_in**0.5
        idt_o = rng.normal(size=width).astype(dtype) if idt else None
        bias = rng.normal(0.0, 0.5, width).astype(dtype)
        joins = embedding_join(n_in, width)
        layers.append(Layer(weight.astype(dtype), bias, idt_o, activation, joins))
        n_in = width
    return Network(tuple(layers))


def typed_model(
    kind: str = "se_atten",
    rules: str = "TF",
    *,
    seed: int = 1,
    n_types: int = 3,
    sel: int = 60,
    strip: bool = False,
    smooth: bool = False,
    one_side: bool = False,
    excluded: tuple[tuple[int, int], ...] = (),
    davg: float = 0.0,
    protection: float = 0.0,
    dtype: str = "float64",
    widths: tuple[int, ...] = (4, 8, 16),
    activation: str = "tanh",
    told_fitting: bool = True,
) -> DeepPotential:
    """One with a fitting net for all elements; `sel` slots, or as many per element."""
    rng = np.random.default_rng(seed)
    n_told = N_TEBD * (1 if one_side else 2)
    excluded_tt = np.zeros((n_types, n_types), bool)
    for one, two in excluded:
        excluded_tt[one, two] = excluded_tt[two, one] = True
    type_to = np.concatenate([rng.normal(size=(n_types, N_TEBD)), np.zeros((1, N_TEBD))])
    nets = TypedNets(
        embedding=net(rng, dtype, 1 if strip else 1 + n_told, *widths, activation=activation),
        gate=net(rng, dtype, n_told, *widths, activation=activation) if strip else None,
        type_to=type_to.astype(dtype),
        one_side=one_side,
        smooth=smooth,
    )
    one_block = kind == "se_atten"
    sel_t = np.array([sel]) if one_block else np.full(n_types, sel)
    environment = Environment(
        rules=rules,
        rcut=RCUT,
        rcut_smth=0.7,
        sel_t=sel_t,
        n_norm=int(sel_t.sum()),
        davg_tk=davg * rng.normal(size=(n_types, 1)) * np.array([1.0, 0.0, 0.0, 0.0]),
        dstd_tk=rng.uniform(0.1, 0.3, (n_types, 4)),
        excluded_tt=excluded_tt,
        protection=protection,
    )
    axis = 3
    if one_block:
        radius = 0.7 if smooth and rules == "TF" else None
        descriptor = SeAtten(environment, nets, None, axis, radius)
    else:
        descriptor = SeE2ATebd(environment, nets, axis)
    n_d = descriptor.n_out + (N_TEBD if told_fitting else 0)
    *_, last = hidden = net(rng, dtype, n_d, 12, 12).layers
    end = Layer(
        rng.normal(size=(12, 1)).astype(dtype), np.zeros(1, dtype), None, "linear", "replace"
    )
    assert last.joins == "add"
    fitting = Fitting(
        nets=(Network((*hidden, end)),),
        bias_atom_e_t=rng.normal(size=n_types),
        subtract_vacuum_t=np.zeros(n_types, bool),
        type_to=type_to[:-1].astype(dtype) if told_fitting else None,
    )
    return DeepPotential(tuple(f"E{t}" for t in range(n_types)), descriptor, fitting)
