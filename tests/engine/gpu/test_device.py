"""`CudaDevice` on stand-ins for CuPy and cuBLAS: captures, products, functions, copies."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cuda_emulation.compiled_kernels import cublas
from cuda_emulation.device_memory import DeviceArray
from cuda_emulation.emulated_device import EmulatedDevice, aligned
from lmp_dp.engine.gpu import device as cuda_device
from lmp_dp.engine.gpu.device import CaptureRefused, CudaDevice
from lmp_dp.errors import BackendError


class CUDARuntimeError(RuntimeError):
    pass


class CUDADriverError(RuntimeError):
    pass


class Stream:
    """A stream that knows whether it captures and was invalidated; the last one is current."""

    made: list[Stream]
    current: list[Stream]
    #: By what is being done, the error that it ends with.
    fails: dict[str, Exception]

    def __init__(self, non_blocking: bool) -> None:
        assert non_blocking  # CUDA does not capture streams that wait for the default one
        self.capturing = self.invalid = False
        self.ptr = 0x100 * (1 + len(Stream.made))
        Stream.made.append(self)

    def __enter__(self) -> Stream:
        Stream.current.append(self)
        return self

    def __exit__(self, *_args: object) -> None:
        assert Stream.current.pop() is self

    def begin_capture(self) -> None:
        self._fail("begin_capture")
        self.capturing = True
        cublas().standin_begin_capture(self.ptr)

    def end_capture(self) -> SimpleNamespace:
        assert self.capturing
        self.capturing = False
        cublas().standin_end_capture(self.ptr)
        self._fail("end_capture")
        if self.invalid:
            raise CUDARuntimeError("cudaErrorStreamCaptureInvalidated")
        return SimpleNamespace(launch=lambda: self._fail("launch") or launched.append(self))

    def _fail(self, what: str) -> None:
        if what in Stream.fails:
            raise Stream.fails[what]


launched: list[Stream] = []


class Memory:
    """CuPy's allocation, in host memory."""

    def __init__(self) -> None:
        self.allocators = [
            lambda n_bytes: aligned(EmulatedDevice("").xp.empty(n_bytes + 256, "u1"))
        ]

    def empty(self, size: int, dtype: Any) -> DeviceArray:
        return self.allocators[-1](size * np.dtype(dtype).itemsize).view(dtype)[:size]

    @contextmanager
    def using_allocator(self, allocator: Any) -> Iterator[None]:
        self.allocators.append(allocator)
        try:
            yield
        finally:
            self.allocators.pop()


class Runtime:
    """What copies when it is waited for."""

    CUDARuntimeError = CUDARuntimeError
    memcpyHostToDevice, memcpyDeviceToHost = 1, 2

    def __init__(self) -> None:
        self.started: list[tuple[int, int, int, int, int]] = []

    def memcpyAsync(self, *arguments: int) -> None:
        self.started.append(arguments)

    def wait(self) -> list[int]:
        """The kinds of the copies."""
        started, self.started = self.started, []
        for target, source, size, _, stream in started:
            assert stream == Stream.current[-1].ptr
            ctypes.memmove(target, source, size)
        return [kind for _, _, _, kind, _ in started]


class Module:
    """A module that counts which functions are asked for, and their launches."""

    def __init__(self, code: str, options: tuple[str, ...]) -> None:
        assert " features(" in code
        assert "-DREAL=double" in options
        self.asked: list[str] = []
        self.launched: list[tuple[str, tuple[int], tuple[int], tuple[Any, ...]]] = []

    def get_function(self, name: str) -> Any:
        self.asked.append(name)
        return lambda grid, block, args: self.launched.append((name, grid, block, args))


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch, memory: Memory) -> CudaDevice:
    Stream.made, Stream.fails = [], {}
    Stream.current = [SimpleNamespace(ptr=0)]
    launched.clear()
    cuda = SimpleNamespace(
        Stream=Stream,
        Device=lambda _index: SimpleNamespace(
            use=lambda: None, synchronize=lambda: None, compute_capability="90"
        ),
        get_current_stream=lambda: Stream.current[-1],
        using_allocator=memory.using_allocator,
        cublas=SimpleNamespace(__file__=cublas()._name),
        memory=SimpleNamespace(OutOfMemoryError=MemoryError),
        runtime=Runtime(),
        alloc_pinned_memory=bytearray,
    )
    cupy = SimpleNamespace(cuda=cuda, empty=memory.empty, RawModule=Module)
    monkeypatch.setattr(cuda_device, "usable_cupy", lambda _: cupy)
    monkeypatch.setattr(cuda_device, "device_name", lambda _: "stand-in")
    return CudaDevice(0)


def work_that_raises(error: BaseException, invalidates: bool) -> Any:
    def work() -> None:
        (stream,) = Stream.made
        assert stream.capturing
        assert Stream.current[-1] is stream
        stream.invalid = invalidates
        raise error

    return work


@pytest.fixture
def as_before(device: CudaDevice, memory: Memory) -> Iterator[None]:
    """Whatever happened, nothing captures, memory can be had, and products are made at once."""
    yield
    assert not any(stream.capturing for stream in Stream.made)
    assert len(Stream.current) == len(memory.allocators) == 1
    x_bi, w_io = (
        np.arange(n, dtype=float).reshape(shape) for n, shape in ((6, (2, 3)), (12, (3, 4)))
    )
    arrays = [
        memory.empty(n, float).reshape(shape)
        for n, shape in ((6, (2, 3)), (12, (3, 4)), (8, (2, 4)))
    ]
    for array, values in zip(arrays, (x_bi, w_io), strict=False):
        array.view(np.ndarray)[...] = values
    device.multiply(*arrays)
    np.testing.assert_array_equal(arrays[2].view(np.ndarray), x_bi @ w_io)


def test_a_recording_is_launched(device, as_before) -> None:
    replay = device.record(lambda: None)
    assert launched == []
    replay()
    assert launched == Stream.made


def test_products_are_recorded_in_a_workspace(device, memory, as_before) -> None:
    """On the stream that captures: the stand-in refuses it without a workspace."""
    x_bi, w_io, out_bo = (memory.empty(4, float).reshape(2, 2) for _ in range(3))
    for array in (x_bi, w_io, out_bo):
        array.view(np.ndarray)[...] = np.eye(2)
    x_bi.view(np.ndarray)[...] = 3
    kept = []

    def work() -> None:
        device.multiply(x_bi, w_io, out_bo)
        kept.append(cublas().standin_take(Stream.made[0].ptr))

    device.record(work)
    np.testing.assert_array_equal(out_bo.view(np.ndarray), np.eye(2))
    assert kept[0]
    cublas().standin_run(kept[0])
    np.testing.assert_array_equal(out_bo.view(np.ndarray), np.full((2, 2), 3))


@pytest.mark.parametrize(
    ("error", "invalidates"),
    [
        (NotImplementedError("calling cuBLAS API during stream capture"), False),
        (RuntimeError("the current stream is capturing, so H2D transfers are disallowed"), False),
        (BackendError("cublasDgemm_v2: CUBLAS_STATUS_NOT_SUPPORTED"), False),
        (CUDARuntimeError("cudaErrorStreamCaptureUnsupported"), True),
        (CUDADriverError("CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"), True),
    ],
)
def test_what_is_refused_ends_the_capture(device, error, invalidates, as_before) -> None:
    with pytest.raises(CaptureRefused, match=str(error)) as refused:
        device.record(work_that_raises(error, invalidates))
    assert refused.value.__cause__ is error


def test_allocation_is_refused(device, memory, as_before) -> None:
    with pytest.raises(CaptureRefused, match="80 bytes are allocated while a stream is captured"):
        device.record(lambda: memory.empty(10, float))


@pytest.mark.parametrize("error", [MemoryError("full"), KeyboardInterrupt(), ValueError("ours")])
@pytest.mark.parametrize("invalidates", [False, True])
def test_other_errors_go_up(device, error, invalidates, as_before) -> None:
    with pytest.raises(type(error)) as raised:
        device.record(work_that_raises(error, invalidates))
    assert raised.value is error


def test_a_capture_that_fails_at_its_end(device, as_before) -> None:
    def work() -> None:
        Stream.made[0].invalid = True

    with pytest.raises(CaptureRefused, match="Invalidated"):
        device.record(work)


@pytest.mark.parametrize("where", ["begin_capture", "end_capture", "launch"])
def test_cuda_refuses(device, where, as_before) -> None:
    """To begin, to make a graph of what was captured (the end), or to launch it."""
    Stream.fails[where] = CUDARuntimeError("cudaErrorMemoryAllocation: out of memory")
    with pytest.raises(CaptureRefused, match="CUDARuntimeError: cudaErrorMemoryAllocation"):
        device.record(lambda: None)()
    assert launched == []


def test_no_memory_for_cublas(device, memory, monkeypatch) -> None:
    def full(_n_bytes: int) -> None:
        raise MemoryError("33554432 bytes")

    memory.allocators = [full]
    with pytest.raises(BackendError, match="no memory is left on stand-in for cuBLAS: 33554432"):
        CudaDevice(0)


def test_functions_are_looked_up_once(device, monkeypatch) -> None:
    made: list[Module] = []
    monkeypatch.setattr(device.xp, "RawModule", lambda **of: made.append(Module(**of)) or made[-1])
    modules = [device.compile(REAL="double") for _ in range(2)]
    for module in (*modules, *modules):
        for name in ("features", "cells", "features"):
            device.launch(module, name, 2, "an argument")
        device.launch(module, "without blocks", 0)
    for module in made:
        assert module.asked == ["features", "cells"]
        order = ["features", "cells", "features"] * 2
        assert module.launched == [(name, (2,), (128,), ("an argument",)) for name in order]


def on_device(array: np.ndarray) -> SimpleNamespace:
    """An array of CuPy, as far as `CudaDevice` looks."""
    return SimpleNamespace(data=SimpleNamespace(ptr=array.ctypes.data))


def test_copies_from_and_to_pinned_memory(device) -> None:
    up, down = device.pinned(24), device.pinned(24)
    assert up.shape == (24,)
    assert up.dtype == np.uint8
    up.view(np.float64)[:] = [1, 2, 3]
    there = np.zeros(3)
    device.send(up, on_device(there))
    device.fetch(on_device(there), down.view(np.float64)[:2])
    runtime = device.xp.cuda.runtime
    assert runtime.wait() == [runtime.memcpyHostToDevice, runtime.memcpyDeviceToHost]
    np.testing.assert_array_equal(there, [1, 2, 3])
    np.testing.assert_array_equal(down.view(np.float64), [1, 2, 0])


def test_nothing_is_copied_of_no_atoms(device) -> None:
    """Empty arrays need not have an address."""
    nothing = np.empty(0)
    device.send(nothing, on_device(nothing))
    device.fetch(on_device(nothing), nothing)
    assert device.xp.cuda.runtime.started == []
