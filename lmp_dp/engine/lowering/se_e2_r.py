"""se_e2_r is Radial: linear in its functions, so that the first layer takes their sums."""

from __future__ import annotations

import numpy as np

from lmp_dp.engine import network, table
from lmp_dp.engine.forms import Radial, RadialBlock, Splines
from lmp_dp.engine.lowering.moment import selection_of, splines_of
from lmp_dp.engine.lowering.registry import Lowered, lowers
from lmp_dp.model.descriptors.se_e2_r import SCALE, SeE2R
from lmp_dp.model.network import Network
from lmp_dp.model.precision import cast_network


@lowers(SeE2R)
def lower_se_e2_r(descriptor: SeE2R, t: int, weight_do: np.ndarray) -> Lowered:
    """Features of centres of element `t`.

    With tables G_m = sum_q phi_q U_qm they are the sums over phi, of all neighbour elements, and
    the first layer's weights become U W; 1/5 and 1/N are in them as well.
    """
    environment, nets = descriptor.environment, descriptor.nets
    zero_t = environment.excluded_tt[t] & (environment.rules == "TF")
    scaled_do = weight_do.astype(np.float64) * SCALE / environment.n_norm
    row = (0.0 - environment.davg_tk[t, :1]) / environment.dstd_tk[t, :1]
    blocks, folded = [], []
    for j in np.flatnonzero((environment.sel_t > 0) & (nets.net_tt[t] >= 0)).tolist():
        functions: Splines | Network
        if nets.tables:
            tabulated = nets.tables[nets.net_tt[t, j]]
            basis_qm = tabulated.basis_qm
            lines_veq = np.concatenate([tabulated.coefficients_veq, tabulated.lines()])
            functions = splines_of(tabulated, lines_veq)
            padding_q = nets.padding_of(t)[j] @ basis_qm.T
            zero_q = table.forward(tabulated, np.zeros(1))[0][0] @ basis_qm.T
            folded.append(basis_qm @ scaled_do)
        else:
            functions = net = nets.embeddings[nets.net_tt[t, j]]
            padding_q, zero_q = (_of_net(net, s) for s in (row, np.zeros(1)))
        # of the TF family s is 0 in all slots of elements that the centre does not see
        blocks.append(RadialBlock(j, functions, zero_q if zero_t[j] else padding_q, zero_q))
    weight_io = np.concatenate(folded) if folded else scaled_do
    radial = Radial(
        selection=selection_of(environment, t),
        davg_k=environment.davg_tk[t],
        dstd_k=environment.dstd_tk[t],
        blocks=tuple(blocks),
        n_features=len(weight_io),
        dtype=nets.dtype,
    )
    return Lowered((radial,), weight_io)


def _of_net(net: Network, s: np.ndarray) -> np.ndarray:
    """G_m at s, in float64: the same constant enters every atom many times."""
    s_11 = s.astype(net.dtype).astype(np.float64)[None]
    return network.forward(cast_network(net, "float64"), s_11)[0][0]
