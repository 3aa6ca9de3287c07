"""Small models with random parameters that use, between them, every part of the model file."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable

import numpy as np

from lmp_dp.model import (
    DeepPotential,
    Environment,
    Fitting,
    Layer,
    Network,
    PairNets,
    Provenance,
    ReferenceFrame,
)
from lmp_dp.model.descriptors.se_e2_a import SeE2A


def dense(rng, n_in, n_out, joins="replace", activation="tanh", idt=False) -> Layer:
    return Layer(
        rng.normal(size=(n_in, n_out)),
        rng.normal(size=n_out),
        rng.normal(size=n_out) if idt else None,
        activation,
        joins,
    )


def se_e2_a(*, axis_neuron: int, net_tt: np.ndarray, embeddings: Iterable[Network], **of) -> SeE2A:
    """se_e2_a of the TF family; `of` are the environment's, pairs without a net are excluded."""
    return SeE2A(
        environment=Environment(rules="TF", excluded_tt=net_tt < 0, **of),
        nets=PairNets(net_tt, tuple(embeddings)),
        axis_neuron=axis_neuron,
    )


def small_model() -> DeepPotential:
    rng = np.random.default_rng(4)
    nets = [
        Network((dense(rng, 1, 3, activation="silut:1.5"), dense(rng, 3, 6, "double", idt=True)))
        for _ in range(4)
    ]
    fitting = [
        Network(
            (
                dense(rng, 12, 5),
                dense(rng, 5, 5, "add", idt=True),
                dense(rng, 5, 1, activation="linear"),
            )
        )
        for _ in range(2)
    ]  # fmt: skip
    return DeepPotential(
        ("O", "H"),
        se_e2_a(
            rcut=4.5,
            rcut_smth=0.5,
            sel_t=np.array([4, 9]),
            n_norm=13,
            davg_tk=rng.normal(size=(2, 4)),
            dstd_tk=rng.uniform(0.1, 1, (2, 4)),
            axis_neuron=2,
            net_tt=np.array([[0, -1], [-1, 1]]),
            embeddings=(nets[0], nets[3]),
        ),
        Fitting(tuple(fitting), np.array([-1.0, 2.0]), np.array([True, False])),
        Provenance(source_file="ä.pb", notes=("one", "two"), min_nbor_dist=0.9),
    )


@functools.cache
def full_model() -> DeepPotential:
    """As `small_model`, and compressed, with parameters of frame and atoms, and with a proof."""
    from lmp_dp.tools.compress import compress

    rng, model = np.random.default_rng(5), compress(small_model(), tolerance=1e-3)
    first, *others = model.fitting.nets[0].layers
    wider = np.concatenate([first.weight_io, rng.normal(size=(3, 5))])
    net = Network((dataclasses.replace(first, weight_io=wider), *others))
    return dataclasses.replace(
        model,
        fitting=dataclasses.replace(
            model.fitting,
            nets=(net, net),
            fparam_avg_f=np.array([0.5]),
            fparam_istd_f=np.array([2.0]),
            aparam_avg_f=np.array([0.1, -0.1]),
            aparam_istd_f=np.array([1.0, 3.0]),
        ),
        reference_frame=ReferenceFrame(
            positions_ac=rng.uniform(0.0, 4.0, (3, 3)),
            cell_cc=np.diag([4.0, 5.0, 6.0]),
            types_a=np.array([0, 1, 1]),
            energy=-1.0,
            forces_ac=rng.normal(size=(3, 3)),
            virial_cc=rng.normal(size=(3, 3)),
            evaluated_by="nobody",
            fparam_f=np.array([0.4]),
            aparam_af=rng.normal(size=(3, 2)),
        ),
    )


def assert_same(one, two) -> None:
    """Two models, or parts of them, are equal to the last bit and of the same types."""
    assert type(one) is type(two)
    if dataclasses.is_dataclass(one):
        for field in dataclasses.fields(one):
            assert_same(getattr(one, field.name), getattr(two, field.name))
    elif isinstance(one, tuple):
        assert len(one) == len(two)
        for a, b in zip(one, two, strict=True):
            assert_same(a, b)
    elif isinstance(one, np.ndarray):
        assert one.dtype == two.dtype
        np.testing.assert_array_equal(one, two)
    else:
        assert one == two
