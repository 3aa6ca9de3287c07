"""The backends by name, and how many threads they get."""

from __future__ import annotations

import os
from types import ModuleType
from typing import Protocol

from lmp_dp.engine.neighbourhood import Neighbourhood, Outputs, Result
from lmp_dp.errors import BackendError, InputError
from lmp_dp.model import DeepPotential

NAMES = ("auto", "cpu", "reference", "gpu-reference")


class Engine(Protocol):
    """What every backend is: a model that can be evaluated.

    Attributes
    ----------
    seconds : dict
        Thread time per stage over all evaluations; empty where a backend does not measure.
    """

    seconds: dict[str, float]

    def compute(self, nb: Neighbourhood, outputs: Outputs) -> Result:
        """Energy, forces and what `outputs` asks for."""
        ...


def create(name: str, model: DeepPotential, threads: int) -> tuple[str, Engine]:
    """The backend called `name` ("auto": the fastest that works) and its resolved name.

    Raises
    ------
    BackendError
        There is no such backend, or it cannot be used on this machine.
    """
    if name in ("auto", "cpu"):
        from lmp_dp.engine.cpu import CpuEngine

        return "cpu", CpuEngine(model, threads)
    if name == "reference":
        from lmp_dp.engine.reference import ReferenceEngine

        return name, ReferenceEngine(model)
    if name == "gpu-reference":
        from lmp_dp.engine.reference import ReferenceEngine

        return name, ReferenceEngine(model, _usable_cupy())
    raise BackendError(f"there is no backend '{name}'; choose one of {', '.join(NAMES)}")


def _usable_cupy() -> ModuleType:
    try:
        import cupy
    except ImportError as error:
        raise BackendError(
            f"backend gpu-reference needs CuPy ({error}); "
            "install it with: pip install 'lmp-dp[cuda13]' (or [cuda12])"
        ) from error
    try:
        if cupy.cuda.runtime.getDeviceCount() > 0:
            return cupy
        reason = "no device found"
    except cupy.cuda.runtime.CUDARuntimeError as error:
        reason = str(error)
    raise BackendError(f"backend gpu-reference needs a CUDA device: {reason}")


def thread_count(requested: int | None) -> int:
    """Threads to use: as requested, else OMP_NUM_THREADS, else the cores of this process."""
    cores = len(os.sched_getaffinity(0))
    if requested is None:
        text = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
        if not text:
            return cores
        if not text.isdigit() or int(text) < 1:
            raise InputError(f"OMP_NUM_THREADS is '{text}', expected a positive number")
        requested = int(text)
    if requested < 1:
        raise InputError(f"threads is {requested}, expected a positive number")
    return min(requested, cores)
