"""Fitting nets that are told the element, one for all, and elements without energy."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from lmp_dp import Potential
from lmp_dp.engine.activation import value_and_slope
from lmp_dp.model import DeepPotential, Fitting, Network, load, save
from small_model import assert_same, dense, small_model

BACKENDS = ("reference", "cpu")
N_TOLD = 3


def told(*, one_net: bool, vacuum_is_typed: bool, parameters: bool, seed: int) -> DeepPotential:
    """The small model with other fitting nets, which are told the element."""
    rng, model = np.random.default_rng(seed), small_model()
    n_d, n_f = model.descriptor.n_out, int(parameters)
    nets = tuple(
        Network(
            (
                dense(rng, n_d + N_TOLD + 2 * n_f, 5),
                dense(rng, 5, 5, "add", idt=True),
                dense(rng, 5, 1, activation="linear"),
            )
        )
        for _ in range(1 if one_net else 2)
    )
    one = np.ones(n_f)
    fitting = Fitting(
        nets,
        np.array([-1.0, 2.0]),
        np.array([True, False]),
        *(0.2 * one, 1.5 * one, -0.1 * one, 0.7 * one),
        type_to=rng.normal(size=(2, N_TOLD)),
        vacuum_is_typed=vacuum_is_typed,
    )
    return dataclasses.replace(model, fitting=fitting)


def frame() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    grid = np.stack(np.meshgrid(*[np.arange(2)] * 3, indexing="ij"), -1).reshape(-1, 3)
    return 1.5 * grid + rng.uniform(-0.3, 0.3, grid.shape), (np.arange(8) % 2).astype(np.int32)


def value(net: Network, x_i: np.ndarray) -> float:
    """The net on one input, layer by layer."""
    for layer in net.layers:
        h_o, _ = value_and_slope(layer.activation, x_i @ layer.weight_io + layer.bias_o)
        if layer.idt_o is not None:
            h_o = h_o * layer.idt_o
        x_i = x_i + h_o if layer.joins == "add" else h_o
    return float(x_i[0])


def descriptor_values(model: DeepPotential) -> np.ndarray:
    """D of the frame's atoms: what nets give that read one number of it."""
    n_d = model.descriptor.n_out
    positions, types = frame()
    found = []
    for d in range(n_d):
        layer = dense(np.random.default_rng(0), n_d, 1, activation="linear")
        reads = dataclasses.replace(
            layer, weight_io=np.eye(n_d)[:, d : d + 1].copy(), bias_o=np.zeros(1)
        )
        fitting = Fitting((Network((reads,)),) * 2, np.zeros(2), np.zeros(2, bool))
        of_d = dataclasses.replace(model, fitting=fitting)
        found.append(Potential(of_d, backend="reference").evaluate(positions, types).atom_energies)
    return np.stack(found, axis=1)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("vacuum_is_typed", [False, True])
@pytest.mark.parametrize("one_net", [False, True])
@pytest.mark.parametrize("parameters", [False, True])
def test_told(backend: str, one_net: bool, vacuum_is_typed: bool, parameters: bool) -> None:
    """E_i = net(D, te_i, p) - [subtracted] net(0, te_i or 0, p) + bias, as it is written."""
    model = told(one_net=one_net, vacuum_is_typed=vacuum_is_typed, parameters=parameters, seed=2)
    positions, types = frame()
    aparam_af = np.linspace(-1.0, 1.0, 8)[:, None]
    given = {"fparam": [0.4], "aparam": aparam_af} if parameters else {}
    found = Potential(model, backend=backend).evaluate(positions, types, **given)
    fitting, d_nd = model.fitting, descriptor_values(model)
    assert fitting.type_to is not None
    for n, t in enumerate(types):
        net, te_o = fitting.nets[0 if one_net else t], fitting.type_to[t]
        p_f = np.empty(0)
        if parameters:
            p_f = np.array([(0.4 - 0.2) * 1.5, (aparam_af[n, 0] + 0.1) * 0.7])
        expected = value(net, np.concatenate([d_nd[n], te_o, p_f])) + fitting.bias_atom_e_t[t]
        if fitting.subtract_vacuum_t[t]:
            of_vacuum_o = te_o if vacuum_is_typed else 0 * te_o
            expected -= value(net, np.concatenate([0 * d_nd[n], of_vacuum_o, p_f]))
        assert found.atom_energies[n] == pytest.approx(expected, rel=1e-13, abs=1e-13)


@pytest.mark.parametrize("backend", BACKENDS)
def test_silent_elements(backend: str) -> None:
    """Neither net nor bias nor forces of their own; others see them as before."""
    model = told(one_net=True, vacuum_is_typed=True, parameters=False, seed=3)
    silent = dataclasses.replace(
        model, fitting=dataclasses.replace(model.fitting, silent_t=np.array([True, False]))
    )
    positions, types = frame()
    before = Potential(model, backend=backend).evaluate(positions, types)
    potential = Potential(silent, backend=backend)
    found = potential.evaluate(positions, types)
    assert not found.atom_energies[types == 0].any()
    np.testing.assert_array_equal(found.atom_energies[types == 1], before.atom_energies[types == 1])
    step = 1e-5
    for a, c in ((0, 0), (3, 2)):
        moved = [positions.copy() for _ in range(2)]
        moved[0][a, c] += step
        moved[1][a, c] -= step
        above, below = (potential.evaluate(x, types).energy for x in moved)
        # third derivatives of some ten, times step^2; and rounding over the step
        assert found.forces[a, c] == pytest.approx(-(above - below) / (2 * step), abs=1e-7)


def test_file(tmp_path) -> None:
    model = told(one_net=True, vacuum_is_typed=False, parameters=True, seed=4)
    silent = dataclasses.replace(model.fitting, silent_t=np.array([False, True]))
    model = dataclasses.replace(model, fitting=silent)
    save(model, tmp_path / "model.h5")
    assert_same(load(tmp_path / "model.h5").fitting, model.fitting)
