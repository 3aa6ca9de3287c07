"""A CUDA device without a GPU: the kernels' own sources, compiled by g++ and run on one core.

The twin of `lmp_dp.engine.gpu.device.CudaDevice`. It is slower than a GPU and stricter:

* Each array argument of a launch is a copy that ends where unmapped memory begins, and starts
  behind up to a page of NaNs: an access beyond the array stops the kernel, with its line in the
  source.
* Undefined behaviour (overflow of signed integers, indices outside shared arrays, casts of values
  that do not fit, records at addresses that are no multiples of their alignment) stops it as well,
  and so do barriers and shuffles that some lanes do not reach.
* Arguments must have exactly the types of the kernel's C signature; CuPy would pass garbage.
* Its arrays and their namespace refuse what CuPy's do (`device_memory`).
* Products go through the engine's own calls of cuBLAS, to a stand-in (`cublas.cpp`).
* Copies from and to pinned memory last until the device is waited for: till then the host finds
  NaNs where results are to come, and may not change what is still to be read.
* While it records, nothing runs, and what CuPy, CUDA or `CudaDevice.record` refuses is refused:
  allocation, CuPy's own products, copies between host and device, waiting. A replay repeats what
  was recorded, not the Python code, and stops where memory has been given back since.
"""

from __future__ import annotations

import ctypes
import os
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from cuda_emulation.compiled_kernels import GUARD, Module, Parameter, compiled, cublas
from cuda_emulation.device_memory import (
    DeviceArray,
    DeviceMemoryError,
    EmulatedCuPy,
    KernelError,
    Memory,
    NotInACapture,
    on_device,
)
from lmp_dp.engine.gpu.device import CaptureRefused
from lmp_dp.engine.gpu.products import Products
from lmp_dp.errors import BackendError

BLOCK = 128
PAGE = 4096
#: The stream that captures, as its address.
CAPTURING = 0x5EC0
WORKSPACE = 1 << 20
POISON = np.uint32(0x7FFBADAD)

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_READ_WRITE, _PRIVATE_ANONYMOUS = 3, 0x22


class Guarded:
    """A copy of an address range whose end is followed, and begin preceded, by no memory."""

    def __init__(self, first: int, end: int) -> None:
        self.size = end - first
        inside = -(-max(self.size, 1) // PAGE) * PAGE
        self._mapping_size = inside + 2 * GUARD
        self._mapping = _libc.mmap(None, self._mapping_size, 0, _PRIVATE_ANONYMOUS, -1, 0)
        if self._mapping in (None, ctypes.c_void_p(-1).value):
            raise MemoryError(f"mmap of {self._mapping_size} bytes failed")
        if _libc.mprotect(self._mapping + GUARD, inside, _READ_WRITE):
            raise MemoryError(f"mprotect of {inside} bytes failed")
        self.address = self._mapping + GUARD + inside - self.size
        slack = inside - self.size
        self._slack = np.ctypeslib.as_array(
            (ctypes.c_uint8 * slack).from_address(self.address - slack)
        )
        self._poison = np.full(slack // 4 + 1, POISON).view(np.uint8)[:slack]
        self._slack[:] = self._poison
        ctypes.memmove(self.address, first, self.size)

    def is_intact(self) -> bool:
        """Whether nothing was written in front of the copy."""
        return bool(np.array_equal(self._slack, self._poison))

    def free(self) -> None:
        del self._slack
        _libc.munmap(self._mapping, self._mapping_size)


class EmulatedDevice:
    """Compiles and launches CUDA kernels on the host.

    Parameters
    ----------
    source
        CUDA C++ to compile instead of the engine's kernels; these take NumPy's arrays too.
    seed
        0: blocks and threads run in ascending order. Otherwise they run in a random order, so that
        races between blocks, or a forgotten barrier, change the results. Default: the environment
        variable CUDA_EMULATION_SEED, or 0.
    ceiling
        Bytes of memory.

    Attributes
    ----------
    memory
        Its arrays, counted.
    launches
        How often each kernel was launched.
    recordings
        How often `record` was called, refusals included.
    copies, copied
        How often, and how many bytes, `upload`, `download`, `send` and `fetch` copied.
    waits
        How often `synchronize` was called.
    """

    name = identity = "emulated CUDA device"
    index = 0

    def __init__(
        self,
        source: str | None = None,
        *,
        seed: int | None = None,
        ceiling: int = 1 << 32,
    ) -> None:
        self._of_engine = source is None
        if source is None:
            from lmp_dp.engine.gpu import kernels as cuda

            source = cuda.source()
        if seed is None:
            seed = int(os.environ.get("CUDA_EMULATION_SEED", "0"))
        self.memory = Memory(ceiling)
        self.xp: Any = EmulatedCuPy(self.memory)
        self.launches: Counter[str] = Counter()
        self.recordings = self.waits = 0
        self.copies: Counter[str] = Counter()
        self.copied: Counter[str] = Counter()
        self._pinned: list[np.ndarray] = []
        self._reads: list[tuple[np.ndarray, np.ndarray]] = []
        self._writes: list[tuple[np.ndarray, np.ndarray]] = []
        self._cublas = cublas()
        self._products = Products(self._cublas, aligned(self.xp.empty(WORKSPACE + 256, np.uint8)))
        self._source = source
        self._random = np.random.default_rng(seed) if seed else None

    def use(self) -> None:
        """What the calling thread asks for is this device's; others refuse it."""
        self.memory.use()

    def compile(self, **defines: Any) -> Module:
        """The kernels, compiled with -DNAME=VALUE for each define."""
        options = tuple(f"-D{name}={value}" for name, value in sorted(defines.items()))
        return compiled(self._source, options)

    def launch(self, module: Module, name: str, blocks: int, *args: Any) -> None:
        """Runs a grid of `blocks` blocks of 128 threads; none if blocks is 0.

        Raises
        ------
        TypeError
            If an argument has not the type that the kernel's signature asks for.
        KernelError
            If the kernel deadlocks, leaves its arrays or behaves in an undefined way.
        """
        if name not in module.kernels:
            raise ValueError(f"no kernel '{name}', there are {', '.join(module.kernels)}")
        parameters = module.kernels[name]
        if len(args) != len(parameters):
            raise TypeError(f"{name}: {len(parameters)} arguments expected, {len(args)} given")
        for parameter, value in zip(parameters, args, strict=True):
            try:
                parameter.check(value)
                if self._of_engine and parameter.pointer and not isinstance(value, DeviceArray):
                    # of one number it passes the value, for an address
                    raise TypeError("CuPy does not take arrays of the host")
            except TypeError as error:
                raise TypeError(f"{name}: argument '{parameter.name}': {error}") from None
        if not 0 <= blocks < 1 << 31:
            raise ValueError(f"{name}: a grid of {blocks} blocks")
        if blocks:
            self.memory.do(self._launch, module, name, int(blocks), parameters, *args)

    def _launch(
        self, module: Module, name: str, blocks: int, parameters: tuple[Parameter, ...], *args: Any
    ) -> None:
        self.launches[name] += 1
        arrays = [(p, a) for p, a in zip(parameters, args, strict=True) if p.pointer]
        copies: list[tuple[int, int, Guarded]] = []
        try:
            for first, end in _ranges(name, arrays):
                copies.append((first, end, Guarded(first, end)))

            def moved(array: np.ndarray) -> int:
                at = array.ctypes.data
                for first, end, copy in copies:
                    if first <= at and at + array.nbytes <= end:
                        return copy.address + at - first
                raise AssertionError("an array without a copy")

            values = [
                ctypes.c_void_p(moved(a)) if p.pointer else np.ctypeslib.as_ctypes(np.array(a))
                for p, a in zip(parameters, args, strict=True)
            ]
            pointers = (ctypes.c_void_p * len(values))(*[ctypes.addressof(v) for v in values])
            seed = 0 if self._random is None else int(self._random.integers(1, 1 << 63))
            kernel = getattr(module.library, f"emulate_{name}")
            message = kernel(pointers, ctypes.c_uint(blocks), ctypes.c_ulonglong(seed))
            if message:
                places = [(p.name, moved(a), moved(a) + a.nbytes) for p, a in arrays]
                raise module.failure(message.decode(), places)
            if not all(copy.is_intact() for _, _, copy in copies):
                raise KernelError(f"{name}: writes in front of an array")
            for parameter, array in arrays:
                if not parameter.const:
                    ctypes.memmove(array.ctypes.data, moved(array), array.nbytes)
        finally:
            for _, _, copy in copies:
                copy.free()

    def multiply(self, x_bi: np.ndarray, w_io: np.ndarray, out_bo: np.ndarray) -> None:
        """The product of two matrices, by the engine's calls of cuBLAS."""
        recording = self.memory.recorded is not None
        stream = CAPTURING if recording else 0
        self._products.multiply(stream, x_bi, w_io, out_bo)
        product = self._cublas.standin_take(stream) if recording else None
        if product:
            # the arrays are named so that they are looked after
            self.memory.do(lambda *_arrays: self._cublas.standin_run(product), x_bi, w_io, out_bo)

    def upload(self, array: Any) -> np.ndarray:
        """A copy on the device."""
        self._count("upload", array)
        return on_device(np.array(array, order="C", copy=True), self.memory)

    def download(self, array: np.ndarray) -> np.ndarray:
        """A copy on the host, when everything before it is done."""
        self._count("download", array)
        self._end_copies()
        return np.ascontiguousarray(array.get())

    def pinned(self, n_bytes: int) -> np.ndarray:
        """Memory of the host that `send` and `fetch` take."""
        self.memory.check_current()
        self.memory.refuse("allocating memory")
        self._pinned.append(np.resize(POISON.reshape(1).view(np.uint8), n_bytes))
        return self._pinned[-1]

    def send(self, pinned: np.ndarray, array: np.ndarray) -> None:
        """A copy to the device, in the order of kernels."""
        self._check_copy("send", array, pinned)
        array.set(pinned)
        self._reads.append((pinned, pinned.copy()))

    def fetch(self, array: np.ndarray, pinned: np.ndarray) -> None:
        """A copy to the host, in the order of kernels, that is not there before `synchronize`."""
        self._check_copy("fetch", array, pinned)
        self._writes.append((pinned, array.get()))
        pinned.view(np.uint8).reshape(-1)[...] = np.resize(
            POISON.reshape(1).view(np.uint8), pinned.nbytes
        )

    def _check_copy(self, way: str, array: np.ndarray, pinned: np.ndarray) -> None:
        self._count(way, array)
        known = any(np.may_share_memory(pinned, memory) for memory in self._pinned)
        if pinned.size and not known:
            raise ValueError(f"{way}: the host's memory is not pinned, CUDA would wait")
        if not (array.flags.c_contiguous and pinned.flags.c_contiguous):
            raise ValueError(f"{way}: an array is not C-contiguous")
        if (array.shape, array.dtype) != (pinned.shape, pinned.dtype):
            raise ValueError(f"{way}: {array.shape} {array.dtype}, {pinned.shape} {pinned.dtype}")

    def _count(self, way: str, array: np.ndarray) -> None:
        self.memory.check_current()
        self.memory.refuse(f"a copy between host and device ({way})")
        self.copies[way] += 1
        self.copied[way] += array.nbytes

    def synchronize(self) -> None:
        """Ends copies; a launch returns when its kernel has ended."""
        self.memory.check_current()
        self.memory.refuse("waiting for the device")
        self.waits += 1
        self._end_copies()

    def _end_copies(self) -> None:
        reads, self._reads = self._reads, []
        writes, self._writes = self._writes, []
        for pinned, value in writes:
            pinned[...] = value
        for pinned, value in reads:
            if pinned.tobytes() != value.tobytes():
                raise KernelError("memory was changed while a copy of it was under way")

    def ran_out_of_memory(self, error: BaseException) -> bool:
        """Whether it is the device's memory, be it a sort's; not NumPy's own error."""
        return isinstance(error, DeviceMemoryError) or type(error) is MemoryError

    def free_bytes(self) -> int:
        """Memory that is left."""
        return self.memory.ceiling - self.memory.used

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """What `work` did, to be done again; nothing of it is done now."""
        self.recordings += 1
        recorded = self.memory.recorded = []
        self._cublas.standin_begin_capture(CAPTURING)
        try:
            work()
        except (NotInACapture, BackendError) as error:
            raise CaptureRefused(str(error)) from error
        finally:
            self.memory.recorded = None
            self._cublas.standin_end_capture(CAPTURING)

        def replay() -> None:
            for again in recorded:
                again()

        return replay

    def release(self) -> None:
        """Gives nothing back: NumPy keeps no memory for reuse."""


def aligned(memory: np.ndarray) -> np.ndarray:
    """The part of some bytes that begins where cuBLAS wants its workspace to."""
    return memory[-memory.data.ptr % 256 :]


def _ranges(name: str, arrays: list[tuple[Parameter, np.ndarray]]) -> list[tuple[int, int]]:
    """The address ranges of the arrays; those that overlap make one."""
    ranges: list[tuple[int, int]] = []
    owners: list[Parameter] = []
    for parameter, array in sorted(arrays, key=lambda item: item[1].ctypes.data):
        first = array.ctypes.data
        end = first + array.nbytes
        if not (ranges and array.nbytes and first < ranges[-1][1]):
            ranges.append((first, end))
            owners = [parameter]
            continue
        owners.append(parameter)
        if any(p.restrict for p in owners) and not all(p.const for p in owners):
            names = ", ".join(p.name for p in owners)
            raise ValueError(f"{name}: {names} overlap, and a pointer of them is __restrict__")
        ranges[-1] = (ranges[-1][0], max(end, ranges[-1][1]))
    return ranges
