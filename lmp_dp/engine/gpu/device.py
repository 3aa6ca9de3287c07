"""What the gpu backend asks of a device, and a CUDA device through CuPy."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

import numpy as np

from lmp_dp.engine.gpu import kernels, toolkit
from lmp_dp.engine.gpu.products import Products, library_of, workspace_bytes
from lmp_dp.errors import BackendError

Array = Any

#: CUDA_ERROR_OUT_OF_MEMORY: no room for a kernel's code or stack.
_OUT_OF_MEMORY = 2


class CaptureRefused(Exception):
    """What was to be recorded holds something that cannot be, as the cause says."""


class Device(Protocol):
    """What the gpu backend asks of a device, of one thread at a time; `use` comes first.

    Attributes
    ----------
    xp : module
        Array namespace of the device; nothing of it may be used in steps that are recorded but
        arithmetic and assignments in arrays that are there.
    name : str
    index : int
    """

    xp: Any
    name: str
    index: int

    @property
    def identity(self) -> str:
        """All that decides what it computes: the device, its driver, and libraries."""
        ...

    def use(self) -> None:
        """Have this device do what the calling thread asks for."""
        ...

    def compile(self, **defines: object) -> Any:
        """The kernels (`kernels.source`) with the macros `defines`."""
        ...

    def launch(self, module: Any, name: str, blocks: int, *args: Any) -> None:
        """Start a kernel on `blocks` blocks; scalars must be NumPy's, of the parameter's type."""
        ...

    def multiply(self, x_bi: Array, w_io: Array, out_bo: Array) -> None:
        """The product of two matrices of one precision; it can be recorded."""
        ...

    def upload(self, array: np.ndarray) -> Array:
        """A copy on the device, for what does not change on each step."""
        ...

    def download(self, array: Array) -> np.ndarray:
        """A copy on the host, once the device has got there."""
        ...

    def pinned(self, n_bytes: int) -> np.ndarray:
        """Memory of the host, bytes, that `send` and `fetch` can use."""
        ...

    def send(self, pinned: np.ndarray, array: Array) -> None:
        """Start a copy to the device; `pinned` must stay as it is until `synchronize`."""
        ...

    def fetch(self, array: Array, pinned: np.ndarray) -> None:
        """Start a copy to the host, which is there after `synchronize`."""
        ...

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """What starts all kernels of `work` again, in one launch.

        Both raise `CaptureRefused`, after which nothing was done and the device is as before.
        """
        ...

    def synchronize(self) -> None:
        """Wait until all that was started has ended."""
        ...

    def ran_out_of_memory(self, error: BaseException) -> bool:
        """Whether an exception says that the device's memory (not the host's) is used up."""
        ...

    def free_bytes(self) -> int:
        """Memory that may still be allocated."""
        ...

    def release(self) -> None:
        """Give memory that is kept for reuse back to the device."""
        ...


class CudaDevice:
    """A `Device` of CUDA; its context is made here and on no other device.

    Parameters
    ----------
    index : int
        The device's number among those that CUDA shows to this process.

    Attributes
    ----------
    xp : module
        ``cupy``.

    Raises
    ------
    BackendError
        CuPy is not usable (`usable_cupy`), or there is no such device.
    """

    def __init__(self, index: int) -> None:
        cupy = usable_cupy("gpu")
        self.index = index
        self.xp = cupy
        self._device = cupy.cuda.Device(index)
        self.use()
        self.name = device_name(index)
        self._products = self._started_products()

    @property
    def identity(self) -> str:
        """Name and UUID, and the versions of the driver, CUDA, NVRTC and CuPy."""
        runtime, nvrtc = self.xp.cuda.runtime, self.xp.cuda.nvrtc.getVersion()
        uuid = runtime.getDeviceProperties(self.index)["uuid"].hex()
        return (
            f"{self.name}, UUID {uuid}, driver for CUDA {runtime.driverGetVersion()}, "
            f"CUDA {runtime.runtimeGetVersion()}, NVRTC {nvrtc[0]}.{nvrtc[1]}, "
            f"CuPy {self.xp.__version__}"
        )

    def use(self) -> None:
        """Make the device the calling thread's current one."""
        self._device.use()

    def compile(self, **defines: object) -> Any:
        """The kernels with the macros `defines`; CuPy keeps the machine code on disk."""
        options = kernels.options(**defines)
        return _Functions(self.xp.RawModule(code=kernels.source(), options=options))

    def launch(self, module: Any, name: str, blocks: int, *args: Any) -> None:
        """Start a kernel on `blocks` blocks; scalars must be NumPy's, of the parameter's type."""
        if blocks:
            module[name]((blocks,), (kernels.THREADS,), args)

    def multiply(self, x_bi: Array, w_io: Array, out_bo: Array) -> None:
        """The product by cuBLAS."""
        self._products.multiply(self.xp.cuda.get_current_stream().ptr, x_bi, w_io, out_bo)

    def _started_products(self) -> Products:
        size = workspace_bytes(int(self._device.compute_capability))
        try:
            return Products(library_of(self.xp), self.xp.empty(size, np.uint8))
        except MemoryError as error:
            if not self.ran_out_of_memory(error):
                raise
            raise BackendError(f"no memory is left on {self.name} for cuBLAS: {error}") from error

    def upload(self, array: np.ndarray) -> Array:
        """A copy on the device."""
        return self.xp.array(array, order="C")

    def download(self, array: Array) -> np.ndarray:
        """A copy on the host; waits for the device."""
        return np.asarray(array.get(order="C"))

    def pinned(self, n_bytes: int) -> np.ndarray:
        """Page-locked memory of the host, bytes."""
        return np.frombuffer(self.xp.cuda.alloc_pinned_memory(n_bytes), np.uint8, n_bytes)

    def send(self, pinned: np.ndarray, array: Array) -> None:
        """Start a copy to the device; `pinned` must stay as it is until `synchronize`."""
        runtime = self.xp.cuda.runtime
        self._copy(array.data.ptr, pinned.ctypes.data, pinned, runtime.memcpyHostToDevice)

    def fetch(self, array: Array, pinned: np.ndarray) -> None:
        """Start a copy to the host, which is there after `synchronize`."""
        runtime = self.xp.cuda.runtime
        self._copy(pinned.ctypes.data, array.data.ptr, pinned, runtime.memcpyDeviceToHost)

    def _copy(self, target: int, source: int, pinned: np.ndarray, kind: int) -> None:
        if pinned.nbytes:
            cuda = self.xp.cuda
            stream = cuda.get_current_stream()
            cuda.runtime.memcpyAsync(target, source, pinned.nbytes, kind, stream.ptr)

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """What starts all kernels of `work` again, in one launch (a CUDA graph).

        `work` must have been done before, so that its buffers are there and its kernels loaded.

        Raises
        ------
        CaptureRefused
            `work` allocates or waits for the device, or CUDA cannot record or launch it. Nothing
            of it was done, and the device is as before.
        """
        # CuPy's errors, of CUDA and of its own, are RuntimeErrors
        try:
            graph = self._captured(work)
        except (RuntimeError, BackendError) as error:
            raise CaptureRefused(f"{type(error).__name__}: {error}") from error

        def replay() -> None:
            try:
                graph.launch()
            except RuntimeError as error:
                raise CaptureRefused(f"{type(error).__name__}: {error}") from error

        return replay

    def _captured(self, work: Callable[[], None]) -> Any:
        stream = self.xp.cuda.Stream(non_blocking=True)
        with stream, self.xp.cuda.using_allocator(_refuse_to_allocate):
            stream.begin_capture()
            try:
                work()
            except BaseException:
                # a stream that goes on capturing would make later work of the process fail
                with suppress(RuntimeError):  # CUDA's, that the capture had failed already
                    stream.end_capture()
                raise
            return stream.end_capture()

    def synchronize(self) -> None:
        """Wait until all that was started has ended.

        On its stream: CUDA refuses to wait for a device while another thread captures on it.
        """
        self.xp.cuda.get_current_stream().synchronize()

    def ran_out_of_memory(self, error: BaseException) -> bool:
        """Whether it is CuPy's own, the plain MemoryError of Thrust (sorts), or a kernel's.

        NumPy's, a class of its own, is the host's; so is CUDA's when it pins memory.
        """
        cuda = self.xp.cuda
        if isinstance(error, MemoryError):
            return isinstance(error, cuda.memory.OutOfMemoryError) or type(error) is MemoryError
        of_driver = isinstance(error, cuda.driver.CUDADriverError)
        return of_driver and getattr(error, "status", None) == _OUT_OF_MEMORY

    def free_bytes(self) -> int:
        """Memory that may still be allocated, with what CuPy keeps for reuse."""
        free, _ = self._device.mem_info
        pool = self.xp.get_default_memory_pool()
        return int(free + pool.free_bytes())

    def release(self) -> None:
        """Give memory that is kept for reuse back to the device."""
        self.xp.get_default_memory_pool().free_all_blocks()
        self.xp.get_default_pinned_memory_pool().free_all_blocks()


def _refuse_to_allocate(n_bytes: int) -> Any:
    """CuPy itself would give memory that others have by the time of a replay."""
    raise RuntimeError(f"{n_bytes} bytes are allocated while a stream is captured")


class _Functions(dict[str, Any]):
    """The functions of a module, each looked up once: CuPy makes a new object each time."""

    def __init__(self, module: Any) -> None:
        super().__init__()
        self._module = module

    def __missing__(self, name: str) -> Any:
        function = self[name] = self._module.get_function(name)
        return function


def usable_cupy(backend: str) -> Any:
    """CuPy, if it is installed, sees a device and finds what it needs (`toolkit`).

    Raises
    ------
    BackendError
        Otherwise, with what is missing and what to do.
    """
    cupy = _cupy_with_device(backend)
    toolkit.require(cupy, backend)
    return cupy


def _cupy_with_device(backend: str) -> Any:
    try:
        cupy = toolkit.import_cupy()
        problem = toolkit.no_device(cupy)
    except ImportError as error:
        raise BackendError(
            f"backend {backend} needs CuPy ({error}); "
            f"install it with: {toolkit.install(13)} (or [cuda12])"
        ) from error
    except Exception as error:
        # an old one beside a new NumPy, or what an uninstalled one has left: it is not for backend
        # auto to end there
        raise BackendError(
            f"backend {backend} needs CuPy, and what is installed of it fails "
            f"({type(error).__name__}: {error}); install it anew with: {toolkit.install(13)} "
            "(or [cuda12])"
        ) from error
    if problem:
        raise BackendError(f"backend {backend} needs a CUDA device: {problem}")
    return cupy


def device_count() -> int:
    """Devices that CUDA shows to this process."""
    return int(_cupy_with_device("gpu").cuda.runtime.getDeviceCount())


def device_name(index: int) -> str:
    """What the device is called; makes no context."""
    properties = _cupy_with_device("gpu").cuda.runtime.getDeviceProperties(index)
    return str(properties["name"].decode())
