"""The pair table of a v3 model of type ``zbl``: an energy model, and pairs at short distances."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

from lmp_dp.errors import ModelFileError, UnsupportedModelError
from lmp_dp.model.descriptors.environment import Environment
from lmp_dp.model.descriptors.registry import Part
from lmp_dp.model.pair_table import ORDER, PairTable
from lmp_dp.model.sources.v3.tree import Tree


class Members(NamedTuple):
    """What a model of type ``zbl`` is made of.

    Attributes
    ----------
    energy, pairs : Tree
        The energy model and the table.
    bias_t, bias_of_pairs_t : (n_types,) arrays
        ``out_bias`` that either has (eV).
    """

    energy: Tree
    pairs: Tree
    bias_t: np.ndarray
    bias_of_pairs_t: np.ndarray


def members(model: Tree) -> Members:
    """Both models.

    Raises
    ------
    UnsupportedModelError
        They are of other kinds, or of other elements, or DeePMD-kit's backends do not agree on
        what counts of them.
    """
    found = model.subs("models")
    kinds = [tree.text("type", "standard") for tree in found]
    if kinds != ["standard", "pairtab"]:
        raise UnsupportedModelError(
            f"a model of type 'zbl' made of {str(kinds)[:60]} is not supported, only of 'standard' "
            "and 'pairtab'"
        )
    whole_bias_t = out_bias(model)
    biases = []
    for tree in found:
        if tree.texts("type_map") != model.texts("type_map"):
            raise UnsupportedModelError(
                f"{tree.place} has another type_map than the model: not supported"
            )
        tree.refuse("atom_exclude_types", "pair_exclude_types")
        own_t = out_bias(tree)
        if own_t.any() and not model.flag("members_add_out_bias", False):
            raise UnsupportedModelError(
                f"{tree.place} has an out_bias of its own, which DeePMD-kit adds in PyTorch and "
                "leaves out in its other backends: convert the .pth"
            )
        biases.append(whole_bias_t + own_t)
    return Members(found[0], found[1], biases[0], biases[1])


def out_bias(model: Tree) -> np.ndarray:
    """What is added to the energies of atoms, (n_types,) in eV; ``out_std`` is not used."""
    n_types, bias = len(model.texts("type_map")), model.array("out_bias")
    if bias is None:
        return np.zeros(n_types)
    if bias.size != n_types:
        raise ModelFileError(f"{model.place}: out_bias has {bias.size} numbers, not {n_types}")
    return bias.ravel().astype(np.float64)


def read(model: Tree, found: Members, parts: list[Part]) -> PairTable:
    """The table, switched as the model says.

    Parameters
    ----------
    model : Tree
        Of type ``zbl``.
    found : Members
        Of it.
    parts : list of Part
        The energy model's.
    """
    pairs = found.pairs
    if len(parts) != 1:
        raise UnsupportedModelError("a pair table beside a hybrid descriptor is not supported")
    of_nets = parts[0].environment
    environment = _environment(of_nets, pairs.number("rcut"), pairs.integer("sel"))
    table = pairs.sub("tab")
    start, step, pieces, n_types = table.needed("tab_info").ravel().tolist()
    values = table.needed("tab_data")
    shape = (of_nets.n_types, of_nets.n_types, int(pieces), ORDER)
    if n_types != of_nets.n_types or values.size != np.prod(shape):
        raise ModelFileError(f"{table.place}: tab_data has {values.size} values, expected {shape}")
    # sigma is made of the list with more slots; of equal ones, of the table's
    same = environment.n_slots >= of_nets.n_slots
    return PairTable(
        environment=environment,
        start=start,
        step=step,
        # highest power first
        coefficients_ttve=np.ascontiguousarray(values.reshape(shape)[..., ::-1], np.float64),
        alpha=model.number("smin_alpha"),
        switch_start=model.number("sw_rmin"),
        switch_end=model.number("sw_rmax"),
        bias_t=found.bias_of_pairs_t,
        nearness=None if same else _environment(of_nets, of_nets.rcut, of_nets.n_slots),
    )


def _environment(like: Environment, rcut: float, sel: int) -> Environment:
    """Neighbours of all elements, of which no mean and deviation are needed."""
    n_types = like.n_types
    return dataclasses.replace(
        like,
        rcut=rcut,
        rcut_smth=0.0,
        sel_t=np.array([sel]),
        n_norm=max(1, sel),
        davg_tk=np.zeros((n_types, 4)),
        dstd_tk=np.ones((n_types, 4)),
        excluded_tt=np.zeros((n_types, n_types), bool),
    )
