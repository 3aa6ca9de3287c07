"""Fitting nets of the v3 formats: their layers join inputs as embedding nets' do."""

from __future__ import annotations

import dataclasses

import numpy as np

from lmp_dp.errors import ModelFileError, UnsupportedModelError
from lmp_dp.model import bounds
from lmp_dp.model.fitting import Fitting
from lmp_dp.model.network import Layer, Network
from lmp_dp.model.sources.v3 import nets
from lmp_dp.model.sources.v3.descriptors import Typed
from lmp_dp.model.sources.v3.tree import Tree


def read(tree: Tree, n_types: int, parts: list[Typed], silent_t: np.ndarray) -> Fitting:
    """The fitting nets behind a descriptor.

    Parameters
    ----------
    tree : Tree
    n_types : int
    parts : list of Typed
        Of the descriptor.
    silent_t : (n_types,) bool array
        ``atom_exclude_types`` of the model, which the fitting nets repeat.

    Raises
    ------
    UnsupportedModelError
        They give something else than energies, or have an option that is not supported, by name.
    """
    if (kind := tree.text("type", "ener")) != "ener":
        raise UnsupportedModelError(
            f"fitting nets of type '{kind[:40]}' are not supported: only energies (ener) are"
        )
    tree.refuse("spin", "use_aparam_as_mask", "tot_ener_zero", "dim_case_embd")
    found = elements_of(tree, "exclude_types", n_types)
    if found.any() and not np.array_equal(found, silent_t):
        raise UnsupportedModelError("exclude_types of fitting nets and model differ: not supported")
    collection = tree.sub("nets")
    mixed = collection.integer("ndim") == 0
    n_nets = 1 if mixed else n_types
    read_nets = nets.read_collection(collection, n_nets, range(n_nets))
    dtype = read_nets[0].dtype
    told = [typed.type_to for typed in parts if typed.type_to is not None]
    bias_t = tree.needed("bias_atom_e").ravel()
    if bias_t.shape != (n_types,):
        raise ModelFileError(f"{tree.place}: bias_atom_e has {bias_t.size} numbers, not {n_types}")
    return Fitting(
        nets=tuple(_told_last(net, parts) for net in read_nets),
        bias_atom_e_t=bias_t.astype(dtype).astype(np.float64),
        subtract_vacuum_t=_subtracted(tree, n_types, mixed),
        fparam_avg_f=_parameters(tree, "fparam_avg", "numb_fparam"),
        fparam_istd_f=_parameters(tree, "fparam_inv_std", "numb_fparam"),
        aparam_avg_f=_parameters(tree, "aparam_avg", "numb_aparam"),
        aparam_istd_f=_parameters(tree, "aparam_inv_std", "numb_aparam"),
        type_to=np.concatenate(told, axis=1).astype(dtype) if told else None,
        vacuum_is_typed=False,
        silent_t=silent_t if silent_t.any() else None,
    )


def elements_of(tree: Tree, name: str, n_types: int) -> np.ndarray:
    """Bools (n_types,) of the elements that a list names."""
    found_t = np.zeros(n_types, dtype=bool)
    for t in tree.integers(name):
        if not 0 <= t < n_types:
            raise ModelFileError(f"{tree.place}/{name} names the element {t} of {n_types}")
        found_t[t] = True
    return found_t


def _parameters(tree: Tree, name: str, count: str) -> np.ndarray:
    values = tree.array(name)
    n = tree.integer(count, 0)
    found = np.empty(0) if values is None or not n else values.ravel().astype(np.float64)
    if found.size != n:
        raise ModelFileError(f"{tree.place}: {name} has {found.size} numbers, {count} is {n}")
    bounds.check(f"{tree.place}: {name}", found, (n,), bounds.MAX_VALUE)
    return found


def _subtracted(tree: Tree, n_types: int, mixed: bool) -> np.ndarray:
    """Elements of which the net's value at D = 0 is subtracted: of one net for all, all.

    They are those with an energy in ``atom_ener``, if there is one, and those beyond its end.
    """
    given = tree.flags("remove_vaccum_contribution") or tree.flags("atom_ener") or []
    if not any(given):
        return np.zeros(n_types, dtype=bool)
    listed = given[:n_types] + [True] * (n_types - len(given))
    return np.ones(n_types, dtype=bool) if mixed else np.array(listed)


def _told_last(net: Network, parts: list[Typed]) -> Network:
    """A net on (D, te, ...), of one on (D_1, te_1, D_2, te_2, ...)."""
    widths = [
        (typed.part.n_out, 0 if typed.type_to is None else typed.type_to.shape[1])
        for typed in parts
    ]
    starts = np.cumsum([0, *(width for pair in widths for width in pair)])
    n_all = int(starts[-1])
    if net.n_in < n_all:
        raise ModelFileError(f"a fitting net takes {net.n_in} values, the descriptor gives {n_all}")
    of_d = [np.arange(starts[2 * n], starts[2 * n + 1]) for n in range(len(parts))]
    of_te = [np.arange(starts[2 * n + 1], starts[2 * n + 2]) for n in range(len(parts))]
    order_i = np.concatenate([*of_d, *of_te, np.arange(n_all, net.n_in)])
    if np.array_equal(order_i, np.arange(net.n_in)):
        return net
    first = net.layers[0]
    if first.joins == "replace":
        first = dataclasses.replace(first, weight_io=first.weight_io[order_i])
        return Network((first, *net.layers[1:]))
    # it joins its input, which must then be in the order that it was trained in
    sorting_io = np.eye(net.n_in, dtype=net.dtype)[order_i]
    zeros_o = np.zeros(net.n_in, net.dtype)
    return Network((Layer(sorting_io, zeros_o, None, "linear", "replace"), *net.layers))
