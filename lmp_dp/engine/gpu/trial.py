"""A kernel, products, a sort and a sum on a device, beside NumPy's: does it compute at all?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lmp_dp.engine.gpu import kernels
from lmp_dp.engine.gpu.device import Device
from lmp_dp.engine.neighbourhood import Array


def failures(device: Device) -> list[str]:
    """Names of what differs from NumPy's; all of it is exact, so nothing may."""
    return [
        name
        for name, found, expected in _tries(device)
        if not np.array_equal(device.download(found), expected)
    ]


def _tries(device: Device) -> Iterator[tuple[str, Array, np.ndarray]]:
    """Name, result on the device, and the one expected."""
    rng = np.random.default_rng(0)
    yield "the kernel cells", *_cells(device, rng)
    for dtype in (np.dtype(np.float32), np.dtype(np.float64)):
        x_bi = rng.integers(-9, 10, (300, 70)).astype(dtype)
        w_io = rng.integers(-9, 10, (70, 50)).astype(dtype)
        product_bo = device.xp.zeros((300, 50), dtype)
        device.multiply(device.upload(x_bi), device.upload(w_io), product_bo)
        yield f"the product in {dtype}", product_bo, np.matmul(x_bi, w_io)  # integers: no rounding
    keys_a = rng.integers(0, 99, 1000).astype(np.int32)
    order_a = device.xp.argsort(device.upload(keys_a), kind="stable")
    yield "CuPy's sort", order_a, np.argsort(keys_a, kind="stable")
    yield "CuPy's sum", device.upload(keys_a).sum()[None], keys_a.sum()[None]


def _cells(device: Device, rng: np.random.Generator) -> tuple[Array, np.ndarray]:
    """The cell of each of some atoms, as neighbour lists ask for it."""
    n_all, n_c = 1000, np.array([3, 4, 5], np.int32)
    positions_ac = rng.random((n_all, 3)) * 10.0
    types_a = rng.integers(-1, 2, n_all).astype(np.int32)
    low_c, per_width_c = np.array([0.0, 1.0, -1.0]), n_c / 10.0
    cell_a = device.xp.zeros(n_all, np.int32)
    device.launch(
        device.compile(REAL=kernels.real(np.dtype(np.float64))), "cells", kernels.blocks(n_all),
        device.upload(positions_ac), device.upload(types_a), np.int32(n_all),
        device.upload(np.concatenate([low_c, per_width_c])), device.upload(n_c), cell_a,
    )  # fmt: skip
    at_ac = np.clip(np.floor((positions_ac - low_c) * per_width_c), 0, n_c - 1).astype(np.int32)
    expected_a = (at_ac[:, 2] * n_c[1] + at_ac[:, 1]) * n_c[0] + at_ac[:, 0]
    return cell_a, np.where(types_a < 0, n_c.prod(), expected_a)
