"""Which device a rank takes, and whether it takes one that it was not told to."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from lmp_dp.engine import backends
from lmp_dp.errors import BackendError
from lmp_dp.lammps.bridge import Run


class Choice(NamedTuple):
    """What the log says of a rank in its table of devices, and a remark; or empty."""

    name: str = ""
    remark: str = ""


def choose(run: Run, options: dict[str, Any]) -> Choice:
    """The device of this rank, as ``options["device"]``.

    Ranks of a node take its devices in turn; none makes a context on another's. Where Slurm shows
    each rank its own only (--gpus-per-task), there are as many as it says. Backend "auto"
    becomes cpu where ranks would have to share devices, or the device does not pass its self-test.

    Raises
    ------
    BackendError
        Backend gpu was asked for, and CuPy or a device is missing.
    """
    automatic = options.get("backend", "auto") == "auto"
    if not automatic and options["backend"] != "gpu":
        return Choice()
    from lmp_dp.engine.gpu import device as cuda_device

    try:
        count = cuda_device.device_count()
    except BackendError:
        if automatic:
            return Choice()
        raise
    node = os.uname().nodename
    index = options["device"] = run.local_rank % count
    on_node = max(count, _gpus_on_node())
    shared = f"{run.local_size} ranks of {node} share {on_node} GPU(s)"
    if automatic and run.local_size > on_node:
        options["backend"] = "cpu"
        return Choice(remark=f"backend auto is cpu: {shared}")
    if automatic and (reason := backends.automatic(index)[1]):
        options["backend"] = "cpu"
        # remarks are the first rank's alone, other ranks may be on other devices
        return Choice(f"{node}, backend cpu: {reason}", f"backend auto is cpu: {reason}")
    name = f"{node} -> GPU {index} ({cuda_device.device_name(index)})"
    remark = f"{shared}: one rank per GPU is faster" if run.local_size > on_node else ""
    return Choice(name, remark)


def _gpus_on_node() -> int:
    """Devices of the job on this node, whichever this rank sees; 0 where that is not said."""
    text = os.environ.get("SLURM_GPUS_ON_NODE", "")
    return int(text) if text.isascii() and text.isdigit() else 0
