"""Products through the C interface of cuBLAS: a stand-in in host memory, and a device's."""

from __future__ import annotations

import ctypes
import gc

import numpy as np
import pytest

from cuda_emulation.compiled_kernels import cublas
from cuda_emulation.device_memory import DeviceArray
from cuda_emulation.emulated_device import CAPTURING, WORKSPACE, EmulatedDevice, aligned
from lmp_dp.engine.gpu import products
from lmp_dp.engine.gpu.device import Device
from lmp_dp.engine.gpu.products import Products
from lmp_dp.errors import BackendError

PRECISIONS = (np.float64, np.float32)
#: Rows, inner length, columns.
SHAPES = [(1, 1, 1), (1, 7, 5), (5, 1, 7), (7, 5, 1), (33, 17, 9), (4, 808, 240), (2, 0, 3)]


@pytest.fixture
def device(gpu_device) -> Device:
    return gpu_device()


@pytest.fixture
def emulated() -> EmulatedDevice:
    return EmulatedDevice()


def matrices(device: Device, shape: tuple[int, int, int], dtype) -> tuple[DeviceArray, ...]:
    rng = np.random.default_rng(1)
    n_b, n_i, n_o = shape
    x_bi, w_io = rng.normal(size=(n_b, n_i)), rng.normal(size=(n_i, n_o))
    return tuple(device.upload(m.astype(dtype)) for m in (x_bi, w_io, np.full((n_b, n_o), np.nan)))


def exact_and_bound(x_bi: np.ndarray, w_io: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The product in extended precision, and what n roundings may change."""
    x, w = x_bi.astype(np.longdouble), w_io.astype(np.longdouble)
    return x @ w, x.shape[1] * np.finfo(x_bi.dtype).eps * (np.abs(x) @ np.abs(w))


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("shape", SHAPES)
def test_products(device, shape, dtype) -> None:
    x_bi, w_io, out_bo = matrices(device, shape, dtype)
    device.multiply(x_bi, w_io, out_bo)
    exact, bound = exact_and_bound(device.download(x_bi), device.download(w_io))
    assert (np.abs(device.download(out_bo) - exact) <= bound).all()


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_columns_of_wider_matrices(device, dtype) -> None:
    x_bi, w_io, out_bo = matrices(device, (6, 10, 8), dtype)
    own = (x_bi[1:4, 2:9], w_io[3:, 1:6], out_bo[2:5, 3:])
    device.multiply(*own)
    exact, bound = exact_and_bound(device.download(own[0]), device.download(own[1]))
    out = device.download(out_bo)
    assert (np.abs(out[2:5, 3:] - exact) <= bound).all()
    out[2:5, 3:] = np.nan
    assert np.isnan(out).all()


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_no_rows(device, dtype) -> None:
    x_bi, w_io, out_bo = matrices(device, (0, 3, 2), dtype)
    device.multiply(x_bi, w_io, out_bo)
    assert device.download(out_bo).shape == (0, 2)


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_the_same_bits_recorded_and_not(device, dtype) -> None:
    x_bi, w_io, out_bo = matrices(device, (33, 808, 17), dtype)
    device.multiply(x_bi, w_io, out_bo)
    direct = device.download(out_bo)
    out_bo[...] = 0
    replay = device.record(lambda: device.multiply(x_bi, w_io, out_bo))
    assert not device.download(out_bo).any()
    replay()
    np.testing.assert_array_equal(device.download(out_bo), direct)
    x_bi[...] = 2 * x_bi
    replay()
    np.testing.assert_array_equal(device.download(out_bo), 2 * direct)


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (lambda x, w, out: (x[:, :4], w, out), ValueError, r"no product: \(6, 4\) x \(10, 8\)"),
        (lambda x, w, out: (x, w, out[:5]), ValueError, r"no product: .* to \(5, 8\)"),
        (lambda x, w, out: (x, w[:, ::2], out[:, :4]), ValueError, "rows .* not in one piece"),
        (lambda x, w, out: (x[:, :8].T, w[:6], out), ValueError, r"no product|not in one piece"),
        (lambda x, w, out: (x[::-1], w, out), ValueError, "not in one piece"),
        (lambda x, w, out: (x.astype(np.float32), w, out), TypeError, "float32 x float64"),
        (lambda x, w, out: (x.view(int), w.view(int), out.view(int)), TypeError, "int64"),
    ],
)
def test_what_is_no_product(device, change, error, said) -> None:
    with pytest.raises(error, match=said):
        device.multiply(*change(*matrices(device, (6, 10, 8), np.float64)))


def test_numbers_that_cublas_cannot_hold(emulated) -> None:
    """Its integers have 32 bits; ctypes would cut them off."""
    few = emulated.upload(np.zeros(1))
    far = np.lib.stride_tricks.as_strided(np.zeros(2), (2, 1), (8 * 2**31, 8)).view(DeviceArray)
    with pytest.raises(ValueError, match="too large for cuBLAS"):
        emulated.multiply(far, few.reshape(1, 1), emulated.upload(np.zeros((2, 1))))


def test_a_capture_needs_a_workspace(emulated) -> None:
    """As on a device: `cublasSetStream` takes it away, so that it is set for each product."""
    library = cublas()
    without = Products(library, aligned(emulated.xp.empty(512, np.uint8))[:0])
    arguments = matrices(emulated, (2, 3, 4), np.float64)
    without.multiply(0, *arguments)
    library.standin_begin_capture(CAPTURING)
    try:
        with pytest.raises(BackendError, match="cublasDgemm_v2: CUBLAS_STATUS_NOT_SUPPORTED"):
            without.multiply(CAPTURING, *arguments)
        emulated._products.multiply(CAPTURING, *arguments)
    finally:
        library.standin_end_capture(CAPTURING)


def test_a_workspace_at_an_odd_place(emulated) -> None:
    odd = aligned(emulated.xp.empty(WORKSPACE, np.uint8))[8:]
    with pytest.raises(BackendError, match="cublasSetWorkspace_v2: CUBLAS_STATUS_INVALID_VALUE"):
        Products(cublas(), odd).multiply(0, *matrices(emulated, (2, 3, 4), np.float64))


def test_memory_that_cublas_does_not_find(emulated, monkeypatch) -> None:
    monkeypatch.setattr(emulated._products, "_library", Failing(cublas(), 3))
    with pytest.raises(MemoryError, match="CUBLAS_STATUS_ALLOC_FAILED"):
        emulated.multiply(*matrices(emulated, (2, 3, 4), np.float64))


class Failing:
    """A cuBLAS whose products end with a status."""

    def __init__(self, library: ctypes.CDLL, status: int) -> None:
        self._library, self._status = library, status

    def __getattr__(self, name: str):
        return (lambda *_: self._status) if "gemm" in name else getattr(self._library, name)


def test_handles_are_given_back(emulated) -> None:
    gc.collect()
    before = cublas().standin_contexts()
    made = Products(cublas(), emulated.xp.empty(0, np.uint8))
    assert cublas().standin_contexts() == before + 1
    del made
    assert cublas().standin_contexts() == before


@pytest.mark.parametrize(("capability", "mebibytes"), [(75, 4), (80, 4), (90, 32), (100, 32)])
def test_workspace_as_nvidia_recommends(capability: int, mebibytes: int) -> None:
    assert products.workspace_bytes(capability) == mebibytes * 2**20
