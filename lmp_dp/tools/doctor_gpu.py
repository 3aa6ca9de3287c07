"""The check of ``lmp-dp doctor`` for GPUs: driver, CuPy, what CuPy needs, and a trial.

With CuPy and no device, the kernels are compiled at least. At the top only the standard library is
needed, as in `doctor`; the rest is imported in processes that may end.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import subprocess
from collections.abc import Iterator

from lmp_dp.errors import describe
from lmp_dp.tools.findings import NOTE, OK, WARNING, Finding, last, python

#: Compiled for where there is no device: A100.
_ARCHITECTURE = 80
#: At the first time all kernels are compiled, ours and those of CuPy.
_SECONDS = 400.0


def examine() -> Iterator[Finding]:
    """None of it is a problem: the cpu backend needs nothing of it."""
    with_cupy = importlib.util.find_spec("cupy") is not None
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        cupy = ", though CuPy is installed" if with_cupy else ", nor CuPy"
        text = f"no NVIDIA driver (libcuda.so.1){cupy}: only the CPU backends work here"
        yield Finding("GPU", NOTE, text)
        n_devices, extra = 0, ""
    else:
        driver, n_devices, extra = _driver()
        yield driver
    if with_cupy:
        yield from _tried(n_devices > 0)
    elif n_devices:
        text = "CuPy is not installed, which the GPU backends need"
        yield Finding("GPU", NOTE, text, f"pip install 'lmp-dp[{extra}]'")


def _driver() -> tuple[Finding, int, str]:
    """What the driver says, the number of its devices, and the extra that fits it."""
    done = python(
        "import ctypes; cuda = ctypes.CDLL('libcuda.so.1'); v, n = ctypes.c_int(), ctypes.c_int();"
        "status = cuda.cuInit(0); cuda.cuDriverGetVersion(ctypes.byref(v));"
        "cuda.cuDeviceGetCount(ctypes.byref(n)); print(status, v.value, n.value)"
    )
    if done.returncode:
        text = f"the NVIDIA driver fails: {last(done)}"
        return Finding("GPU", WARNING, text, "try nvidia-smi"), 0, ""
    status, version, n_devices = map(int, done.stdout.split())
    text = f"driver for CUDA {version // 1000}.{version % 1000 // 10}, {n_devices} device(s)"
    if status or not n_devices:
        text += f" (cuInit gave {status})" if status else ""
        remedy = "try nvidia-smi; CUDA_VISIBLE_DEVICES may hide devices"
        return Finding("GPU", NOTE, text, remedy), 0, ""
    return Finding("GPU", OK, text), n_devices, "cuda13" if version >= 13000 else "cuda12"


def _tried(device: bool) -> Iterator[Finding]:
    """What `tell` finds in a process of its own, and how that ended if not well."""
    code = "from lmp_dp.tools import doctor_gpu; doctor_gpu.tell(sys.argv[1] == 'True')"
    try:
        done = python(code, str(device), seconds=_SECONDS)
    except subprocess.TimeoutExpired:
        yield Finding("GPU", WARNING, f"CuPy gave no answer within {_SECONDS:.0f} s")
        return
    lines = done.stdout.splitlines()
    yield from (heard(line) for line in lines if line.startswith(_MARK))
    if done.returncode:
        done.stdout = "\n".join(line for line in lines if not line.startswith(_MARK))
        remedy = "pip install --force-reinstall 'lmp-dp[cuda13]' (or [cuda12], for older drivers)"
        yield Finding("GPU", WARNING, f"CuPy cannot be used: {last(done)}", remedy)


#: Before what `tell` says, among what libraries say.
_MARK = "lmp-dp doctor "


def _say(verdict: str, text: str, remedy: str = "") -> None:
    print(_MARK + json.dumps([verdict, text, remedy]), flush=True)


def heard(line: str) -> Finding:
    """The finding in a line of what `tell` prints."""
    return Finding("GPU", *json.loads(line.removeprefix(_MARK)))


def tell(device: bool) -> None:
    """Print findings: each part that CuPy needs, and a trial on the device or of the compiler."""
    from lmp_dp.engine.gpu import toolkit

    cupy = toolkit.import_cupy()
    parts = toolkit.parts(cupy)
    for part in parts:
        if part.problem:
            text = f"without {part.name}, {part.purpose}: {part.problem}"
            _say(WARNING, text, toolkit.install(toolkit.cupy_cuda(cupy)))
        else:
            _say(OK, f"{part.name}: {part.found}")
    if any(part.problem for part in parts):
        return
    try:
        if device:
            _try_device()
        else:
            size = len(toolkit.machine_code(cupy, _ARCHITECTURE, "double"))
            _say(OK, f"the kernels compile for sm_{_ARCHITECTURE}, {size} bytes; none was run")
    except Exception as error:  # of CuPy, which has many
        _say(WARNING, describe(error))


def _try_device() -> None:
    from lmp_dp.engine import backends
    from lmp_dp.engine.gpu import device as cuda_device
    from lmp_dp.engine.gpu import trial

    device = cuda_device.CudaDevice(0)
    if wrong := trial.failures(device):
        text = f"{device.name} gives other numbers than NumPy: {', '.join(wrong)}"
        _say(WARNING, text, "do not use backend gpu here, and report it")
        return
    _say(OK, f"a kernel, products, a sort and a sum on {device.name} are as NumPy's")
    if reason := backends.automatic()[1]:
        _say(WARNING, f"{device.name} fails its self-test, backend auto is cpu: {reason}")
    else:
        _say(OK, f"{device.name} passes its self-test: backend auto takes it")
