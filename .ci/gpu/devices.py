"""Devices to measure on: one of CUDA, or the emulated one of the tests; and their clocks."""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from lmp_dp.engine.gpu import device as cuda_device

ROOT = Path(__file__).resolve().parents[2]


class Clock(Protocol):
    """Marks moments on a device."""

    def mark(self) -> Any:
        """The moment when all that was started before has ended."""
        ...

    def seconds(self, begin: Any, end: Any) -> float:
        """From one mark to another; waits for the latter."""
        ...


class EventClock:
    """CUDA events on the current stream."""

    def __init__(self, cupy: Any) -> None:
        self._cuda = cupy.cuda

    def mark(self) -> Any:
        """An event, recorded."""
        event = self._cuda.Event()
        event.record()
        return event

    def seconds(self, begin: Any, end: Any) -> float:
        """The time that CUDA says."""
        end.synchronize()
        return float(self._cuda.get_elapsed_time(begin, end)) * 1e-3


class HostClock:
    """The host's time, for a device whose launches return when their kernel has ended."""

    def mark(self) -> float:
        """Now."""
        return time.perf_counter()

    def seconds(self, begin: float, end: float) -> float:
        """The difference."""
        return end - begin


@dataclass(frozen=True)
class Span:
    """What a device did between two marks; with operations of products, and bytes of copies."""

    name: str
    begin: Any
    end: Any
    flop: float = 0.0
    n_bytes: float = 0.0


class Timed:
    """A `Device` that writes down launches, products and copies while `spans` is a list."""

    def __init__(self, device: Any, clock: Clock) -> None:
        self._device, self._clock = device, clock
        self.spans: list[Span] | None = None
        self.launched: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._device, name)

    def launch(self, module: Any, name: str, blocks: int, *args: Any) -> None:
        """Start a kernel."""
        if blocks:
            self.launched.add(name)
            self._timed(lambda: self._device.launch(module, name, blocks, *args), name)

    def multiply(self, x_bi: Any, w_io: Any, out_bo: Any) -> None:
        """The product of two matrices."""
        (n, n_in), n_out = x_bi.shape, w_io.shape[1]
        name = f"product {n_in} x {n_out}"
        flop = 2.0 * n * n_in * n_out
        self._timed(lambda: self._device.multiply(x_bi, w_io, out_bo), name, flop=flop)

    def send(self, pinned: Any, array: Any) -> None:
        """A copy to the device."""
        self._timed(lambda: self._device.send(pinned, array), "send", n_bytes=array.nbytes)

    def fetch(self, array: Any, pinned: Any) -> None:
        """A copy to the host."""
        self._timed(lambda: self._device.fetch(array, pinned), "fetch", n_bytes=array.nbytes)

    def _timed(
        self, work: Callable[[], None], name: str, flop: float = 0.0, n_bytes: float = 0.0
    ) -> None:
        if self.spans is None:
            work()
            return
        begin = self._clock.mark()
        work()
        self.spans.append(Span(name, begin, self._clock.mark(), flop, n_bytes))


def opened(name: str) -> tuple[Timed, Clock]:
    """The device called "cuda" or "emulated", and its clock."""
    if name == "cuda":
        device: cuda_device.Device = cuda_device.CudaDevice(0)
        clock: Clock = EventClock(device.xp)
    else:
        device, clock = emulated(), HostClock()
    return Timed(device, clock), clock


def let_gpu_open(make: Callable[[], Any]) -> None:
    """Have backend gpu open what `make` gives in place of a CUDA device, the only one there is."""
    vars(cuda_device).update(
        CudaDevice=lambda _index: make(),
        device_count=lambda: 1,
        device_name=lambda _index: "stand-in",
    )


def emulated() -> Any:
    """The emulated device; needs a C++ compiler."""
    sys.path.insert(0, str(ROOT / "tests"))
    return importlib.import_module("cuda_emulation.emulated_device").EmulatedDevice()


def median_seconds(clock: Clock, work: Callable[[], object], repeats: int = 10) -> float:
    """Of doing `work`, after it was done once."""
    work()
    marks = [clock.mark()]
    for _ in range(repeats):
        work()
        marks.append(clock.mark())
    times = [clock.seconds(a, b) for a, b in pairwise(marks)]
    return float(np.median(times))
