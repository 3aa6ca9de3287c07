"""A small model with random parameters that uses every optional part of the model file."""

from __future__ import annotations

import numpy as np

from lmp_dp.model import DeepPotential, Descriptor, Fitting, Layer, Network, Provenance


def dense(rng, n_in, n_out, joins="replace", activation="tanh", idt=False) -> Layer:
    return Layer(
        rng.normal(size=(n_in, n_out)),
        rng.normal(size=n_out),
        rng.normal(size=n_out) if idt else None,
        activation,
        joins,
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
        Descriptor(
            rcut=4.5,
            rcut_smth=0.5,
            sel_t=np.array([4, 9]),
            n_norm=13,
            axis_neuron=2,
            davg_tk=rng.normal(size=(2, 4)),
            dstd_tk=rng.uniform(0.1, 1, (2, 4)),
            net_tt=np.array([[0, -1], [-1, 1]]),
            embeddings=(nets[0], nets[3]),
        ),
        Fitting(tuple(fitting), np.array([-1.0, 2.0]), np.array([True, False])),
        Provenance(source_file="ä.pb", notes=("one", "two"), min_nbor_dist=0.9),
    )
