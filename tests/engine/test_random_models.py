"""Random legal models on every backend against the reference.

A model may be anything that `lmp_dp.model` accepts, not only what DeePMD-kit makes of TensorFlow:
every join, time step and activation in every layer, nets of different depth, layers that differ.

The tolerance is the model's own. How much rounding grows in a model is measured: delta, the largest
difference of the reference in float32 and in float64. A backend may be off by

    SAFETY ((delta + e |q|) u / e + 2^-53 sum_i |E_i|),   e = 2^-24,   u = 2^-24 or 2^-53

with u of the nets' precision and |q| the largest of the terms that are summed (atom virials, which
are forces times about an Å; atom energies, and what atom_ener subtracts): float32's rounding in
float32, 2^-29 of it in float64. The last term is that of geometry, sums and 1 - tanh^2, which delta
does not show where all forces are small. A wrong term is off by its own size, 10^4 (float32) to
10^12 times as much.

By hand, with figures (the second number: each so many models also on the emulated device):

    PYTHONPATH=tests python tests/engine/test_random_models.py 5000 10
"""

from __future__ import annotations

import dataclasses
import sys
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

pytest.importorskip("hypothesis")
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cuda_emulation.emulated_device import EmulatedDevice
from lmp_dp import Potential
from lmp_dp.engine import network
from lmp_dp.engine.gpu import device as cuda_device
from lmp_dp.model import DeepPotential, Environment, Fitting, Layer, Network, PairNets
from lmp_dp.model.descriptors.hybrid import Hybrid
from lmp_dp.model.descriptors.se_e2_a import SeE2A
from lmp_dp.model.descriptors.se_e2_r import SeE2R
from lmp_dp.model.descriptors.se_e3 import SeE3
from lmp_dp.model.network import ACTIVATIONS
from lmp_dp.model.precision import cast
from lmp_dp.tools.compress import compress
from small_model import se_e2_a

#: Models in CI; the emulated device takes every second of them.
MODELS, GPU_EVERY = 200, 2
#: Another order of sums, and constants that are folded in float64 and rounded again.
#: The largest seen in 5,000 models is 14.
SAFETY = 50.0
ROUNDING = {"float32": 2.0**-24, "float64": 2.0**-53}
TERMS = {
    "energy": "atom_energies",
    "atom_energies": "atom_energies",
    "forces": "atom_virials",
    "virial": "atom_virials",
    "atom_virials": "atom_virials",
}
KINKED = ("relu", "relu6")
RCUT = 4.0


@dataclass
class Frame:
    positions: np.ndarray
    types: np.ndarray
    cell: np.ndarray | None
    fparam: np.ndarray | None
    aparam: np.ndarray | None


class Case:
    """A model and a frame; not a dataclass, of which hypothesis would print all arrays."""

    def __init__(self, model: DeepPotential, frame: Frame) -> None:
        self.model, self.frame = model, frame

    def __repr__(self) -> str:
        parts, fitting = self.model.descriptor.parts, self.model.fitting
        nets = [("embedding", net) for part in parts for net in part.nets.embeddings]
        nets += [("fitting", net) for net in fitting.nets]
        lines = [
            f"{kind} {net.n_in} "
            + ", ".join(
                f"-> {len(layer.bias_o)} {layer.activation} {layer.joins}"
                + (" idt" if layer.idt_o is not None else "")
                for layer in net.layers
            )
            for kind, net in nets
        ]
        frame = self.frame
        return "\n".join(
            [
                f"Case: precision {self.model.precision}, {len(self.model.tables)} tables, "
                f"vacuum {fitting.subtract_vacuum_t}, {fitting.n_fparam} fparam, "
                f"{fitting.n_aparam} aparam, {fitting.n_told} told, silent {fitting.silent_t}, "
                f"{len(frame.types)} atoms, cell {frame.cell}",
                *(f"{part.kind} {part.environment} {part.nets.net_tt.tolist()}" for part in parts),
                *lines,
            ]
        )


# --------------------------------------------------------------------------- strategies
def arrays(rng: np.random.Generator, dtype: str, *shape: int, size: float = 1.0) -> np.ndarray:
    return (size * rng.normal(size=shape)).astype(dtype)


@st.composite
def layers(draw: Any, rng: Any, dtype: str, n_in: int, n_out: int, names: Any, size: float) -> Any:
    joins = ["replace"] + ["add"] * (n_out == n_in) + ["double"] * (n_out == 2 * n_in)
    return Layer(
        arrays(rng, dtype, n_in, n_out, size=size / n_in**0.5),
        arrays(rng, dtype, n_out, size=0.5),
        arrays(rng, dtype, n_out) if draw(st.booleans()) else None,
        draw(names),
        draw(st.sampled_from(joins[::-1])),
    )


@st.composite
def networks(draw: Any, rng: Any, dtype: str, n_in: int, widths: Any, n_out: int | None) -> Any:
    """Layers as `widths` says, often such that they can join; then one of `n_out`, if given."""
    names = st.sampled_from(ACTIVATIONS)
    names = names.map(lambda name: "silut:1.5" if name == "silut" else name)
    names = draw(st.sampled_from([st.just("tanh"), names, draw(names.map(st.just))]))
    made, last = [], n_in
    for _ in range(draw(st.integers(0 if n_out else 1, 3))):
        choices = [width for width in (last, 2 * last) if width <= 80]
        width = draw(st.one_of(widths, st.sampled_from(choices)) if choices else widths)
        made.append(draw(layers(rng, dtype, last, width, names, 2.0 if not made else 1.0)))
        last = width
    if n_out:
        plain = st.just("linear")
        end = draw(st.sampled_from([plain, plain, names]))
        layer = draw(layers(rng, dtype, last, n_out, end, 1.0))
        plain_end = end is plain and draw(st.booleans())
        made.append(dataclasses.replace(layer, idt_o=None) if plain_end else layer)
    return Network(tuple(made))


@st.composite
def environments(draw: Any, rng: Any, n_types: int, roomy: bool, few: bool) -> Any:
    """Of the TF family without exclusions, and of the DP family."""
    sel = st.integers(100, 120) if roomy else st.sampled_from([4, 1, 2, 3, 5, 6, 9])
    sel_t = np.array(draw(st.lists(sel, min_size=n_types, max_size=n_types)))
    if few:  # those that are summed over in pairs
        sel_t //= 1 + 2 * roomy
    if n_types > 1 and draw(st.sampled_from([False] * 5 + [True])):
        sel_t[rng.integers(n_types)] = 0
    if not sel_t.any():
        sel_t[:] = 1
    dp = draw(st.sampled_from([False, False, True]))
    excluded_tt, unseen_tt = (
        dp & (share > rng.uniform(size=(n_types, n_types)))
        for share in draw(st.sampled_from([(0.0, 0.0), (0.3, 0.0), (0.3, 0.3)]))
    )
    return Environment(
        rules="DP" if dp else "TF",
        rcut=RCUT,
        rcut_smth=draw(st.sampled_from([0.0, 0.5, 3.5])),
        sel_t=sel_t,
        # of the neighbours that there are, not of the slots: D near 1, so that nothing is saturated
        n_norm=draw(st.integers(20, 50) if roomy else st.integers(2, 8)),
        davg_tk=arrays(rng, "float64", n_types, 4, size=0.0 if roomy else 0.2),
        dstd_tk=rng.uniform(0.3, 1.5, (n_types, 4)),
        excluded_tt=excluded_tt | excluded_tt.T,
        protection=draw(st.sampled_from([0.0, 0.2])) if dp else 0.0,
        unseen_tt=unseen_tt | unseen_tt.T if unseen_tt.any() else None,
    )


@st.composite
def descriptors(draw: Any, rng: Any, dtype: str, n_types: int, roomy: bool, kind: Any) -> Any:
    environment = draw(environments(rng, n_types, roomy, few=kind is SeE3))
    nets_tt = {
        "one-sided": np.tile(np.arange(n_types), (n_types, 1)),
        "two-sided": np.arange(n_types**2).reshape(n_types, n_types),
        "any": rng.integers(0, n_types, (n_types, n_types)),
    }[draw(st.sampled_from(["one-sided", "two-sided", "any"]))]
    if kind is SeE3:
        nets_tt = np.minimum(nets_tt, nets_tt.T)
    elif environment.rules == "TF":
        for _ in range(draw(st.sampled_from([0, 0, 0, 1, n_types]))):
            i, j = rng.integers(0, n_types, 2)
            nets_tt[i, j] = nets_tt[j, i] = -1
        if (nets_tt < 0).all():
            nets_tt[0, 0] = 0
        excluded_tt = nets_tt < 0
        if kind is SeE2R:  # s is 0 then
            excluded_tt |= draw(st.sampled_from([0.0, 0.3])) > rng.uniform(size=nets_tt.shape)
        environment = dataclasses.replace(environment, excluded_tt=excluded_tt)
    numbers = np.unique(nets_tt[nets_tt >= 0])
    net_tt = np.where(nets_tt < 0, -1, np.searchsorted(numbers, nets_tt))

    first = draw(networks(rng, dtype, 1, st.integers(1, 20), None))
    embeddings = [first]
    for _ in numbers[1:]:
        other = draw(networks(rng, dtype, 1, st.integers(1, 20), None))
        last = draw(layers(rng, dtype, other.n_out, first.n_out, st.just("tanh"), 1.0))
        embeddings.append(other if other.n_out == first.n_out else Network((*other.layers, last)))
    nets, m = PairNets(net_tt, tuple(embeddings)), first.n_out
    if kind is not SeE2A:
        return kind(environment, nets)
    return SeE2A(environment, nets, draw(st.one_of(st.integers(1, min(m, 6)), st.just(min(m, 40)))))


@st.composite
def kinds(draw: Any, rng: Any, dtype: str, n_types: int, roomy: bool) -> Any:
    """se_e2_a mostly, which the gpu backend has as well."""
    chosen = draw(
        st.sampled_from([(SeE2A,)] * 5 + [(SeE2R,), (SeE3,), (SeE2A, SeE2R), (SeE3, SeE2A, SeE2R)])
    )
    members = [draw(descriptors(rng, dtype, n_types, roomy, kind)) for kind in chosen]
    rules = members[0].environment.rules
    members = [member for member in members if member.environment.rules == rules]
    return members[0] if len(members) == 1 else Hybrid(tuple(members))


@st.composite
def fittings(draw: Any, rng: Any, dtype: str, n_d: int, n_types: int) -> Any:
    n_f, n_a = draw(st.sampled_from([(0, 0), (0, 0), (1, 0), (0, 2), (2, 1)]))
    told = draw(st.sampled_from([0, 0, 0, 3]))
    n_nets = draw(st.sampled_from([1, n_types])) if told else n_types
    n_in = n_d + told + n_f + n_a
    return Fitting(
        tuple(draw(networks(rng, dtype, n_in, st.integers(1, 40), 1)) for _ in range(n_nets)),
        arrays(rng, "float64", n_types, size=5.0),
        np.array(draw(st.lists(st.booleans(), min_size=n_types, max_size=n_types))),
        *(part for n in (n_f, n_a) for part in (rng.normal(size=n), rng.uniform(0.3, 2, n))),
        type_to=arrays(rng, dtype, n_types, told) if told else None,
        vacuum_is_typed=draw(st.booleans()),
        silent_t=draw(st.sampled_from([None, None, None, rng.uniform(size=n_types) < 0.5])),
    )


@st.composite
def models(draw: Any, rng: Any, roomy: bool) -> Any:
    n_types = draw(st.sampled_from([2, 1, 3]))
    precisions = ["float64", "float64", "float32", "mixed", "mixed the other way"]
    precision = draw(st.sampled_from(precisions))
    of_descriptor = "float32" if precision in ("float32", "mixed") else "float64"
    of_fitting = "float32" if precision in ("float32", "mixed the other way") else "float64"
    d = draw(kinds(rng, of_descriptor, n_types, roomy))
    fitting = draw(fittings(rng, of_fitting, d.n_out, n_types))
    model = DeepPotential(tuple("ABC"[:n_types]), d, fitting)
    if draw(st.sampled_from([False, False, False, True])):
        # coarse tables: both sides read the same ones
        model = compress(model, step=0.1, min_distance=0.9, drop_networks=draw(st.booleans()))
    return model


@st.composite
def cases(draw: Any) -> Case:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    # neighbours are left out only where no two are at one distance: among images there are such
    boundaries = draw(st.sampled_from(["open", "periodic", "small"]))
    model = draw(models(rng, roomy=boundaries != "open"))
    n = draw(st.sampled_from([5, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0]))
    n_types = len(model.type_map)
    edge = {"open": 5.0, "periodic": 6.0, "small": 3.0}[boundaries]
    cell = edge * np.eye(3) + rng.uniform(-0.3, 0.3, (3, 3))
    grid = np.stack(np.meshgrid(*[np.arange(3)] * 3, indexing="ij"), -1).reshape(-1, 3)
    apart = 1 if boundaries != "small" else 3
    sites = rng.permutation(len(grid))[: min(n, len(grid) // apart)]
    positions = grid[sites] @ cell / 3 + rng.uniform(-0.3, 0.3, (len(sites), 3))
    types = rng.integers(-1 if draw(st.booleans()) else 0, n_types, len(sites)).astype(np.int32)
    fitting = model.fitting
    frame = Frame(
        positions,
        types,
        None if boundaries == "open" else cell,
        rng.normal(size=fitting.n_fparam) if fitting.n_fparam else None,
        rng.normal(size=(len(sites), fitting.n_aparam)) if fitting.n_aparam else None,
    )
    return Case(model, frame)


# --------------------------------------------------------------------------- comparison
def evaluated(model: DeepPotential, backend: str, frame: Frame) -> tuple[dict[str, Any], Potential]:
    potential = Potential(model, backend=backend, threads=1, sel="ignore", table="ignore")
    result = potential.evaluate(
        frame.positions, frame.types, frame.cell, fparam=frame.fparam, aparam=frame.aparam
    )
    return vars(result), potential


def has_kinks(model: DeepPotential) -> bool:
    embeddings = [
        net
        for part in model.descriptor.parts
        if not part.nets.tables
        for net in part.nets.embeddings
    ]
    nets = (*embeddings, *model.fitting.nets)
    return any(layer.activation in KINKED for net in nets for layer in net.layers)


def deviations(case: Case, backends: list[str]) -> dict[tuple[str, str], float]:
    """Largest deviation of each backend and quantity in units of the tolerance without SAFETY."""
    model, frame = case.model, case.frame
    single, _ = evaluated(cast(model, "float32"), "reference", frame)
    expected, reference = evaluated(cast(model, "float64"), "reference", frame)
    precision = "float64" if model.precision == "float64" else "float32"
    # a rounded number on the other side of a kink has another slope
    energies_only = precision == "float32" and has_kinks(model)
    geometry = ROUNDING["float64"] * np.abs(expected["atom_energies"]).sum()
    # the net's value less its value at D = 0: both are rounded
    nets = model.fitting.nets
    zero = [network.forward(net, np.zeros((1, net.n_in), net.dtype))[0].item() for net in nets]
    vacuum = np.abs(zero).max() * model.fitting.subtract_vacuum_t.any()
    worst = {}
    for backend in backends:
        found, potential = evaluated(model, backend, frame)
        for name in ("atom_energies",) if energies_only else expected:
            e, terms = ROUNDING["float32"], TERMS[name]
            size = np.abs(expected[terms]).max(initial=0.0)
            if terms == "atom_energies":
                size += vacuum
            delta = max(
                np.abs(single[key] - expected[key]).max(initial=0.0) for key in (name, terms)
            )
            allowed = (delta + e * size) * ROUNDING[precision] / e + geometry
            off = np.abs(found[name] - expected[name]).max(initial=0.0)
            worst[backend, name] = off / allowed if off else 0.0
            assert worst[backend, name] <= SAFETY, (backend, name, worst)
        assert potential.watch.totals == reference.watch.totals
    return worst


def gpu_takes(model: DeepPotential) -> bool:
    return all(isinstance(part, SeE2A) for part in model.descriptor.parts)


def run(n_models: int, gpu_every: int, figures: dict[Any, float]) -> None:
    """Evaluate and compare; `figures` gets the largest deviations by backend and precision."""
    count = 0

    @settings(
        max_examples=n_models,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(cases())
    def compare(case: Case) -> None:
        nonlocal count
        count += 1
        on_gpu = count % gpu_every == 0 and gpu_takes(case.model)
        backends = ["cpu", *["gpu"] * on_gpu]
        for (backend, name), found in deviations(case, backends).items():
            key = backend, name, case.model.precision, bool(case.model.tables)
            figures[key] = max(figures[key], found)

    compare()


def test_backends_agree_on_random_models(monkeypatch) -> None:
    monkeypatch.setattr(cuda_device, "CudaDevice", lambda _index: EmulatedDevice())
    run(MODELS, GPU_EVERY, defaultdict(float))


#: Layers of a fitting net behind a descriptor of 4 numbers: width, activation, join, time step.
HIDDEN = (6, "tanh", "replace", False)
LAST = (1, "linear", "replace", False)
NETS = {
    "hidden layer that doubles": [HIDDEN, (12, "tanh", "double", True), LAST],
    "two that double": [HIDDEN, (12, "silu", "double", False), (24, "tanh", "double", True), LAST],
    "doubles, then adds": [HIDDEN, (12, "tanh", "double", True), (12, "gelu", "add", True), LAST],
    "layer 0 that adds": [(4, "tanh", "add", True), (4, "tanh", "add", False), LAST],
    "layer 0 that doubles": [(8, "sigmoid", "double", True), LAST],
    "last layer with an activation": [HIDDEN, (1, "softplus", "replace", False)],
    "last layer with a time step": [HIDDEN, (1, "linear", "replace", True)],
    "last layer that adds": [HIDDEN, (1, "tanh", "replace", False), (1, "tanh", "add", True)],
    "nothing but a last layer with an activation": [(1, "tanh", "replace", True)],
    "nothing but a last layer": [LAST],
}


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("n_parameters", [0, 1])
@pytest.mark.parametrize("with_tables", [False, True])
def test_fitting_nets_that_tensorflow_does_not_make(
    name: str, n_parameters: int, with_tables: bool, monkeypatch
) -> None:
    monkeypatch.setattr(cuda_device, "CudaDevice", lambda _index: EmulatedDevice())
    rng = np.random.default_rng(3)

    def layer(n_in: int, n_out: int, activation: str, joins: Any, idt: bool) -> Layer:
        time_step = arrays(rng, "float64", n_out) if idt else None
        weight_io = arrays(rng, "float64", n_in, n_out)
        return Layer(weight_io, arrays(rng, "float64", n_out), time_step, activation, joins)

    fitting, n_in = [], 4 + n_parameters
    for width, activation, joins, idt in NETS[name]:
        # layer 0 joins parameters as well
        n_out = {"add": n_in, "double": 2 * n_in}.get(joins, width)
        fitting.append(layer(n_in, n_out, activation, joins, idt))
        n_in = n_out
    one = np.ones(n_parameters)
    model = DeepPotential(
        ("A",),
        se_e2_a(
            rcut=RCUT,
            rcut_smth=0.5,
            sel_t=np.array([20]),
            n_norm=4,
            axis_neuron=2,
            davg_tk=np.full((1, 4), 0.1),
            dstd_tk=np.ones((1, 4)),
            net_tt=np.zeros((1, 1), int),
            embeddings=(Network((layer(1, 2, "tanh", "double", True),)),),
        ),
        Fitting((Network(tuple(fitting)),), np.zeros(1), np.ones(1, bool), one, one),
    )
    if with_tables:
        model = compress(model, step=0.1, min_distance=0.9)
    corners = np.stack(np.meshgrid(*[[0.0, 1.5]] * 3, indexing="ij"), -1).reshape(-1, 3)
    fparam = 0.3 * one if n_parameters else None
    positions = corners + rng.uniform(-0.3, 0.3, (8, 3))
    frame = Frame(positions, np.zeros(8, np.int32), None, fparam, None)
    deviations(Case(model, frame), ["cpu", "gpu"])
    assert np.abs(evaluated(model, "cpu", frame)[0]["forces"]).max() > 1e-3


if __name__ == "__main__":
    cuda_device.CudaDevice = lambda _index: EmulatedDevice()
    largest: dict[Any, float] = defaultdict(float)
    try:
        run(int(sys.argv[1]), int(sys.argv[2]), largest)
    finally:
        for key, value in sorted(largest.items()):
            print(*key, f"{value:.3g}")
