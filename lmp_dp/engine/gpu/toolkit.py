"""What the gpu backend needs besides CuPy and a driver: NVIDIA's compiler, cuBLAS and headers.

CuPy looks for them where it needs them first, in the wheels of the extras `cuda12` and `cuda13`,
then in toolkits of the machine. Here they are asked for before, so that what is missing is said by
its name.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmp_dp.engine.cache_folder import cache_folder
from lmp_dp.engine.gpu import kernels
from lmp_dp.errors import BackendError

#: The first CuPy that finds NVIDIA's libraries (14.0) and headers in wheels beside it.
OLDEST_CUPY = (14, 1)


@dataclass(frozen=True)
class Part:
    """Something that CuPy looks for on the machine.

    Attributes
    ----------
    name : str
    purpose : str
        What it is needed for.
    found : str
        Version and place; empty if it is missing.
    problem : str
        Why it is missing; empty if it is there.
    """

    name: str
    purpose: str
    found: str
    problem: str


def import_cupy() -> Any:
    """CuPy, which keeps what it compiles beside the compiled kernels of backend cpu.

    Its own folder is below the home, and where that cannot be written (a user whom an image does
    not know has ``/``) CuPy cannot even be imported.
    """
    if "CUPY_CACHE_DIR" not in os.environ and (folder := cache_folder("lmp_dp-cupy")):
        os.environ["CUPY_CACHE_DIR"] = str(folder)
    import cupy

    return cupy


def parts(cupy: Any) -> list[Part]:
    """All parts, those that are missing too; loads the libraries."""
    made = []
    for name, (purpose, look) in _LOOK.items():
        try:
            made.append(Part(name, purpose, look(cupy), ""))
        except (ImportError, OSError, RuntimeError) as error:  # CuPy's ways to say it
            made.append(Part(name, purpose, "", str(error).strip()))
    return made


def require(cupy: Any, backend: str) -> None:
    """Refuse to go on without one of the parts.

    Raises
    ------
    BackendError
        With the names of those that are missing, and what brings them.
    """
    if missing := [part for part in parts(cupy) if part.problem]:
        listed = "; ".join(f"{part.name}, {part.purpose} ({part.problem})" for part in missing)
        raise BackendError(
            f"backend {backend} lacks {listed}. {install(cupy_cuda(cupy))} brings all of it"
        )


def no_device(cupy: Any) -> str:
    """Why CUDA shows no device; empty if it shows one."""
    runtime = cupy.cuda.runtime
    try:
        if runtime.getDeviceCount() > 0:
            return ""
    except runtime.CUDARuntimeError as error:
        driver, built = int(runtime.driverGetVersion()) // 1000, cupy_cuda(cupy)
        if driver == 0:
            return "no NVIDIA driver is found (libcuda.so.1)"
        if driver < built:
            other = f", or in place of this CuPy: {install(driver)}" if driver > 11 else ""
            return (
                f"the driver is for CUDA {driver}, CuPy for CUDA {built}; install a newer driver"
                f"{other}"
            )
        return str(error)
    return "the driver shows none; try nvidia-smi, CUDA_VISIBLE_DEVICES may hide devices"


def cupy_cuda(cupy: Any) -> int:
    """The release of CUDA that CuPy was built for, without what follows the point."""
    return int(cupy.cuda.runtime.runtimeGetVersion()) // 1000


def install(cuda: int) -> str:
    """The command that brings CuPy for a release of CUDA with all that it needs."""
    return f"pip install 'lmp-dp[cuda{min(max(cuda, 12), 13)}]'"


def machine_code(cupy: Any, architecture: int, real: str) -> bytes:
    """The kernels for a device of that compute capability (90 is 9.0); needs none.

    Raises
    ------
    BackendError
        NVRTC does not compile them.
    """
    nvrtc = cupy.cuda.nvrtc
    program = nvrtc.createProgram(kernels.source(), "kernels.cu", (), ())
    try:
        options = (*kernels.options(REAL=real), f"--gpu-architecture=sm_{architecture}")
        nvrtc.compileProgram(program, options)
        return bytes(nvrtc.getCUBIN(program))
    except nvrtc.NVRTCError as error:
        raise BackendError(
            f"NVRTC does not compile the kernels for sm_{architecture} ({error}): "
            f"{nvrtc.getProgramLog(program)}"
        ) from error
    finally:
        nvrtc.destroyProgram(program)


def _cupy(cupy: Any) -> str:
    if tuple(map(int, cupy.__version__.split(".")[:2])) < OLDEST_CUPY:
        raise RuntimeError(f"{cupy.__version__} is installed")
    return f"{cupy.__version__} for CUDA {cupy_cuda(cupy)}"


def _nvrtc(cupy: Any) -> str:
    major, minor = cupy.cuda.nvrtc.getVersion()
    place = _loaded("libnvrtc")
    if major != cupy_cuda(cupy):
        raise RuntimeError(_another_cuda(cupy, place, major))
    return f"{major}.{minor}, {place}"


def _cublas(cupy: Any) -> str:
    try:
        _ = cupy.cuda.cublas  # looks for the library, and loads it
    except ImportError as error:
        place = _loaded("libcublas")  # what was looked at
        if (found := re.search(r"\.so\.(\d+)", place)) and int(found[1]) != cupy_cuda(cupy):
            raise RuntimeError(_another_cuda(cupy, place, int(found[1]))) from error
        raise
    return _loaded("libcublas")


def _another_cuda(cupy: Any, place: str, cuda: int) -> str:
    """Of an environment with wheels of CUDA 13, which CuPy takes before those of CUDA 12."""
    return (
        f"{place} is of CUDA {cuda} and comes before that of CUDA {cupy_cuda(cupy)}, for which "
        "CuPy is: make a new environment"
    )


def _headers(_cupy: Any) -> str:
    from cuda.pathfinder import find_nvidia_header_directory

    folder = find_nvidia_header_directory("cudart")
    if folder is None:
        raise RuntimeError("no cuda_runtime.h in packages of NVIDIA, $CUDA_PATH or the system")
    return str(folder)


_LOOK: dict[str, tuple[str, Callable[[Any], str]]] = {
    f"CuPy {'.'.join(map(str, OLDEST_CUPY))} or newer": ("which finds the others in wheels", _cupy),
    "NVRTC": ("which compiles kernels", _nvrtc),
    "cuBLAS": ("for matrix products", _cublas),
    "CUDA headers": ("for CuPy's own kernels", _headers),
}


def _loaded(library: str) -> str:
    """Where a library of this process was loaded from."""
    mapped = re.findall(rf"/\S*/{library}\.so\S*$", Path("/proc/self/maps").read_text(), re.M)
    return mapped[0] if mapped else library
