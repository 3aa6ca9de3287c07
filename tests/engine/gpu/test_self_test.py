"""Backend auto: gpu where a device computes as the reference does, on emulated devices."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from cuda_emulation.emulated_device import EmulatedDevice
from lmp_dp import Potential
from lmp_dp.engine import backends
from lmp_dp.engine.gpu import device as cuda_device
from lmp_dp.engine.gpu import self_test
from small_model import small_model


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[EmulatedDevice]:
    """The emulated devices of this test, on a machine that has one and has not tested it yet."""
    devices: list[EmulatedDevice] = []

    def make(_index: int) -> EmulatedDevice:
        devices.append(EmulatedDevice())
        return devices[-1]

    monkeypatch.setattr(cuda_device, "CudaDevice", make)
    monkeypatch.setattr(cuda_device, "device_count", lambda: 1)
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(self_test, "_found", {})
    return devices


def launches(device: EmulatedDevice) -> int:
    return sum(device.launches.values())


def test_auto_is_gpu_on_a_device_that_passes(made) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        potential = Potential(small_model(), sel="ignore")
    assert potential.backend == "gpu"
    assert backends.automatic() == ("gpu", "")


@pytest.mark.gpu
def test_auto_takes_this_device(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(self_test, "_found", {})
    assert backends.automatic() == ("gpu", "")
    (entry,) = (tmp_path / self_test.FOLDER).iterdir()
    assert cuda_device.CudaDevice(0).identity in entry.read_text()


def test_an_identity_names_the_device_and_all_versions() -> None:
    device = object.__new__(cuda_device.CudaDevice)
    device.name, device.index = "Stand-in", 1
    runtime = SimpleNamespace(
        getDeviceProperties=lambda index: {"uuid": bytes([0xAB, index])},
        driverGetVersion=lambda: 13010,
        runtimeGetVersion=lambda: 13000,
    )
    nvrtc = SimpleNamespace(getVersion=lambda: (13, 2))
    device.xp = SimpleNamespace(
        cuda=SimpleNamespace(runtime=runtime, nvrtc=nvrtc), __version__="14.2.0"
    )
    assert device.identity == (
        "Stand-in, UUID ab01, driver for CUDA 13010, CUDA 13000, NVRTC 13.2, CuPy 14.2.0"
    )


def test_a_device_is_tested_once(made, tmp_path: Path, monkeypatch) -> None:
    assert self_test.failure(0) == ""
    (entry,) = (tmp_path / self_test.FOLDER).iterdir()
    assert EmulatedDevice.identity in entry.read_text()
    of_test = launches(made[0])
    kernels = set(made[0].launches)
    # nets and tables, all that a step of them needs
    assert {"moment_by_tables", "gradients_by_tables", "moment_by_net", "features"} <= kernels
    assert self_test.failure(0) == ""
    monkeypatch.setattr(self_test, "_found", {})  # another process
    assert self_test.failure(0) == ""
    assert [launches(device) for device in made] == [of_test, 0, 0]
    monkeypatch.setattr(EmulatedDevice, "identity", "another driver")
    assert self_test.failure(0) == ""
    assert launches(made[-1]) == of_test


def test_a_device_is_tested_once_where_nothing_can_be_kept(made, monkeypatch) -> None:
    monkeypatch.setattr(self_test, "cache_folder", lambda _name: None)
    assert self_test.failure(0) == self_test.failure(0) == ""
    assert launches(made[0]) > 0
    assert launches(made[1]) == 0


@pytest.mark.parametrize(
    ("precision", "off", "limit"), [("float64", 2**-30, "1e-12"), ("float32", 2**-8, "6e-05")]
)
def test_wrong_products_are_found(made, monkeypatch, tmp_path, precision, off, limit) -> None:
    multiply = EmulatedDevice.multiply

    def nearly(self, x_bi, w_io, out_bo) -> None:
        multiply(self, x_bi, w_io, out_bo)
        if out_bo.dtype == precision:
            out_bo *= out_bo.dtype.type(1 + off)

    monkeypatch.setattr(EmulatedDevice, "multiply", nearly)
    with pytest.warns(UserWarning, match=f"auto is cpu: .* in {precision} differ .* {limit}"):
        potential = Potential(small_model(), sel="ignore")
    assert potential.backend == "cpu"
    assert not list((tmp_path / self_test.FOLDER).iterdir())
    monkeypatch.setattr(EmulatedDevice, "multiply", multiply)
    assert "differ" in self_test.failure(0)  # asked once
    assert launches(made[-1]) == 0
    monkeypatch.setattr(self_test, "_found", {})  # another process
    assert self_test.failure(0) == ""


@pytest.mark.parametrize(
    "kernel", ["forces_on_neighbours", "gradients_by_tables", "last_fitting_layer"]
)
def test_a_kernel_that_does_nothing_is_found(made, monkeypatch, kernel: str) -> None:
    launch = EmulatedDevice.launch

    def without(self, module, name, blocks, *args) -> None:
        assert kernel in module.kernels
        if name != kernel:
            launch(self, module, name, blocks, *args)

    monkeypatch.setattr(EmulatedDevice, "launch", without)
    assert "differ from the reference" in self_test.failure(0)


def test_not_a_number_is_no_agreement(made, monkeypatch) -> None:
    multiply = EmulatedDevice.multiply

    def poisoned(self, x_bi, w_io, out_bo) -> None:
        multiply(self, x_bi, w_io, out_bo)
        out_bo[...] = np.nan

    monkeypatch.setattr(EmulatedDevice, "multiply", poisoned)
    assert "nan" in self_test.failure(0)


def test_whatever_libraries_raise_is_told(made, monkeypatch) -> None:
    def compile_(self, **_defines):
        raise OSError("libnvrtc.so.13: cannot open shared object file")

    monkeypatch.setattr(EmulatedDevice, "compile", compile_)
    with pytest.warns(UserWarning, match=r"auto is cpu: OSError: libnvrtc\.so\.13"):
        assert Potential(small_model(), sel="ignore").backend == "cpu"


def test_models_without_kernels_are_for_the_cpu(made, converted) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Potential(converted("e3_two")).backend == "cpu"


def test_without_a_device_auto_is_cpu_and_silent() -> None:
    if "cupy" in sys.modules:
        pytest.skip("CuPy is installed")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Potential(small_model(), sel="ignore").backend == "cpu"
