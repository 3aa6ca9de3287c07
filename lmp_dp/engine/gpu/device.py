"""One CUDA device through CuPy: memory, kernels, copies. All of CuPy that the gpu backend knows."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np

from lmp_dp.engine.gpu import kernels
from lmp_dp.errors import BackendError

Array = Any


class CaptureRefused(Exception):
    """What was to be recorded holds something that cannot be, as the cause says."""


class CudaDevice:
    """A device; its context is made here and on no other device.

    Parameters
    ----------
    index : int
        The device's number among those that CUDA shows to this process.

    Attributes
    ----------
    xp : module
        Array namespace of the device (``cupy``).
    out_of_memory : type
        The exception that says that memory is used up.

    Raises
    ------
    BackendError
        CuPy is not installed, or there is no such device.
    """

    def __init__(self, index: int) -> None:
        cupy = usable_cupy("gpu")
        self.index = index
        self.xp = cupy
        self.out_of_memory: type[Exception] = cupy.cuda.memory.OutOfMemoryError
        self._device = cupy.cuda.Device(index)
        self._device.use()
        self.name = device_name(index)
        self._pinned: dict[str, np.ndarray] = {}

    def compile(self, **defines: object) -> Any:
        """The kernels with the macros `defines`; CuPy keeps the machine code on disk."""
        options = ("--std=c++17", *(f"-D{name}={value}" for name, value in defines.items()))
        self._device.use()
        return self.xp.RawModule(code=kernels.source(), options=options)

    def launch(self, module: Any, name: str, blocks: int, *args: Any) -> None:
        """Start a kernel on `blocks` blocks; scalars must be NumPy's, of the parameter's type."""
        if blocks:
            module.get_function(name)((blocks,), (kernels.THREADS,), args)

    def upload(self, array: np.ndarray) -> Array:
        """A copy on the device, by way of pinned memory."""
        self._device.use()
        on_device = self.xp.empty(array.shape, array.dtype)
        if array.size:
            pinned = self._pinned_like("up", array.shape, array.dtype)
            pinned[...] = array
            on_device.set(pinned)
            # the buffer is used again
            self.xp.cuda.get_current_stream().synchronize()
        return on_device

    def download(self, array: Array) -> np.ndarray:
        """A copy on the host, by way of pinned memory; waits for the device."""
        if not array.size:
            return np.empty(array.shape, array.dtype)
        pinned = self._pinned_like("down", array.shape, array.dtype)
        array.get(out=pinned)
        return pinned.copy()

    def _pinned_like(self, use: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        n_bytes = int(np.prod(shape)) * dtype.itemsize
        buffer = self._pinned.get(use)
        if buffer is None or buffer.nbytes < n_bytes:
            size = n_bytes + n_bytes // 8
            memory = self.xp.cuda.alloc_pinned_memory(size)
            buffer = self._pinned[use] = np.frombuffer(memory, np.uint8, size)
        return buffer[:n_bytes].view(dtype).reshape(shape)

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """What starts all kernels of `work` again, in one launch (a CUDA graph).

        `work` must have been done before, so that its buffers and cuBLAS's are there, and it must
        neither allocate nor wait for the device.

        Raises
        ------
        CaptureRefused
            CuPy or CUDA cannot record `work`, of which nothing was done. The device is as before.
        """
        self._device.use()
        stream = self.xp.cuda.Stream(non_blocking=True)
        self._device.synchronize()
        cuda = self.xp.cuda
        # CuPy's for libraries that it does not let record, CUDA's, and those of launches
        refusals = (NotImplementedError, cuda.runtime.CUDARuntimeError, cuda.driver.CUDADriverError)
        with stream:
            stream.begin_capture()
            try:
                work()
            except BaseException as error:
                # a stream that goes on capturing would make later work of the process fail
                with suppress(*refusals):  # CUDA's, that the capture had failed already
                    stream.end_capture()
                if isinstance(error, refusals):
                    raise CaptureRefused(str(error)) from error
                raise
            try:
                graph = stream.end_capture()
            except refusals as error:
                raise CaptureRefused(str(error)) from error
        return lambda: graph.launch()

    def synchronize(self) -> None:
        """Wait until all that was started has ended."""
        self._device.synchronize()

    def free_bytes(self) -> int:
        """Memory that may still be allocated, with what CuPy keeps for reuse."""
        free, _ = self._device.mem_info
        pool = self.xp.get_default_memory_pool()
        return int(free + pool.free_bytes())

    def release(self) -> None:
        """Give memory that is kept for reuse back to the device."""
        self.xp.get_default_memory_pool().free_all_blocks()


def usable_cupy(backend: str) -> Any:
    """CuPy, if it is installed and sees a device; otherwise an error that says what to do."""
    try:
        import cupy
    except ImportError as error:
        raise BackendError(
            f"backend {backend} needs CuPy ({error}); "
            "install it with: pip install 'lmp-dp[cuda13]' (or [cuda12])"
        ) from error
    try:
        if cupy.cuda.runtime.getDeviceCount() > 0:
            return cupy
        reason = "no device found"
    except cupy.cuda.runtime.CUDARuntimeError as error:
        reason = str(error)
    raise BackendError(f"backend {backend} needs a CUDA device: {reason}")


def device_count() -> int:
    """Devices that CUDA shows to this process."""
    return int(usable_cupy("gpu").cuda.runtime.getDeviceCount())


def device_name(index: int) -> str:
    """What the device is called; makes no context."""
    properties = usable_cupy("gpu").cuda.runtime.getDeviceProperties(index)
    return str(properties["name"].decode())
