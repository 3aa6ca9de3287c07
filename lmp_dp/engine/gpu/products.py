"""Matrix products by cuBLAS, through a handle of our own.

CuPy's own products are refused while a stream is captured, in all its releases. Here all products
go one way, captured or not, in the same workspace: the same algorithms, and so the same bits.
"""

from __future__ import annotations

import ctypes
import weakref
from typing import Any

import numpy as np

from lmp_dp.engine.neighbourhood import Array
from lmp_dp.errors import BackendError

_MIB = 2**20
_LARGEST_INT = 2**31 - 1
_NO_TRANSPOSE = 0
_ALLOC_FAILED = 3
#: Products by the type of their numbers; the scalars alpha and beta are on the host.
_GEMM = {
    np.dtype(np.float64): ("cublasDgemm_v2", ctypes.c_double),
    np.dtype(np.float32): ("cublasSgemm_v2", ctypes.c_float),
}
_HANDLE, _POINTER = ctypes.c_void_p, ctypes.c_void_p
_MATRIX = (_POINTER, ctypes.c_int)
_ARGUMENTS = {
    "cublasCreate_v2": (_POINTER,),
    "cublasDestroy_v2": (_HANDLE,),
    "cublasSetStream_v2": (_HANDLE, _POINTER),
    "cublasSetWorkspace_v2": (_HANDLE, _POINTER, ctypes.c_size_t),
} | {
    name: (
        _HANDLE, *[ctypes.c_int] * 5, _POINTER, *_MATRIX, *_MATRIX, _POINTER, *_MATRIX,
    )
    for name, _ in _GEMM.values()
}  # fmt: skip


def workspace_bytes(compute_capability: int) -> int:
    """What NVIDIA recommends for `cublasSetWorkspace`; `compute_capability` is 90 for 9.0."""
    return 32 * _MIB if compute_capability >= 90 else 4 * _MIB


def library_of(cupy: Any) -> ctypes.CDLL:
    """The cuBLAS that CuPy itself uses, wherever CuPy found it."""
    # symbols are looked up in what CuPy's module is linked to as well
    return ctypes.CDLL(cupy.cuda.cublas.__file__)


class Products:
    """Products of matrices in the memory of the device that is current.

    Parameters
    ----------
    library : ctypes.CDLL
        cuBLAS.
    workspace : array of the device
        Memory of cuBLAS's alone; captured products cannot do with what cuBLAS allocates.

    Raises
    ------
    BackendError
        cuBLAS does not start.
    """

    def __init__(self, library: ctypes.CDLL, workspace: Array) -> None:
        self._library, self._workspace = library, workspace
        for name, types in _ARGUMENTS.items():
            getattr(library, name).argtypes = types
        library.cublasGetStatusName.restype = ctypes.c_char_p
        handle = ctypes.c_void_p()
        self._call("cublasCreate_v2", ctypes.byref(handle))
        self._handle = handle.value
        self._scalars = {
            dtype: (ctypes.byref(real(1.0)), ctypes.byref(real(0.0)))
            for dtype, (_, real) in _GEMM.items()
        }
        # not at the end of the process, when CUDA's own may be gone
        weakref.finalize(self, library.cublasDestroy_v2, self._handle).atexit = False

    def multiply(self, stream: int, x_bi: Array, w_io: Array, out_bo: Array) -> None:
        """out = x w, of one precision, on a stream (its address); rows must be in one piece.

        Raises
        ------
        BackendError
            cuBLAS does not do it.
        MemoryError
            cuBLAS finds no memory.
        """
        (n_b, n_i), n_o = x_bi.shape, w_io.shape[1]
        if w_io.shape[0] != n_i or out_bo.shape != (n_b, n_o):
            raise ValueError(f"no product: {x_bi.shape} x {w_io.shape} to {out_bo.shape}")
        if not x_bi.dtype == w_io.dtype == out_bo.dtype or out_bo.dtype not in _GEMM:
            raise TypeError(
                "float64 or float32 matrices of one type are expected, not "
                f"{x_bi.dtype} x {w_io.dtype} to {out_bo.dtype}"
            )
        if not out_bo.size:
            return
        if not n_i:
            out_bo[...] = 0
            return
        x, w, out = _matrix(x_bi), _matrix(w_io), _matrix(out_bo)
        name, _ = _GEMM[out_bo.dtype]
        one, zero = self._scalars[out_bo.dtype]
        self._call("cublasSetStream_v2", self._handle, stream)
        # which the stream has set to cuBLAS's own
        self._call(
            "cublasSetWorkspace_v2", self._handle, self._workspace.data.ptr, self._workspace.nbytes
        )
        # column by column, as cuBLAS reads them, all three are transposed: out' = w' x'
        self._call(
            name, self._handle, _NO_TRANSPOSE, _NO_TRANSPOSE, n_o, n_b, n_i, one, *w, *x, zero, *out
        )

    def _call(self, name: str, *arguments: Any) -> None:
        status = getattr(self._library, name)(*arguments)
        if status:
            said = f"{name}: {self._library.cublasGetStatusName(status).decode()}"
            if status == _ALLOC_FAILED:
                raise MemoryError(said)
            raise BackendError(said)


def _matrix(array: Array) -> tuple[int, int]:
    """Address of a matrix, and numbers from one row to the next."""
    n_rows, n_columns = array.shape
    row, column = (step // array.dtype.itemsize for step in array.strides)
    if n_rows <= 1:
        row = n_columns
    if (n_columns > 1 and column != 1) or row < n_columns:
        raise ValueError(
            f"the rows of a matrix are not in one piece: shape {array.shape}, strides "
            f"{array.strides}, {array.dtype}"
        )
    if max(n_rows, n_columns, row) > _LARGEST_INT:
        raise ValueError(f"a matrix is too large for cuBLAS: {array.shape}")
    return array.data.ptr, max(1, row)
