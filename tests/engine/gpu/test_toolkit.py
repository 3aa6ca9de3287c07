"""What CuPy needs besides a driver: each thing that is missing is said, with what brings it."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from cupy_stand_in import StandIn
from lmp_dp.engine import backends
from lmp_dp.engine.gpu import device, kernels, toolkit
from lmp_dp.errors import BackendError
from small_model import small_model

NOT_FOUND = 'Failure finding "libnvrtc.so.13 or libnvrtc.so.12"'
NO_CUBLAS = "libcublas.so.12: cannot open shared object file"
EXTRA_12, EXTRA_13 = "pip install 'lmp-dp[cuda12]'", "pip install 'lmp-dp[cuda13]'"


def test_nothing_is_missing(monkeypatch):
    cupy = StandIn().install(monkeypatch)
    assert device.usable_cupy("gpu") is cupy
    assert device.device_count() == 1
    found = {part.name: part.found for part in toolkit.parts(cupy)}
    assert found["CuPy 14.1 or newer"] == "14.2.0 for CUDA 12"
    assert found["NVRTC"].startswith("12.9, ")
    assert found["CUDA headers"] == cupy.headers
    assert not [part.problem for part in toolkit.parts(cupy) if part.problem]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"version": "13.6.0"}, ["CuPy 14.1 or newer", "(13.6.0 is installed)", EXTRA_12]),
        ({"version": "14.0.1"}, ["CuPy 14.1 or newer", "(14.0.1 is installed)", EXTRA_12]),
        (
            {"nvrtc": RuntimeError(NOT_FOUND)},
            [f"lacks NVRTC, which compiles kernels ({NOT_FOUND})", EXTRA_12],
        ),
        # where both are installed CuPy takes that of CUDA 13
        ({"nvrtc": (13, 5)}, ["NVRTC", "is of CUDA 13 and comes before that of CUDA 12", EXTRA_12]),
        (
            {"cublas": ImportError(NO_CUBLAS)},
            [f"lacks cuBLAS, for matrix products ({NO_CUBLAS})", EXTRA_12],
        ),
        ({"headers": None}, ["lacks CUDA headers, for CuPy's own kernels", EXTRA_12]),
        (
            {
                "cuda": 13020,
                "driver": 13000,
                "nvrtc": RuntimeError(NOT_FOUND),
                "cublas": ImportError(NO_CUBLAS),
                "headers": None,
            },
            ["NVRTC", "cuBLAS", "CUDA headers", EXTRA_13],
        ),
    ],
)
@pytest.mark.parametrize("backend", ["gpu", "gpu-reference"])
def test_what_is_missing_is_named(monkeypatch, options, named, backend):
    StandIn(**options).install(monkeypatch)
    with pytest.raises(BackendError, match=f"^backend {backend} lacks ") as raised:
        backends.create(backend, small_model(), 1)
    for text in named:
        assert text in str(raised.value)
    everything = {"CuPy 14.1", "NVRTC", "cuBLAS", "CUDA headers"}
    missing = {name for name in everything if any(name in text for text in named)}
    assert not [name for name in everything - missing if f"{name}," in str(raised.value)]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"driver": 0}, "no NVIDIA driver is found (libcuda.so.1)"),
        (
            {"cuda": 13020, "driver": 12080, "nvrtc": (13, 5)},
            "the driver is for CUDA 12, CuPy for CUDA 13; install a newer driver, or in place of "
            f"this CuPy: {EXTRA_12}",
        ),
        (
            {"driver": 11040},
            "the driver is for CUDA 11, CuPy for CUDA 12; install a newer driver",
        ),
        ({"devices": 0}, "the driver shows none; try nvidia-smi, CUDA_VISIBLE_DEVICES may hide"),
        ({"devices": -1}, "cudaErrorUnknown: unknown error"),
    ],
)
def test_no_device(monkeypatch, options, said):
    StandIn(**options).install(monkeypatch)
    for ask in (lambda: device.CudaDevice(0), device.device_count, lambda: device.device_name(0)):
        with pytest.raises(BackendError) as raised:
            ask()
        assert f"backend gpu needs a CUDA device: {said}" in str(raised.value)


def test_no_cupy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(BackendError, match="backend gpu needs CuPy") as raised:
        device.CudaDevice(0)
    assert EXTRA_13 in str(raised.value)


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("/nvidia/cu13/lib/libcublas.so.13", "is of CUDA 13 and comes before that of CUDA 12"),
        ("/nvidia/cublas/lib/libcublas.so.12", NO_CUBLAS),
        ("libcublas", NO_CUBLAS),
    ],
)
def test_cublas_of_another_cuda(monkeypatch, place, said):
    """CuPy's module is bound to that of its own CUDA, and what was found first is another's."""
    cupy = StandIn(cublas=ImportError(NO_CUBLAS)).install(monkeypatch)
    monkeypatch.setattr(toolkit, "_loaded", lambda _library: place)
    (part,) = [part for part in toolkit.parts(cupy) if part.problem]
    assert part.name == "cuBLAS"
    assert said in part.problem
    assert ("make a new environment" in part.problem) == (said != NO_CUBLAS)


def test_auto_says_why_a_device_that_is_there_is_not_used(monkeypatch):
    StandIn(cublas=ImportError(NO_CUBLAS)).install(monkeypatch)
    name, reason = backends.automatic()
    assert name == "cpu"
    assert NO_CUBLAS in reason
    assert EXTRA_12 in reason


def test_a_broken_cupy_is_no_error_of_auto(monkeypatch):
    """A folder that an uninstalled one has left is imported, as a namespace without anything."""
    monkeypatch.setitem(sys.modules, "cupy", ModuleType("cupy"))
    assert backends.automatic() == ("cpu", "")
    with pytest.raises(BackendError, match=r"fails \(AttributeError: .*cuda.*install it anew"):
        device.device_count()


def test_machine_code_is_made_as_for_a_device(monkeypatch):
    cupy = StandIn().install(monkeypatch)
    assert toolkit.machine_code(cupy, 80, "float") == kernels.source().encode()
    assert cupy.compiled == [("--std=c++17", "-DREAL=float", "--gpu-architecture=sm_80")]
    with pytest.raises(BackendError, match="does not compile the kernels for sm_20") as raised:
        toolkit.machine_code(cupy, 20, "float")
    assert "NVRTC_ERROR_INVALID_OPTION" in str(raised.value)
    assert "invalid value for --gpu-architecture=sm_20" in str(raised.value)


def test_where_a_library_was_loaded_from():
    assert toolkit._loaded("libc").endswith((".so", ".so.6"))
    assert toolkit._loaded("libnowhere") == "libnowhere"


@pytest.mark.parametrize("own", [None, "own"])
def test_cupy_without_a_home_that_can_be_written(tmp_path, monkeypatch, own):
    """CuPy makes its folder at import; the home of a user unknown to an image is ``/``."""
    made = 'os.environ.get("CUPY_CACHE_DIR", os.path.expanduser("~/.cupy/kernel_cache"))'
    (tmp_path / "cupy.py").write_text(f"import os\nos.makedirs(folder := {made}, exist_ok=True)\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    monkeypatch.setenv("HOME", "/proc/nowhere")
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("CUPY_CACHE_DIR", str(tmp_path / (own or "")))  # restored at the end
    if own is None:
        monkeypatch.delenv("CUPY_CACHE_DIR")
    cupy = toolkit.import_cupy()
    del sys.modules["cupy"]
    assert cupy.folder == str(tmp_path / (own or "lmp_dp-cupy"))
