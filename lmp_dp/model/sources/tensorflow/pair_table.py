"""The short-range pair table of a graph (``use_srtab``)."""

from __future__ import annotations

import dataclasses

import numpy as np

from lmp_dp.errors import ModelFileError, UnsupportedModelError
from lmp_dp.model.descriptors.registry import Part
from lmp_dp.model.pair_table import ORDER, PairTable
from lmp_dp.model.sources.tensorflow.graph import Graph


def read_pair_table(graph: Graph, parts: list[Part]) -> PairTable | None:
    """The table, or None if the graph has none.

    Parameters
    ----------
    graph : Graph
    parts : list of Part
        Of the descriptor; the table's neighbours are those of the part with the largest cutoff.

    Raises
    ------
    UnsupportedModelError, ModelFileError
        The graph switches between table and nets in a way that is not known, or lacks a part.
    """
    switches, tables = graph.named_by_op("SoftMinSwitch"), graph.named_by_op("PairTab")
    info = "model_attr/t_tab_info"
    if not switches and not tables and not graph.is_const(info):
        return None
    if len(switches) != 1 or len(tables) != 1:
        raise UnsupportedModelError(
            f"a short-range pair table with {len(tables)} operations PairTab and {len(switches)} "
            "SoftMinSwitch is not supported, only with one of each (use_srtab)"
        )
    switch = switches[0]
    part = max(parts, key=lambda one: one.environment.rcut)
    sel_t = np.add(graph.attr(switch, "sel_a"), graph.attr(switch, "sel_r")).astype(np.int64)
    n_types = part.environment.n_types
    environment = dataclasses.replace(
        part.environment,
        sel_t=sel_t,
        n_norm=max(1, int(sel_t.sum())),
        davg_tk=np.zeros((n_types, 4)),
        dstd_tk=np.ones((n_types, 4)),
        excluded_tt=np.zeros((n_types, n_types), bool),
    )
    start, step, pieces, _ = graph.const(info).ravel().tolist()
    values = graph.const("model_attr/t_tab_data")
    shape = (n_types, n_types, int(pieces), ORDER)
    if values.size != np.prod(shape):
        raise ModelFileError(f"t_tab_data has {values.size} values, expected {shape}")
    bias = "fitting_attr/t_bias_atom_e"
    # E^pair - E^net: of the table's own energies, or (srtab_add_bias) with the elements' bias
    bare = any(tables[0] in graph.inputs(name) for name in graph.named_by_op("Sub"))
    return PairTable(
        environment=environment,
        start=start,
        step=step,
        # highest power first
        coefficients_ttve=np.ascontiguousarray(values.reshape(shape)[..., ::-1], np.float64),
        alpha=float(graph.attr(switch, "alpha")),
        switch_start=float(graph.attr(switch, "rmin")),
        switch_end=float(graph.attr(switch, "rmax")),
        bias_t=np.zeros(n_types)
        if bare or not graph.is_const(bias)
        else graph.const(bias).astype(np.float64).ravel(),
    )
