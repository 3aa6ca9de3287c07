"""The backends by name."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import suppress

from lmp_dp.engine.engine import Engine
from lmp_dp.engine.present import PresentElements, knows_many_elements
from lmp_dp.errors import BackendError
from lmp_dp.model import DeepPotential

NAMES = ("auto", "cpu", "gpu", "reference", "gpu-reference")


def create(
    name: str, model: DeepPotential, threads: int, device: int | None = None
) -> tuple[str, Engine]:
    """The backend called `name` and its resolved name.

    "auto" is gpu where `automatic` says so and there are kernels for the model, otherwise cpu.

    Raises
    ------
    BackendError
        There is no such backend, or it cannot be used on this machine.
    """
    if not (isinstance(name, str) and name in NAMES):
        raise BackendError(f"there is no backend {name!r}; choose one of {', '.join(NAMES)}")
    if name == "auto":
        name, reason = automatic(device)
        if reason:
            warnings.warn(f"backend auto is cpu: {reason}", stacklevel=3)
        if name == "gpu":
            from lmp_dp.engine.gpu import UnsuitedModelError

            with suppress(UnsuitedModelError):
                return create("gpu", model, threads, device)
            name = "cpu"
    if name == "cpu":
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


def automatic(device: int | None = None) -> tuple[str, str]:
    """What "auto" stands for on a device: "gpu" if it passes its self-test, otherwise "cpu".

    Returns
    -------
    name : {"gpu", "cpu"}
    reason : str
        Why a device that is there is not used.
    """
    from lmp_dp.engine.gpu import device as cuda_device
    from lmp_dp.engine.gpu.self_test import failure

    index = device or 0
    try:
        if index >= cuda_device.device_count():
            return "cpu", ""
    except BackendError:  # no CuPy, or no device: nothing that anyone has to be told
        return "cpu", ""
    found = failure(index)
    return ("cpu", found) if found else ("gpu", "")


def _for_present(model: DeepPotential, make: Callable[[DeepPotential], Engine]) -> Engine:
    return PresentElements(model, make) if knows_many_elements(model) else make(model)
