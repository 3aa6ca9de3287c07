"""Embedding nets of the cpu backend against the plain formulas."""

from __future__ import annotations

import numpy as np
import pytest

from lmp_dp.engine import jet
from lmp_dp.engine.cpu.kernels import simd
from lmp_dp.engine.cpu.kernels.embedding import embed
from lmp_dp.engine.cpu.packing import PackedNet, lanes_of
from lmp_dp.model.network import Layer, Network


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(
    "widths",
    # every sum of panels, layers that add or double their input, that do neither, and of one unit
    [(25, 50, 100), (8, 16, 32), (1, 1, 2, 3), (40, 72, 80), (88, 96, 104), (120, 240), (5, 7, 7)],
    ids=str,
)
def test_nets_equal_the_plain_formulas(widths, dtype):
    rng = np.random.default_rng(len(widths))
    layers = []
    n_in = 1
    for k, width in enumerate(widths):
        joins = {n_in: "add", 2 * n_in: "double"}.get(width, "replace")
        layers.append(
            Layer(
                weight_io=rng.normal(0, n_in**-0.5, (n_in, width)).astype(dtype),
                bias_o=rng.normal(0, 0.5, width).astype(dtype),
                idt_o=rng.uniform(0.5, 1.5, width).astype(dtype) if k == 1 else None,
                activation="tanh",
                joins=joins,
            )
        )
        n_in = width
    net = Network(tuple(layers))
    s_p = rng.uniform(-1.0, 3.0, 37).astype(dtype)  # not a multiple of the rows done together
    packed = PackedNet(net)
    slack = simd.WIDTH
    # what lies behind the results is written by whole vectors, and NaN there does not come in
    g_pm, dg_pm = (
        simd.aligned_copy(np.full(37 * n_in + slack, np.nan), dtype)[: 37 * n_in].reshape(37, n_in)
        for _ in range(2)
    )
    work = simd.aligned_copy(np.full(packed.work, np.nan), dtype)
    embed(s_p, packed.parameters, packed.layers_lu, work, lanes_of(np.dtype(dtype)), g_pm, dg_pm)
    exact_g_pm, exact_dg_pm, _ = jet.evaluate(net, s_p)
    # a sum of n terms of order 1 and a tanh per layer, each with rounding of a few eps
    bound = 20 * np.finfo(dtype).eps * len(widths)
    assert np.max(np.abs(g_pm - exact_g_pm)) < bound * np.max(np.abs(exact_g_pm))
    assert np.max(np.abs(dg_pm - exact_dg_pm)) < bound * np.max(np.abs(exact_dg_pm))
