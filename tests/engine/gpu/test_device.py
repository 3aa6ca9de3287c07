"""`CudaDevice.record` on a stand-in for CuPy: a capture is ended whatever happens in it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from lmp_dp.engine.gpu import device as cuda_device
from lmp_dp.engine.gpu.device import CaptureRefused, CudaDevice


class CUDARuntimeError(RuntimeError):
    pass


class CUDADriverError(RuntimeError):
    pass


class Stream:
    """A stream that knows whether it captures, is current, and was invalidated."""

    made: list[Stream]

    def __init__(self, non_blocking: bool) -> None:
        assert non_blocking  # CUDA does not capture streams that wait for the default one
        self.capturing = self.current = self.invalid = False
        Stream.made.append(self)

    def __enter__(self) -> Stream:
        self.current = True
        return self

    def __exit__(self, *_args: object) -> None:
        self.current = False

    def begin_capture(self) -> None:
        self.capturing = True

    def end_capture(self) -> SimpleNamespace:
        assert self.capturing
        self.capturing = False
        if self.invalid:
            raise CUDARuntimeError("cudaErrorStreamCaptureInvalidated")
        return SimpleNamespace(launch=lambda: "launched")


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> CudaDevice:
    Stream.made = []
    cuda = SimpleNamespace(
        Stream=Stream,
        Device=lambda _index: SimpleNamespace(use=lambda: None, synchronize=lambda: None),
        memory=SimpleNamespace(OutOfMemoryError=MemoryError),
        runtime=SimpleNamespace(CUDARuntimeError=CUDARuntimeError),
        driver=SimpleNamespace(CUDADriverError=CUDADriverError),
    )
    monkeypatch.setattr(cuda_device, "usable_cupy", lambda _: SimpleNamespace(cuda=cuda))
    monkeypatch.setattr(cuda_device, "device_name", lambda _: "stand-in")
    return CudaDevice(0)


def work_that_raises(error: BaseException, invalidates: bool) -> Any:
    def work() -> None:
        (stream,) = Stream.made
        assert stream.capturing
        assert stream.current
        stream.invalid = invalidates
        raise error

    return work


def is_left_alone() -> bool:
    (stream,) = Stream.made
    return not stream.capturing and not stream.current


def test_a_recording_is_launched(device) -> None:
    assert device.record(lambda: None)() == "launched"
    assert is_left_alone()


@pytest.mark.parametrize(
    ("error", "invalidates"),
    [
        (NotImplementedError("calling cuBLAS API during stream capture"), False),
        (CUDARuntimeError("cudaErrorStreamCaptureUnsupported"), True),
        (CUDADriverError("CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"), True),
    ],
)
def test_what_is_refused_ends_the_capture(device, error, invalidates) -> None:
    with pytest.raises(CaptureRefused, match=str(error)) as refused:
        device.record(work_that_raises(error, invalidates))
    assert refused.value.__cause__ is error
    assert is_left_alone()


@pytest.mark.parametrize("error", [MemoryError("full"), KeyboardInterrupt(), ValueError("ours")])
@pytest.mark.parametrize("invalidates", [False, True])
def test_other_errors_go_up(device, error, invalidates) -> None:
    with pytest.raises(type(error)) as raised:
        device.record(work_that_raises(error, invalidates))
    assert raised.value is error
    assert is_left_alone()


def test_a_capture_that_fails_at_its_end(device) -> None:
    def work() -> None:
        Stream.made[0].invalid = True

    with pytest.raises(CaptureRefused, match="Invalidated"):
        device.record(work)
    assert is_left_alone()
