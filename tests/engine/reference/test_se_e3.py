"""se_e3 against DeePMD-kit's NumPy implementation and finite differences."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from lmp_dp.engine import Potential
from lmp_dp.engine.reference import environment
from lmp_dp.engine.reference.se_e3 import evaluate
from lmp_dp.errors import ModelFileError
from lmp_dp.model import Environment, Layer, Network, PairNets
from lmp_dp.model.descriptors.se_e3 import SeE3
from lmp_dp.model.network import canonical_activation, embedding_join
from random_se_e3 import MODELS, frames, random_se_e3

DEEPMD: dict[str, dict[str, Any]] = {
    "one element": dict(sel=[40], neuron=[2, 4, 8]),
    "two elements": dict(sel=[20, 24], neuron=[5], activation_function="gelu"),
    "three": dict(sel=[20, 24, 20], neuron=[3, 6], resnet_dt=True, set_davg_zero=True),
    "sel is too small": dict(sel=[3, 5], neuron=[4]),
    "excluded": dict(sel=[20, 24, 20], neuron=[4], exclude_types=[(0, 1), (2, 2)]),
    "excluded, sel is too small": dict(sel=[5, 4, 3], neuron=[4], exclude_types=[(0, 1)]),
    "protection": dict(sel=[20, 24], neuron=[4], env_protection=0.05, activation_function="silu"),
    "mean of directions": dict(sel=[20, 24], neuron=[4], davg=0.3),
    "mean, excluded": dict(sel=[20, 24], neuron=[4], davg=0.3, exclude_types=[(0, 0)]),
    "float32": dict(sel=[20, 24], neuron=[2, 4], precision="float32"),
}


def random_set(seed: int, davg: float = 0.0, **options: Any) -> Any:
    """DeePMD-kit's DescrptSeT; no number of it is one that training starts from."""
    from deepmd.dpmodel.descriptor.se_t import DescrptSeT

    rng = np.random.default_rng(seed)
    made = DescrptSeT(4.0, 0.5, seed=seed, **options)
    mean = davg * rng.normal(size=(made.ntypes, 1, 4))
    if not made.set_davg_zero:
        mean[:, :, 0] += 0.2
    dtype = made.davg.dtype
    made.davg = np.tile(mean, (1, made.nnei, 1)).astype(dtype)
    stddev = rng.uniform(0.2, 0.4, (made.ntypes, 1, 4))
    made.dstd = np.tile(stddev, (1, made.nnei, 1)).astype(dtype)
    return made


def converted(made: Any) -> SeE3:
    """The same as a dataclass."""
    excluded_tt = np.zeros((made.ntypes, made.ntypes), bool)
    for one, two in made.exclude_types:
        excluded_tt[one, two] = excluded_tt[two, one] = True
    activation = canonical_activation(made.activation_function)
    nets, net_tt = [], np.zeros((made.ntypes, made.ntypes), np.int64)
    for a in range(made.ntypes):
        for b in range(a, made.ntypes):
            net_tt[a, b] = net_tt[b, a] = len(nets)
            nets.append(
                Network(
                    tuple(
                        Layer(of.w, of.b, of.idt, activation, embedding_join(*of.w.shape))
                        for of in made.embeddings[(a, b)].layers
                    )
                )
            )
    return SeE3(
        environment=Environment(
            rules="DP",
            rcut=made.rcut,
            rcut_smth=made.rcut_smth,
            sel_t=np.array(made.sel),
            n_norm=made.nnei,
            davg_tk=made.davg[:, 0].astype(np.float64),
            dstd_tk=made.dstd[:, 0].astype(np.float64),
            excluded_tt=excluded_tt,
            protection=made.env_protection,
        ),
        nets=PairNets(net_tt, tuple(nets)),
    )


@pytest.mark.parametrize("name", DEEPMD)
def test_the_descriptor_is_that_of_deepmd_kit(name: str) -> None:
    """In a cell smaller than the cutoff; DeePMD-kit chooses the neighbours, and so do we."""
    from deepmd.dpmodel.utils import build_neighbor_list, extend_coord_with_ghosts

    made, rng = random_set(3, **DEEPMD[name]), np.random.default_rng(4)
    of, n = converted(made), 9
    types_a = rng.permutation(np.arange(n) % made.ntypes)
    cell = np.diag([5.0, 5.5, 8.0]) + np.tril(rng.uniform(-1.0, 1.0, (3, 3)), -1)
    grid = np.array([[x, y, z] for x in range(2) for y in range(2) for z in range(3)])[:n]
    positions = (grid / [2, 2, 3] + rng.uniform(-0.1, 0.1, (n, 3))) @ cell
    coords, types, _ = extend_coord_with_ghosts(
        positions.reshape(1, -1), types_a[None], cell.reshape(1, -1), made.rcut
    )
    slots_ns = build_neighbor_list(coords, types, n, made.rcut, made.sel, distinguish_types=True)
    expected_nd = made.call(coords.astype(made.davg.dtype), types, slots_ns)[0][0]

    positions_ac, types_all, n_all = coords.reshape(-1, 3), types[0], types.size
    others = [np.delete(np.arange(n_all), i) for i in range(n)]
    chosen = environment.select_neighbours(
        positions_ac, types_all, np.arange(n), (n_all - 1) * np.arange(n + 1),
        np.concatenate(others), of.environment,
    )  # fmt: skip
    assert (chosen.dropped > 0) == ("too small" in name)
    for t in range(made.ntypes):
        centre_n = np.flatnonzero(types_a == t)
        rows = environment.rows(
            of.environment, of.dtype, t, positions_ac, types_all, centre_n, chosen.around(centre_n)
        )
        of_element_nd = expected_nd[types_a == t]
        # sums of some 400 terms of the order of the largest
        unit = 200.0 * np.finfo(of.dtype).eps
        tolerance = unit * np.abs(of_element_nd).max(initial=0.0)
        found_nd = evaluate(of, t, rows).d_nd
        np.testing.assert_allclose(found_nd, of_element_nd, rtol=0, atol=tolerance)
    assert np.abs(expected_nd).max() > 1e-3


# Central differences of fourth order: h^4/30 f^(5) with f^(5) up to 1e4 (e is up to 20, and what is
# as steep as e^2), and rounding of energies of order 10 over h.
STEP, TOLERANCE = 1e-3, 1e-6


def slope(energies: list[float]) -> float:
    """Of energies at -2, -1, 1 and 2 steps."""
    return (energies[0] - 8 * energies[1] + 8 * energies[2] - energies[3]) / (12 * STEP)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
# where `sel` is too small the energy jumps when another neighbour becomes the nearest
@pytest.mark.parametrize("name", [n for n in MODELS if "slots" not in n and "small" not in n])
def test_forces_and_virial_are_derivatives(name: str, backend: str) -> None:
    """Of positions, and of the cell and all positions together."""
    model = random_se_e3(5, **MODELS[name])
    frame = frames(len(model.type_map))["triclinic"]
    potential = Potential(model, backend=backend, sel="ignore", threads=1)
    result = potential.evaluate(frame.positions, frame.types, frame.cell)
    scale = max(1.0, np.abs(result.forces).max())
    rng = np.random.default_rng(1)
    for atom, c in zip(rng.integers(0, len(frame.types), 4), [0, 1, 2, 0], strict=True):
        energies = []
        for steps in (-2, -1, 1, 2):
            moved = frame.positions.copy()
            moved[atom, c] += steps * STEP
            energies.append(potential.evaluate(moved, frame.types, frame.cell).energy)
        assert result.forces[atom, c] == pytest.approx(-slope(energies), abs=TOLERANCE * scale)
    for a, b in ((0, 0), (1, 2), (2, 0)):
        energies = []
        for steps in (-2, -1, 1, 2):
            strain = np.eye(3)
            strain[b, a] += steps * STEP / 10
            energies.append(
                potential.evaluate(
                    frame.positions @ strain, frame.types, frame.cell @ strain
                ).energy
            )
        virial_scale = max(1.0, np.abs(result.virial).max())
        expected = pytest.approx(-10 * slope(energies), abs=10 * TOLERANCE * virial_scale)
        assert result.virial[a, b] == expected


def with_sel(part: Any, *sel: int) -> Any:
    environment_ = dataclasses.replace(part.environment, sel_t=np.array(sel))
    return dataclasses.replace(part, environment=environment_)


def with_nets(part: Any, net_tt: list[list[int]]) -> Any:
    return dataclasses.replace(part, nets=dataclasses.replace(part.nets, net_tt=np.array(net_tt)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda _: random_se_e3(0, excluded=(0, 1)), "TF family has no excluded pairs, found .*Tr"),
        (lambda part: with_sel(part, 9), r"sel is \[9\], expected a number for each of 2 elem"),
        (lambda part: with_nets(part, [[0, 1], [2, 0]]), "nets of two neighbours have no order"),
    ],
)
def test_what_is_no_se_e3_is_refused(change: Any, message: str) -> None:
    part = random_se_e3(0).descriptor
    with pytest.raises(ModelFileError, match=message):
        change(part)
