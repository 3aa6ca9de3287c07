"""A stand-in for CuPy: what lmp_dp asks it about libraries, versions and devices, and no arrays."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest


class CUDARuntimeError(RuntimeError):
    pass


class NVRTCError(RuntimeError):
    pass


class StandIn:
    """CuPy with a driver, one device and all libraries, unless told otherwise.

    Parameters
    ----------
    version : str
        CuPy's.
    cuda, driver : int
        Releases as CUDA writes them (12090); a driver of 0 is none.
    devices : int
    nvrtc : tuple or Exception
        Its version, or why it cannot be loaded.
    cublas : Exception, optional
        Why it cannot be loaded.
    headers : str or None
        Where they are.
    """

    def __init__(
        self,
        version: str = "14.2.0",
        cuda: int = 12090,
        driver: int = 12040,
        devices: int = 1,
        nvrtc: tuple[int, int] | Exception = (12, 9),
        cublas: Exception | None = None,
        headers: str | None = "/site-packages/nvidia/cuda_runtime/include",
    ) -> None:
        self.__version__ = version
        self.headers = headers
        self.compiled: list[tuple[str, ...]] = []
        self._nvrtc_version = nvrtc

        class Cuda:
            runtime = SimpleNamespace(
                CUDARuntimeError=CUDARuntimeError,
                runtimeGetVersion=lambda: cuda,
                driverGetVersion=lambda: driver,
                getDeviceCount=lambda: self._count(devices, driver, cuda),
            )
            nvrtc = self._nvrtc()

            @property
            def cublas(self) -> Any:
                if cublas:
                    raise cublas
                return SimpleNamespace()

        self.cuda = Cuda()

    def _count(self, devices: int, driver: int, cuda: int) -> int:
        if driver // 1000 < cuda // 1000:
            raise CUDARuntimeError("cudaErrorInsufficientDriver: CUDA driver version is ...")
        if devices < 0:
            raise CUDARuntimeError("cudaErrorUnknown: unknown error")
        return devices

    def _nvrtc(self) -> Any:
        def version() -> tuple[int, int]:
            if isinstance(self._nvrtc_version, Exception):
                raise self._nvrtc_version
            return self._nvrtc_version

        def compile_program(program: list[Any], options: tuple[str, ...]) -> None:
            program.extend(options)
            if "--gpu-architecture=sm_80" not in options:
                raise NVRTCError("NVRTC_ERROR_INVALID_OPTION (5)")
            self.compiled.append(options)

        return SimpleNamespace(
            NVRTCError=NVRTCError,
            getVersion=version,
            createProgram=lambda source, *_rest: [source],
            compileProgram=compile_program,
            getCUBIN=lambda program: program[0].encode(),
            getProgramLog=lambda program: f"invalid value for {program[-1]}",
            destroyProgram=lambda program: program.clear(),
        )

    def install(self, monkeypatch: pytest.MonkeyPatch) -> StandIn:
        """As what `import cupy` and `import cuda.pathfinder` give."""
        monkeypatch.setitem(sys.modules, "cupy", self)
        pathfinder = ModuleType("cuda.pathfinder")
        pathfinder.find_nvidia_header_directory = {"cudart": self.headers}.__getitem__
        monkeypatch.setitem(sys.modules, "cuda", ModuleType("cuda"))
        monkeypatch.setitem(sys.modules, "cuda.pathfinder", pathfinder)
        return self
