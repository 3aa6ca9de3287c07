"""The fitting stage against the net as it stands, evaluated in NumPy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lmp_dp.engine import network
from lmp_dp.engine.cpu.fitting import FittingStage
from lmp_dp.engine.cpu.packing import PackedFitting
from lmp_dp.engine.cpu.room import LayerRoom
from lmp_dp.engine.folded_fitting import FoldedFitting
from lmp_dp.model.network import Network
from lmp_dp.model.precision import cast_network
from small_model import dense

#: Hidden layers: width, join, activation; the last layer follows.
HIDDEN = {
    "none": [],
    "one": [(13, "replace", "tanh")],
    "adds": [(24, "replace", "tanh"), (24, "add", "tanh"), (24, "add", "gelu")],
    "doubles": [(5, "replace", "silu"), (10, "double", "tanh"), (20, "double", "relu6")],
    "shrinks": [(33, "replace", "tanh"), (7, "replace", "softplus")],
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("n_parameters", [0, 3])
@pytest.mark.parametrize("subtract", [False, True])
@pytest.mark.parametrize("name", HIDDEN)
def test_energies_and_gradients(name: str, subtract: bool, n_parameters: int, dtype: str) -> None:
    rng = np.random.default_rng(len(name))
    n_features, n_b = 11, 9
    layers, n_in = [], n_features + n_parameters
    for width, joins, activation in [*HIDDEN[name], (1, "replace", "linear")]:
        idt = activation != "linear" and bool(rng.integers(2))
        layer = dense(rng, n_in, width, joins, activation, idt)
        layers.append(replace(layer, weight_io=layer.weight_io / n_in**0.5))
        n_in = width
    net = cast_network(Network(tuple(layers)), dtype)
    first = net.layers[0]
    of_features = replace(first, weight_io=np.ascontiguousarray(first.weight_io[:n_features]))
    folded = FoldedFitting(
        net=Network((of_features, *net.layers[1:])),
        parameter_weight_fo=first.weight_io[n_features:],
        bias=-3.25,
        vacuum_net=net if subtract else None,
    )
    x_bi = rng.normal(size=(n_b, n_features)).astype(dtype)
    parameters_bf = rng.normal(size=(n_b, n_parameters)).astype(dtype)
    stage = FittingStage(PackedFitting(folded))
    rooms = [LayerRoom() for _ in range(stage.n_layers)]

    wide = cast_network(net, "float64")
    inputs_bi = np.concatenate([x_bi, parameters_bf], axis=1).astype(np.float64)
    exact_b1, slopes = network.forward(wide, inputs_bi)
    exact_bi = network.backward(wide, np.ones((n_b, 1)), slopes)
    expected_b = exact_b1[:, 0] - 3.25
    if subtract:
        inputs_bi[:, :n_features] = 0.0
        expected_b -= network.forward(wide, inputs_bi)[0][:, 0]
    # numbers of order 1 to 10 through up to four sums of up to 33 terms
    bound = 300 * np.finfo(dtype).eps
    for _ in range(2):  # the second time in rooms that are used
        energies_b, dx_bi = stage.evaluate(x_bi, parameters_bf, rooms)
        assert energies_b.dtype == np.float64
        np.testing.assert_allclose(energies_b, expected_b, rtol=0, atol=bound)
        np.testing.assert_allclose(dx_bi, exact_bi[:, :n_features], rtol=0, atol=bound)
