"""se_e3 is Angular: linear in its functions, so that the first layer takes their sums."""

from __future__ import annotations

from itertools import combinations_with_replacement

import numpy as np

from lmp_dp.engine.forms import Angular, AngularBlock, Network, Splines
from lmp_dp.engine.lowering.moment import selection_of, splines_of
from lmp_dp.engine.lowering.registry import Lowered, lowers
from lmp_dp.model.descriptors.se_e3 import SeE3


@lowers(SeE3)
def lower_se_e3(descriptor: SeE3, t: int, weight_do: np.ndarray) -> Lowered:
    """Features of centres of element `t`.

    With tables G^ab_m = sum_q phi^ab_q U^ab_qm they are the sums over phi, of all a and b, and the
    first layer's weights become U W.
    """
    environment, nets = descriptor.environment, descriptor.nets
    sel_t = environment.sel_t.tolist()
    with_slots = [a for a in range(len(sel_t)) if sel_t[a] > 0]
    blocks, folded = [], []
    for pair in combinations_with_replacement(with_slots, 2):
        if (net := nets.net_tt[pair]) < 0:
            continue
        functions: Splines | Network
        if nets.tables:
            table = nets.tables[net]
            functions = splines_of(table, np.concatenate([table.coefficients_veq, table.lines()]))
            folded.append(table.basis_qm @ weight_do.astype(np.float64))
        else:
            functions = nets.embeddings[net]
        blocks.append(AngularBlock(pair, functions, 1.0 / sel_t[pair[0]] / sel_t[pair[1]]))
    weight_io = np.concatenate(folded) if folded else weight_do.astype(np.float64)
    angular = Angular(
        selection=selection_of(environment, t),
        davg_k=environment.davg_tk[t],
        dstd_k=environment.dstd_tk[t],
        blocks=tuple(blocks),
        n_features=len(weight_io),
        dtype=nets.dtype,
    )
    return Lowered((angular,), weight_io)
