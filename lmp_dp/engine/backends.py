"""The backends by name."""

from __future__ import annotations

from typing import Protocol

from lmp_dp.engine.neighbourhood import Neighbourhood, Outputs, Result
from lmp_dp.errors import BackendError
from lmp_dp.model import DeepPotential

NAMES = ("auto", "cpu", "gpu", "reference", "gpu-reference")


class Engine(Protocol):
    """What every backend is: a model that can be evaluated.

    Attributes
    ----------
    seconds : dict
        Thread time per stage over all evaluations; empty where a backend does not measure.
    builds_lists : bool
        The engine finds neighbours itself; `Neighbourhood` needs no lists.
    """

    seconds: dict[str, float]
    builds_lists: bool

    def memory(self) -> str:
        """What it holds on a device, in words; empty without one."""
        ...

    def close(self) -> None:
        """Let go of threads and memory; another evaluation takes them again."""
        ...

    def compute(self, nb: Neighbourhood, outputs: Outputs) -> Result:
        """Energy, forces and what `outputs` asks for."""
        ...


def create(
    name: str, model: DeepPotential, threads: int, device: int | None = None
) -> tuple[str, Engine]:
    """The backend called `name` and its resolved name; "auto" is cpu.

    ("auto" will be gpu where there is a device, as soon as that backend has run on one.)

    Raises
    ------
    BackendError
        There is no such backend, or it cannot be used on this machine.
    """
    if not (isinstance(name, str) and name in NAMES):
        raise BackendError(f"there is no backend {name!r}; choose one of {', '.join(NAMES)}")
    if name in ("auto", "cpu"):
        from lmp_dp.engine.cpu import CpuEngine

        return "cpu", CpuEngine(model, threads)
    if name == "reference":
        from lmp_dp.engine.reference import ReferenceEngine

        return name, ReferenceEngine(model)
    if name == "gpu-reference":
        from lmp_dp.engine.gpu.device import usable_cupy
        from lmp_dp.engine.reference import ReferenceEngine

        return name, ReferenceEngine(model, usable_cupy(name))
    from lmp_dp.engine.gpu import GpuEngine
    from lmp_dp.engine.gpu.device import CudaDevice

    return name, GpuEngine(model, CudaDevice(device or 0))
