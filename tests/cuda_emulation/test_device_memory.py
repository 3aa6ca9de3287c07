"""Arrays of the emulated device refuse what CuPy's do, and what a stream capture does."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cuda_emulation.device_memory import DeviceArray, KernelError
from cuda_emulation.emulated_device import EmulatedDevice
from lmp_dp.engine.gpu.device import CaptureRefused, CudaDevice

HOST = np.arange(9.0).reshape(3, 3)
Work = Callable[[EmulatedDevice, DeviceArray], Any]
PRODUCTS: dict[str, Work] = {
    "matmul": lambda d, a: d.xp.matmul(a, a),
    "matmul in place": lambda d, a: d.xp.matmul(a, a, out=a),
    "@": lambda d, a: a @ a,
    "@=": lambda d, a: operator.imatmul(a, a),
    "dot": lambda d, a: d.xp.dot(a, a),
    "dot of an array": lambda d, a: a.dot(a),
    "dot in place": lambda d, a: a.dot(a, out=a),
    "inner": lambda d, a: d.xp.inner(a, a),
    "vdot": lambda d, a: d.xp.vdot(a, a),
    "tensordot": lambda d, a: d.xp.tensordot(a, a),
    "einsum": lambda d, a: d.xp.einsum("ij,jk", a, a),
}
ALLOCATIONS: dict[str, Work] = {
    "empty": lambda d, a: d.xp.empty(3),
    "zeros": lambda d, a: d.xp.zeros(3),
    "arange": lambda d, a: d.xp.arange(3),
    "concatenate": lambda d, a: d.xp.concatenate([a, a]),
    "tile": lambda d, a: d.xp.tile(a, 2),
    "empty like": lambda d, a: np.empty_like(a),
    "sum of two": lambda d, a: a + a,
    "product with a number": lambda d, a: 2 * a,
    "function": lambda d, a: d.xp.tanh(a),
    "comparison": lambda d, a: a > 0,
    "sum": lambda d, a: a.sum(),
    "sum along an axis": lambda d, a: a.sum(axis=0),
    "largest": lambda d, a: a.max(),
    "running sum": lambda d, a: d.xp.cumsum(a),
    "sorting": lambda d, a: d.xp.argsort(a),
    "sorting by the array": lambda d, a: a.argsort(),
    "another type": lambda d, a: a.astype(np.float32),
    "copy": lambda d, a: a.copy(),
    "index array": lambda d, a: a[d.index_array],
    "mask": lambda d, a: a[d.mask],
    "taking": lambda d, a: a.take(d.index_array),
    "repeating": lambda d, a: a.repeat(2),
    "running sum of the array": lambda d, a: a.cumsum(),
    "bytes of columns": lambda d, a: a.reshape(-1, order="F"),
    "flattened columns": lambda d, a: a.T.ravel(),
    "assignment by index array": lambda d, a: a.__setitem__(d.index_array, 0),
    "assignment by mask": lambda d, a: a.__setitem__(d.mask, 0),
    "upload": lambda d, a: d.upload(np.zeros(3)),
    "pinned memory": lambda d, a: d.pinned(8),
}
WAITS: dict[str, Work] = {
    "synchronize": lambda d, a: d.synchronize(),
    "download": lambda d, a: d.download(a),
    "get": lambda d, a: a.get(),
    "set": lambda d, a: a.set(np.zeros(a.shape)),
    "int": lambda d, a: int(a[0, 0]),
    "float": lambda d, a: float(a[0, 0]),
    "bool": lambda d, a: bool(a[0, 0]),
    "item": lambda d, a: a[0, 0].item(),
    "tolist": lambda d, a: a.tolist(),
    "sorting in place": lambda d, a: a.sort(),
    "any": lambda d, a: a.any(),
    "membership": lambda d, a: 3.0 in a,
}


#: What CUDA lets pass, or CuPy does otherwise, on a device.
NOT_ON_A_DEVICE = {
    "assignment by index array", "assignment by mask", "pinned memory", "sorting",
    "sorting by the array", "sorting in place", "membership",
}  # fmt: skip


def with_indices(device: Any) -> Any:
    device.index_array = device.upload(np.array([0, 1]))
    device.mask = device.upload(np.array([True, False, True]))
    return device


@pytest.fixture
def device() -> Any:
    return with_indices(EmulatedDevice(""))


def numbers(device: Any) -> DeviceArray:
    return device.upload(HOST)


@pytest.mark.parametrize("what", PRODUCTS | ALLOCATIONS | WAITS)
def test_what_a_capture_refuses(device, what: str) -> None:
    check_refused(device, what)


@pytest.mark.gpu
def test_what_a_capture_refuses_on_a_device() -> None:
    device = with_indices(CudaDevice(0))
    for what in (PRODUCTS | ALLOCATIONS | WAITS).keys() - NOT_ON_A_DEVICE:
        check_refused(device, what)


def check_refused(device: Any, what: str) -> None:
    work = (PRODUCTS | ALLOCATIONS | WAITS)[what]
    work(device, numbers(device))  # what is refused is no mistake otherwise
    array = numbers(device)
    with pytest.raises(CaptureRefused):
        device.record(lambda: work(device, array))
    np.testing.assert_array_equal(array.get(), HOST, err_msg=what)  # nothing was done
    device.record(lambda: array.fill(1))()  # and the device records again
    assert (array.get() == 1).all(), what


@pytest.mark.parametrize("what", PRODUCTS)
def test_products_are_called_so(device, what: str) -> None:
    array = numbers(device)
    with pytest.raises(CaptureRefused, match="cuBLAS"):
        device.record(lambda: PRODUCTS[what](device, array))


MIXED: dict[str, tuple[Work, type[Exception]]] = {
    "assignment": (lambda d, a: a.__setitem__(..., HOST), ValueError),
    "assignment of a list": (lambda d, a: a.__setitem__(0, [1, 2, 3]), ValueError),
    "addition": (lambda d, a: a + HOST, TypeError),
    "addition from the left": (lambda d, a: HOST + a, TypeError),
    "addition in place": (lambda d, a: a.__iadd__(HOST), TypeError),
    "into the host's": (lambda d, a: d.xp.add(a, a, out=HOST.copy()), TypeError),
    "concatenation": (lambda d, a: d.xp.concatenate([a, HOST]), TypeError),
    "the host's alone": (lambda d, a: d.xp.tanh(HOST), TypeError),
    "copyto": (lambda d, a: np.copyto(a, HOST), TypeError),
}


@pytest.mark.parametrize("recording", [False, True])
@pytest.mark.parametrize("what", MIXED)
def test_arrays_of_the_host_are_refused(device, what: str, recording: bool) -> None:
    """As by CuPy, always; a capture may find something else to refuse before."""
    work, error = MIXED[what]
    array = numbers(device)
    errors = (error, CaptureRefused) if recording else error
    with pytest.raises(errors):
        (device.record if recording else lambda work: work())(lambda: work(device, array))
    np.testing.assert_array_equal(array.get(), HOST)


def test_what_is_recorded_is_done_by_replays_alone(device) -> None:
    one, two = numbers(device), numbers(device)
    small = device.upload(np.ones((3, 3), np.float32))

    def work() -> None:
        one[...] = 0
        one[1:, 0] = 5
        one[0] = two[2]
        two[...] = one
        two.__iadd__(one)
        device.xp.multiply(two[:, :1], two[:1], out=one)
        small[...] = one
        one.T[0, 0] = 7
        two[::-1, 1] = one[:, 2]

    work()
    expected = [array.get() for array in (one, two, small)]
    for array in (one, two):
        array.set(HOST)
    small.fill(1)
    replay = device.record(work)
    np.testing.assert_array_equal(one.get(), HOST)
    np.testing.assert_array_equal(two.get(), HOST)
    for _ in range(2):
        one.set(HOST)
        two.set(HOST)
        replay()
        for array, values in zip((one, two, small), expected, strict=True):
            np.testing.assert_array_equal(array.get(), values)


def test_a_replay_in_memory_that_was_given_back(device) -> None:
    arrays = [numbers(device)]
    replay = device.record(lambda: arrays[0][1:].fill(0))
    replay()
    arrays.clear()
    with pytest.raises(KernelError, match="memory that was given back"):
        replay()


def test_a_replay_does_not_run_the_code_again(device) -> None:
    """A graph knows the arrays that were there, not those that have their names now."""
    array, calls = numbers(device), []
    names = {"array": array}

    def work() -> None:
        calls.append(1)
        names["array"][...] = 0

    replay = device.record(work)
    names["array"] = other = numbers(device)
    replay()
    assert calls == [1]
    assert not array.get().any()
    np.testing.assert_array_equal(other.get(), HOST)


def test_kernels_take_no_arrays_of_the_host() -> None:
    """CuPy would pass the number of an array of one by value, where its address is meant."""
    device = EmulatedDevice()
    module = device.compile(REAL="double")
    arguments = [
        np.int32(1),
        device.xp.zeros(64),
        device.xp.zeros(2, np.uint64),
        device.xp.zeros(64),
    ]
    device.launch(module, "total_sums", 1, *arguments)
    arguments[2] = np.zeros(2, np.uint64)
    with pytest.raises(TypeError, match="argument 'totals': CuPy does not take arrays of the host"):
        device.launch(module, "total_sums", 1, *arguments)


def test_elements_are_arrays(device) -> None:
    array = numbers(device)
    element = array[1, 2]
    assert isinstance(element, DeviceArray)
    assert element.shape == ()
    assert float(element) == 5
    assert isinstance(array.sum(), DeviceArray)
    element[...] = 50
    assert array.get()[1, 2] == 50
