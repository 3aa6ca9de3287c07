"""Embedding nets of rows or pairs: the kernel for layers of tanh, NumPy for others."""

from __future__ import annotations

import numpy as np

from lmp_dp.engine import jet
from lmp_dp.engine.cpu.kernels import embedding
from lmp_dp.engine.cpu.packing import PackedNet, lanes_of
from lmp_dp.engine.cpu.room import Buffer
from lmp_dp.model.network import Network


def embed(
    net: Network,
    packed: PackedNet | None,
    s_p: np.ndarray,
    g: Buffer,
    dg: Buffer,
    work: Buffer,
) -> tuple[np.ndarray, np.ndarray]:
    """G_pm and dG_pm/ds of the net's inputs `s_p`, in the buffers."""
    if packed is None:
        g_pm, dg_pm, _ = jet.evaluate(net, s_p)
        return g_pm.astype(net.dtype), dg_pm.astype(net.dtype)
    shape = (len(s_p), net.n_out)
    g_pm, dg_pm = g.take(shape, net.dtype), dg.take(shape, net.dtype)
    scratch = work.take((packed.work,), net.dtype)
    lanes = lanes_of(net.dtype)
    embedding.embed(s_p, packed.parameters, packed.layers_lu, scratch, lanes, g_pm, dg_pm)
    return g_pm, dg_pm
