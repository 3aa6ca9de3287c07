"""Arrays of the emulated device, and what it has in place of the module `cupy`.

They compute as NumPy does, and refuse what CuPy refuses: arrays of the host in arithmetic and in
assignments, always; and while work is recorded whatever a capture on a device cannot hold. What it
can hold (arithmetic and assignments in arrays that are there) is kept and done at each replay, in
the memory that was meant then; to replay when that was given back is an error.
"""

from __future__ import annotations

import ctypes
import threading
import weakref
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np


class KernelError(RuntimeError):
    """A kernel did what no kernel may do."""


class NotInACapture(RuntimeError):
    """What CuPy or CUDA refuses while a stream is captured."""


class DeviceMemoryError(MemoryError):
    """As `cupy.cuda.memory.OutOfMemoryError`."""


#: Functions that make arrays of the device from those of the host.
FROM_HOST = ("array", "asarray", "ascontiguousarray")
#: What CuPy leaves to cuBLAS, by its own handle.
PRODUCTS = ("matmul", "vecdot", "matvec", "vecmat", "dot", "vdot", "inner", "tensordot", "einsum")


#: What CuPy leaves to Thrust.
SORTS = ("argsort", "sort", "lexsort")
#: Of each thread: the memory of the device that it uses.
_current = threading.local()


class Memory:
    """What the arrays of one device share; all are counted, temporary ones too.

    Attributes
    ----------
    ceiling : int
        How many bytes there may be.
    used, peak : int
        How many there are, and were at most.
    recorded : list of callable or None
        What a replay does; None unless work is being recorded.
    """

    def __init__(self, ceiling: int = 1 << 32) -> None:
        self.ceiling = ceiling
        self.used = self.peak = 0
        self.recorded: list[Callable[[], Any]] | None = None
        self._owners: set[int] = set()
        self.use()

    def use(self) -> None:
        """Make the device the calling thread's current one."""
        _current.memory = self

    def check_current(self) -> None:
        """A thread that has not chosen a device works on the first one, of CUDA's own choice."""
        if getattr(_current, "memory", None) is not self:
            raise KernelError("the device is not the calling thread's current one")

    def refuse(self, what: str) -> None:
        """While work is recorded, `what` is not done."""
        if self.recorded is not None:
            raise NotInACapture(f"{what} while a stream is captured")

    def hold(self, array: np.ndarray) -> None:
        """Count an array until it is gone; views are part of what they are views of."""
        owner = owner_of(array)
        if id(owner) in self._owners:
            return
        self.check_current()
        self.refuse(f"{owner.nbytes} bytes are allocated")
        self.need(owner.nbytes, DeviceMemoryError)
        self._owners.add(id(owner))
        self.used += owner.nbytes
        weakref.finalize(owner, self._free, id(owner), owner.nbytes).atexit = False

    def need(self, n_bytes: int, error: type[MemoryError]) -> None:
        """Raises `error` unless there is so much left."""
        if self.used + n_bytes > self.ceiling:
            raise error(f"{n_bytes} bytes asked for, {self.ceiling - self.used} are free")
        self.peak = max(self.peak, self.used + n_bytes)

    def _free(self, owner: int, n_bytes: int) -> None:
        self._owners.remove(owner)
        self.used -= n_bytes

    def do(self, work: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """`work` on these arrays and scalars, now, or in the replays."""
        self.check_current()
        if self.recorded is None:
            work(*args, **kwargs)
            return
        later = [kept(value) for value in args]
        later_by_name = {name: kept(value) for name, value in kwargs.items()}
        self.recorded.append(
            lambda: work(
                *[value() for value in later],
                **{name: value() for name, value in later_by_name.items()},
            )
        )


class DeviceArray(np.ndarray):
    """Memory of an emulated device, or a view of it."""

    _memory: Memory | None

    def __array_finalize__(self, of: Any) -> None:
        self._memory = getattr(of, "_memory", None)
        if self._memory is not None:
            self._memory.hold(self)

    @property
    def data(self) -> Any:
        """Where it lies, as CuPy has it: `data.ptr`."""
        return SimpleNamespace(ptr=self.ctypes.data)

    def __array_ufunc__(
        self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = None, **options: Any
    ) -> Any:
        memory = _memory_of((*inputs, *(out or ())))
        _refuse_host_arrays((*inputs, *(out or ())))
        if ufunc.__name__ in PRODUCTS:
            memory.refuse(f"a product by cuBLAS is made ({ufunc.__name__})")
        if out is None or out[0] is None or method != "__call__":
            memory.refuse(f"{ufunc.__name__} allocates")
            options |= {} if out is None else {"out": plain(out)}
            return on_device(getattr(ufunc, method)(*map(plain, inputs), **options), memory)
        memory.do(ufunc, *map(plain, inputs), out=plain(out[0]), **options)
        return out[0]

    def __array_function__(self, function: Any, _types: Any, args: Any, kwargs: Any) -> Any:
        memory = _memory_of((*args, *kwargs.values()))
        by_cublas = function.__name__ in PRODUCTS
        what = "makes a product by cuBLAS" if by_cublas else "allocates or waits"
        memory.refuse(f"{function.__name__} {what}")
        _refuse_host_arrays((*args, *kwargs.values()))
        named = {name: plain(value) for name, value in kwargs.items()}
        return on_device(function(*map(plain, args), **named), memory)

    def __getitem__(self, key: Any) -> Any:
        result = super().__getitem__(key)
        if isinstance(result, np.ndarray):
            return result
        # an element is an array without axes
        return super().__getitem__((*(key if isinstance(key, tuple) else (key,)), ...))

    def __setitem__(self, key: Any, value: Any) -> None:
        assert self._memory is not None
        if not isinstance(value, DeviceArray) and np.ndim(value):
            raise ValueError("non-scalar numpy.ndarray cannot be used for fill")
        parts = plain(key if isinstance(key, tuple) else (key,))
        if any(isinstance(part, list | np.ndarray) for part in parts):
            self._memory.refuse("an assignment by index arrays")
            plain(self)[parts] = plain(value)
            return
        view = plain(self)[parts if ... in parts else (*parts, ...)]
        self._memory.do(np.copyto, view, plain(value), casting="unsafe")

    def fill(self, value: Any) -> None:
        self[...] = value

    def dot(self, other: Any, out: Any = None) -> Any:
        return np.dot(self, other) if out is None else np.dot(self, other, out)

    def get(self, out: np.ndarray | None = None) -> np.ndarray:
        """A copy on the host."""
        self._waits("get")
        if out is None:
            return plain(self).copy()
        out[...] = plain(self)
        return out

    def set(self, values: np.ndarray) -> None:
        """Copies what is on the host."""
        self._waits("set")
        plain(self)[...] = values

    def _waits(self, what: str) -> None:
        if self._memory is not None:
            self._memory.refuse(f"a copy between host and device ({what})")


def _waiting(name: str) -> Callable[..., Any]:
    of_numpy = getattr(np.ndarray, name)

    def method(self: DeviceArray, *args: Any, **kwargs: Any) -> Any:
        self._waits(name)
        return of_numpy(plain(self), *args, **kwargs)

    return method


for _name in (
    "__int__", "__float__", "__complex__", "__bool__", "__index__", "__contains__", "item",
    "tolist", "tobytes", "tofile", "sort", "partition", "put",
):  # fmt: skip
    setattr(DeviceArray, _name, _waiting(_name))


class EmulatedCuPy:
    """NumPy's functions on arrays of the device."""

    ndarray = DeviceArray

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    def __getattr__(self, name: str) -> Any:
        of_numpy = getattr(np, name)
        if isinstance(of_numpy, type) or not callable(of_numpy):
            return of_numpy

        def function(*args: Any, **kwargs: Any) -> Any:
            if name not in FROM_HOST:
                _refuse_host_arrays((*args, *kwargs.values()))
            if isinstance(of_numpy, np.ufunc):
                return of_numpy(*args, **kwargs)
            what = "makes a product by cuBLAS" if name in PRODUCTS else "allocates"
            self._memory.refuse(f"{name} {what}")
            if name in SORTS:
                # a radix sort has copies: twice keys and indices; Thrust's error is Python's own
                self._memory.need(2 * (args[0].nbytes + 8 * args[0].size), MemoryError)
            named = {key: plain(value) for key, value in kwargs.items()}
            result = of_numpy(*map(plain, args), **named)
            if name in FROM_HOST and result is args[0]:
                result = result.copy()
            return on_device(result, self._memory)

        return function


def on_device(result: Any, memory: Memory) -> Any:
    """What NumPy made, as an array of the device."""
    if isinstance(result, tuple | list):
        return type(result)(on_device(part, memory) for part in result)
    if isinstance(result, np.generic):
        result = np.asarray(result)
    if not isinstance(result, np.ndarray):
        return result
    # asked of NumPy first: pages of an array that no one has touched cost nothing
    memory.hold(result)
    array = result.view(DeviceArray)
    array._memory = memory
    return array


def plain(value: Any) -> Any:
    """Arrays of the device, also in sequences, as NumPy's own."""
    if isinstance(value, DeviceArray):
        return value.view(np.ndarray)
    if isinstance(value, tuple | list):
        return type(value)(plain(part) for part in value)
    return value


def owner_of(array: np.ndarray) -> np.ndarray:
    """The array that has the memory of a view."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def kept(value: Any) -> Callable[[], Any]:
    """A value that a recording uses again; of an array it knows the place alone."""
    if not isinstance(value, np.ndarray):
        return lambda: value
    memory, shape, dtype = weakref.ref(owner_of(value)), value.shape, value.dtype
    strides = value.strides
    address, (first, end) = value.ctypes.data, _range(value)

    def again() -> np.ndarray:
        if memory() is None:
            raise KernelError("what is replayed uses memory that was given back")
        buffer = (ctypes.c_uint8 * (end - first)).from_address(first)
        return np.ndarray(shape, dtype, buffer, address - first, strides)

    return again


def _range(array: np.ndarray) -> tuple[int, int]:
    """Addresses of the first byte and behind the last one."""
    first = end = array.ctypes.data
    if not array.size:
        return first, end
    for n, step in zip(array.shape, array.strides, strict=True):
        first, end = first + min(0, (n - 1) * step), end + max(0, (n - 1) * step)
    return first, end + array.dtype.itemsize


def _memory_of(values: Any) -> Memory:
    for value in values:
        if isinstance(value, DeviceArray) and value._memory is not None:
            return value._memory
        if isinstance(value, tuple | list):
            try:
                return _memory_of(value)
            except LookupError:
                continue
    raise LookupError("no array of the device")


def _refuse_host_arrays(values: Any) -> None:
    for value in values:
        if isinstance(value, tuple | list):
            _refuse_host_arrays(value)
        elif isinstance(value, np.ndarray) and not isinstance(value, DeviceArray) and value.ndim:
            raise TypeError("Unsupported type numpy.ndarray: an array of the device is expected")
