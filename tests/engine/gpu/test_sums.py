"""Sums over atoms on the emulated device: exact to the rounding of their tree, the same bits."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cuda_emulation.emulated_device import EmulatedDevice
from lmp_dp.engine.gpu import kernels

ROUNDING = 2.0**-53
#: None, less than a warp, whole blocks and one more, more than all threads of `SUM_BLOCKS`.
SIZES = (0, 1, 31, 128, 129, kernels.SUM_BLOCKS * kernels.THREADS + 700)


def sums_of(energies_a, positions_ac, forces_ac, seed: int = 0) -> np.ndarray:
    device = EmulatedDevice(seed=seed)
    module = device.compile(REAL="double")
    n = len(energies_a)
    blocks = min(kernels.SUM_BLOCKS, kernels.blocks(n))
    partial = device.xp.full(kernels.SUM_BLOCKS * kernels.SUMMED, np.nan)
    sums = device.xp.full(kernels.SUMMED + 2, np.nan)
    arrays = map(device.upload, (energies_a, positions_ac, forces_ac))
    device.launch(module, "sums_of_blocks", blocks, np.int32(n), *arrays, partial)
    totals = device.upload(np.array([3, 2**40], np.uint64))
    device.launch(module, "total_sums", 1, np.int32(blocks), partial, totals, sums)
    return device.download(sums)


def atoms(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Energies with a large common part, positions far from the origin, forces that cancel."""
    rng = np.random.default_rng(n)
    forces = rng.normal(0, 10, (n, 3))
    return (
        rng.normal(-500, 1, n),
        rng.uniform(900, 1000, (n, 3)),
        forces - forces.sum(0) / max(n, 1),
    )


def exact(products: np.ndarray) -> float:
    high = products.astype(np.float64)
    return math.fsum([*high, *(products - high).astype(np.float64)])


@pytest.mark.parametrize("n", SIZES)
def test_sums_are_exact_to_their_rounding(n: int) -> None:
    energies_a, positions_ac, forces_ac = atoms(n)
    found = sums_of(energies_a, positions_ac, forces_ac)
    terms = [energies_a.astype(np.longdouble)]
    for force in range(3):
        for along in range(3):
            distance_a = positions_ac[:, along].astype(np.longdouble) - positions_ac[:1, along]
            terms.append(forces_ac[:, force] * distance_a)
    # a thread's additions, five in a warp, three between warps, in both kernels; and a difference
    # and a product
    of_thread = -(-n // (kernels.SUM_BLOCKS * kernels.THREADS))
    of_parts = -(-kernels.SUM_BLOCKS // kernels.THREADS)
    additions = of_thread + 8 + of_parts + 8
    for value, term_a in zip(found, terms, strict=False):
        bound = (additions + 2) * 1.01 * ROUNDING * float(np.abs(term_a).sum())
        assert abs(value - exact(term_a)) <= bound
    assert list(found[kernels.SUMMED :]) == [3, 2**40]


@pytest.mark.parametrize("seed", [1, 2])
def test_the_same_bits_in_any_order(seed: int) -> None:
    arguments = atoms(5000)
    np.testing.assert_array_equal(sums_of(*arguments), sums_of(*arguments, seed=seed))


def test_atoms_that_are_not_finite_are_counted() -> None:
    energies_a, positions_ac, forces_ac = atoms(1000)
    not_finite = sums_of(energies_a, positions_ac, forces_ac)[10]
    assert not_finite == 0
    positions_ac[[3, 999], [0, 2]] = np.nan, np.inf
    forces_ac[[3, 500, 127], [1, 1, 2]] = np.nan, -np.inf, np.inf
    found = sums_of(energies_a, positions_ac, forces_ac)
    assert found[10] == 4
    assert found[0] == sums_of(*atoms(1000))[0]
    # what overflows in a sum only is an atom's no more than the energy's
    forces_ac = np.full((1000, 3), 1e308)
    assert sums_of(energies_a, atoms(1000)[1], forces_ac)[10] == 0
