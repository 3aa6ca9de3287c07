"""se_e3 models with random numbers, and frames for them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any

import numpy as np

from lmp_dp.model import DeepPotential, Environment, Fitting, Layer, Network, PairNets
from lmp_dp.model.descriptors.hybrid import Hybrid
from lmp_dp.model.descriptors.se_e2_a import SeE2A
from lmp_dp.model.descriptors.se_e3 import SeE3
from lmp_dp.model.network import embedding_join

RCUT = 4.0
#: By what is special of them.
MODELS: dict[str, dict[str, Any]] = {
    "two elements": {},
    "one element": {"sel": (50,), "widths": (2, 4, 8)},
    "three elements": {"sel": (24, 20, 16), "widths": (3,)},
    "sel is too small": {"sel": (3, 4)},
    "no slots for an element": {"sel": (0, 9)},
    "mean of directions": {"mean": (0.2, 0.1, -0.1, 0.3)},
    "no means": {"mean": (0.0, 0.0, 0.0, 0.0)},
    "one net for all": {"sel": (14, 20, 9), "one_net": True},
    "silu": {"activation": "silu", "widths": (5, 5)},
    "time step": {"widths": (7, 14), "idt": True},
    "wide": {"widths": (10, 20)},
    "hybrid": {"with_se_e2_a": True},
    "excluded in DP": {"excluded": (0, 1), "rules": "DP", "mean": (0.2, 0.1, 0.0, -0.1)},
    "sel is too small in DP": {"sel": (4, 3, 3), "rules": "DP", "excluded": (1, 1)},
}


@dataclass(frozen=True)
class Frame:
    positions: np.ndarray
    types: np.ndarray
    cell: np.ndarray | None


def net(
    rng: np.random.Generator,
    widths: tuple[int, ...],
    activation: str = "tanh",
    idt: bool = False,
    dtype: str = "float64",
) -> Network:
    def layer(n_in: int, n_out: int, act: str, joins: Any) -> Layer:
        return Layer(
            (rng.normal(size=(n_in, n_out)) / n_in**0.5).astype(dtype),
            rng.normal(0.0, 0.3, n_out).astype(dtype),
            rng.uniform(0.3, 1.0, n_out).astype(dtype) if idt else None,
            act,
            joins,
        )

    pairs = zip((1, *widths[:-1]), widths, strict=True)
    return Network(tuple(layer(i, o, activation, embedding_join(i, o)) for i, o in pairs))


def random_se_e3(
    seed: int = 0,
    *,
    sel: tuple[int, ...] = (20, 24),
    widths: tuple[int, ...] = (2, 4),
    activation: str = "tanh",
    idt: bool = False,
    mean: tuple[float, ...] = (0.3, 0.0, 0.0, 0.0),
    one_net: bool = False,
    with_se_e2_a: bool = False,
    excluded: tuple[int, int] | None = None,
    rules: Any = "TF",
    dtype: str = "float64",
) -> DeepPotential:
    rng, n_types = np.random.default_rng(seed), len(sel)
    pairs = list(combinations_with_replacement(range(n_types), 2))
    net_tt = np.zeros((n_types, n_types), np.int64)
    for n, (a, b) in enumerate(pairs):
        net_tt[a, b] = net_tt[b, a] = 0 if one_net else n
    excluded_tt = np.zeros((n_types, n_types), bool)
    if excluded is not None:
        excluded_tt[excluded] = excluded_tt[excluded[::-1]] = True
    environment = Environment(
        rules=rules,
        rcut=RCUT,
        rcut_smth=0.5,
        sel_t=np.array(sel),
        n_norm=sum(sel),
        davg_tk=rng.uniform(0.5, 1.5, (n_types, 1)) * np.array(mean),
        # e up to 20 or so
        dstd_tk=rng.uniform(0.1, 0.2, (n_types, 4)),
        excluded_tt=excluded_tt,
    )
    nets = [net(rng, widths, activation, idt, dtype) for _ in range(1 if one_net else len(pairs))]
    descriptor: Any = SeE3(environment, PairNets(net_tt, tuple(nets)))
    if with_se_e2_a:
        radial = [net(rng, (5, 10), dtype=dtype) for _ in range(n_types**2)]
        of_pairs_tt = np.arange(n_types**2).reshape(n_types, n_types)
        descriptor = Hybrid(
            (SeE2A(environment, PairNets(of_pairs_tt, tuple(radial)), 3), descriptor)
        )
    fitting = []
    for _ in range(n_types):
        first, *others = net(rng, (12, 12, 1), dtype=dtype).layers
        weight_io = rng.normal(size=(descriptor.n_out, 12)) / descriptor.n_out**0.5
        first = Layer(weight_io.astype(dtype), first.bias_o, None, "tanh", "replace")
        last = Layer(others[-1].weight_io, others[-1].bias_o, None, "linear", "replace")
        fitting.append(Network((first, others[0], last)))
    return DeepPotential(
        tuple("ABC"[:n_types]),
        descriptor,
        Fitting(tuple(fitting), rng.normal(size=n_types), np.zeros(n_types, bool)),
    )


def frames(n_types: int) -> dict[str, Frame]:
    """Atoms some 2 Å apart: periodic, triclinic, in a cell smaller than the cutoff, open, alone."""
    rng = np.random.default_rng(5)

    def grid(n: int, edge: float) -> np.ndarray:
        sites = np.stack(np.meshgrid(*[np.arange(n)] * 3, indexing="ij"), -1).reshape(-1, 3)
        return edge * (sites + rng.uniform(-0.12, 0.12, sites.shape))

    def types(n: int) -> np.ndarray:
        return rng.permutation(np.arange(n) % n_types)

    sheared = np.array([[1.0, 0.0, 0.0], [0.2, 1.0, 0.0], [-0.1, 0.15, 1.1]])
    return {
        "periodic": Frame(grid(3, 2.4), types(27), 7.2 * np.eye(3)),
        "triclinic": Frame(grid(3, 2.4) @ sheared, types(27), 7.2 * sheared),
        "small": Frame(grid(1, 2.4), np.zeros(1, int), 2.6 * sheared),
        "open": Frame(grid(2, 2.3), types(8), None),
        "two": Frame(np.array([[0.0, 0.0, 0.0], [1.2, 1.0, 1.5]]), types(2), None),
        "alone": Frame(np.zeros((1, 3)), types(1), None),
    }
