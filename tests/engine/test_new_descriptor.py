"""A descriptor that the package does not know, added here: a dataclass, a function, a lowering.

D = sum_k T_k^2 with T_k = (1/N) sum_j R_jk G(s_j) and one net G of one channel for all pairs.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest

from cuda_emulation.emulated_device import EmulatedDevice
from lmp_dp.engine import Potential, network
from lmp_dp.engine.gpu import device as cuda_device
from lmp_dp.engine.lowering.moment import lower_moment
from lmp_dp.engine.lowering.registry import LOWERINGS, Lowered, lowers
from lmp_dp.engine.reference.registry import FUNCTIONS, Evaluated, evaluates
from lmp_dp.model import DeepPotential, Environment, Fitting, Layer, Network, PairNets, load, save
from lmp_dp.model.descriptors.registry import KINDS, register
from lmp_dp.tools import info

N_TYPES = 2


@pytest.fixture(autouse=True)
def _forgotten_afterwards():
    registries = (KINDS, FUNCTIONS, LOWERINGS)
    before = [dict(registry) for registry in registries]
    yield
    for registry, content in zip(registries, before, strict=True):
        registry.clear()
        registry.update(content)


def add_the_descriptor() -> type:
    """All that a new descriptor takes."""

    @register
    @dataclass(frozen=True)
    class Toy:
        kind: ClassVar[str] = "toy"

        environment: Environment
        net: Network

        n_out: ClassVar[int] = 1
        n_channels: ClassVar[int] = 1

        @property
        def parts(self) -> tuple[Toy, ...]:
            return (self,)

        @property
        def dtype(self) -> np.dtype:
            return self.net.dtype

        def describe(self) -> dict[str, Any]:
            return {"net": list(self.net.widths)}

    @evaluates(Toy)
    def evaluate(descriptor, t, rows) -> Evaluated:
        rows_nsk = rows.normalised_nsk
        n, n_norm = len(rows_nsk), descriptor.environment.n_norm
        g_p1, slopes = network.forward(descriptor.net, rows_nsk[:, :, 0].reshape(-1, 1))
        g_ns = g_p1.reshape(n, -1)
        t_nk = np.einsum("nsk,ns->nk", rows_nsk, g_ns) / n_norm

        def backward(dd_n1):
            dt_nk = 2.0 * dd_n1 * t_nk / n_norm
            drows_nsk = g_ns[:, :, None] * dt_nk[:, None, :]
            dg_ns = np.einsum("nsk,nk->ns", rows_nsk, dt_nk)
            ds_p1 = network.backward(descriptor.net, dg_ns.reshape(-1, 1), slopes)
            drows_nsk[:, :, 0] += ds_p1.reshape(n, -1)
            return drows_nsk

        return Evaluated((t_nk**2).sum(axis=1, keepdims=True), backward, 0)

    @lowers(Toy)
    def lower(descriptor, t, weight_do) -> Lowered:
        nets = PairNets(np.zeros((N_TYPES, N_TYPES), np.int64), (descriptor.net,))
        return lower_moment(descriptor.environment, nets, t, 1, weight_do)

    return Toy


def converted(kind: type, source: dict[str, Any]) -> DeepPotential:
    """A reader of models of this kind, in a format of its own: numbers in JSON."""

    def net(layers) -> Network:
        return Network(
            tuple(
                Layer(np.array(weight), np.array(bias), None, activation, "replace")
                for weight, bias, activation in layers
            )
        )

    environment = Environment(
        rules="TF",
        rcut=source["rcut"],
        rcut_smth=source["rcut_smth"],
        sel_t=np.array(source["sel"]),
        n_norm=sum(source["sel"]),
        davg_tk=np.array(source["davg"]),
        dstd_tk=np.array(source["dstd"]),
        excluded_tt=np.zeros((N_TYPES, N_TYPES), bool),
    )
    return DeepPotential(
        ("A", "B"),
        kind(environment=environment, net=net(source["embedding"])),
        Fitting(
            tuple(net(layers) for layers in source["fitting"]),
            np.array(source["bias"]),
            np.zeros(N_TYPES, bool),
        ),
    )


def source_text() -> str:
    rng = np.random.default_rng(8)

    def layers(*widths: int):
        return [
            [rng.normal(size=(i, o)).tolist(), rng.normal(size=o).tolist(), activation]
            for i, o, activation in zip(
                widths[:-1], widths[1:], ["tanh"] * (len(widths) - 2) + ["linear"], strict=True
            )
        ]

    embedding = layers(1, 6, 1)
    return json.dumps(
        {
            "rcut": 4.0,
            "rcut_smth": 1.0,
            "sel": [12, 12],
            "davg": rng.normal(0.0, 0.1, (N_TYPES, 4)).tolist(),
            "dstd": rng.uniform(0.2, 0.4, (N_TYPES, 4)).tolist(),
            "embedding": embedding,
            "fitting": [layers(1, 9, 9, 1) for _ in range(N_TYPES)],
            "bias": [-1.0, 2.0],
        }
    )


def test_one_dataclass_one_function_and_one_lowering(tmp_path, monkeypatch, capsys) -> None:
    kind = add_the_descriptor()
    path = tmp_path / "toy.h5"
    save(converted(kind, json.loads(source_text())), path)
    model = load(path)
    assert type(model.descriptor) is kind

    monkeypatch.setattr(cuda_device, "CudaDevice", lambda _index: EmulatedDevice())
    rng = np.random.default_rng(9)
    arguments = (rng.uniform(0.0, 7.0, (24, 3)), np.arange(24) % N_TYPES, [7.0, 7.5, 8.0])
    found = {
        backend: Potential(model, backend=backend, threads=2, sel="ignore").evaluate(*arguments)
        for backend in ("reference", "cpu", "gpu")
    }
    reference = found.pop("reference")
    assert np.abs(reference.forces).max() > 1e-3
    for result in found.values():
        # double precision, sums of some 24 neighbours of numbers of order 1
        assert result.energy == pytest.approx(reference.energy, abs=1e-12)
        np.testing.assert_allclose(result.forces, reference.forces, rtol=0, atol=1e-12)
        np.testing.assert_allclose(result.virial, reference.virial, rtol=0, atol=1e-11)

    positions = arguments[0].copy()
    step = 1e-4  # finite differences: error of order step^2
    energies = []
    for sign in (1, -1):
        positions[3, 1] = arguments[0][3, 1] + sign * step
        potential = Potential(model, backend="reference", sel="ignore")
        energies.append(potential.evaluate(positions, *arguments[1:]).energy)
    slope = (energies[0] - energies[1]) / (2 * step)
    assert -slope == pytest.approx(reference.forces[3, 1], rel=1e-5, abs=1e-7)

    described = info.describe(str(path), model)
    assert described["descriptor"] == "toy"
    assert described["net"] == [6, 1]


def test_a_file_of_an_unknown_kind_is_named(tmp_path) -> None:
    from lmp_dp.errors import ModelFileError

    path = tmp_path / "toy.h5"
    save(converted(add_the_descriptor(), json.loads(source_text())), path)
    del KINDS["toy"]
    with pytest.raises(
        ModelFileError,
        match="/descriptor/@kind: 'toy' found, expected hybrid or loc_frame or se_atten or se_e2_a",
    ):
        load(path)
