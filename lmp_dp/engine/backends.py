"""The backends by name."""

from __future__ import annotations

from collections.abc import Callable

from lmp_dp.engine.engine import Engine
from lmp_dp.engine.present import PresentElements, knows_many_elements
from lmp_dp.errors import BackendError
from lmp_dp.model import DeepPotential

NAMES = ("auto", "cpu", "gpu", "reference", "gpu-reference")


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

        return "cpu", _for_present(model, lambda of: CpuEngine(of, threads))
    if name == "reference":
        from lmp_dp.engine.reference import ReferenceEngine

        return name, ReferenceEngine(model)
    if name == "gpu-reference":
        from lmp_dp.engine.gpu.device import usable_cupy
        from lmp_dp.engine.reference import ReferenceEngine

        return name, ReferenceEngine(model, usable_cupy(name))
    from lmp_dp.engine.gpu import GpuEngine
    from lmp_dp.engine.gpu.device import CudaDevice

    found = CudaDevice(device or 0)
    return name, _for_present(model, lambda of: GpuEngine(of, found))


def _for_present(model: DeepPotential, make: Callable[[DeepPotential], Engine]) -> Engine:
    return PresentElements(model, make) if knows_many_elements(model) else make(model)
