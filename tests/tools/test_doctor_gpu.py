"""lmp-dp doctor on GPUs: driver, CuPy, its libraries and a device, each missing or broken."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest

from conftest import TESTS
from cuda_emulation.emulated_device import EmulatedDevice
from cupy_stand_in import StandIn
from doctor_runs import examine, of, shadow
from lmp_dp.engine import backends
from lmp_dp.engine.gpu import device as cuda_device
from lmp_dp.engine.gpu import trial
from lmp_dp.tools import doctor_gpu
from lmp_dp.tools.findings import Finding


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A libcuda.so.1 of our own: a driver for CUDA 13.0 with STATUS of cuInit and one device."""
    folder = tmp_path_factory.mktemp("driver")
    (folder / "cuda.c").write_text(
        "#include <stdlib.h>\n"
        'int cuInit(unsigned f) { return f + atoi(getenv("STATUS")); }\n'
        "int cuDriverGetVersion(int *v) { *v = 13000; return 0; }\n"
        "int cuDeviceGetCount(int *n) { *n = 1; return 0; }\n"
    )
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))))
    command = [compiler, "-shared", "-fPIC", "-o", "libcuda.so.1", "cuda.c"]
    subprocess.run(command, cwd=folder, check=True)
    return folder


@pytest.mark.parametrize(
    ("status", "cupy", "verdict", "message"),
    [
        ("0", None, "note", "pip install 'lmp-dp[cuda13]'"),
        ("0", "raise RuntimeError('too old')", "warning", "RuntimeError: too old"),
        ("100", None, "note", "(cuInit gave 100)"),
    ],
)
def test_gpu(
    driver: Path, tmp_path: Path, status: str, cupy: str | None, verdict: str, message: str
) -> None:
    """With a driver: CuPy missing or unusable, or no device. None of it is a problem."""
    environment = {"LD_LIBRARY_PATH": str(driver), "STATUS": status}
    if cupy is None:  # hidden, if it is installed
        (tmp_path / "sitecustomize.py").write_text(
            "from importlib import util\nfind = util.find_spec\n"
            "util.find_spec = lambda name, *of: None if name == 'cupy' else find(name, *of)\n"
        )
    else:
        shadow(tmp_path, cupy=cupy)
    environment["PYTHONPATH"] = str(tmp_path)
    returned, findings, _ = examine(**environment)
    assert returned == 0
    assert "driver for CUDA 13.0, 1 device(s)" in of(
        findings, "GPU", "ok" if status == "0" else "note"
    )
    assert message in of(findings, "GPU", verdict)


#: What `import cupy` gives in the processes of doctor.
IMPORTED = f"""
import sys
sys.path.insert(0, {str(TESTS)!r})
from cupy_stand_in import StandIn
import pytest
stand_in = StandIn(**{{options}}).install(pytest.MonkeyPatch())
sys.modules[__name__] = stand_in
"""


@pytest.fixture
def no_driver() -> None:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return
    pytest.skip("this machine has an NVIDIA driver")


@pytest.mark.usefixtures("no_driver")
def test_neither_cupy_nor_a_driver(monkeypatch) -> None:
    monkeypatch.setattr(doctor_gpu.importlib.util, "find_spec", lambda _name: None)
    text = "no NVIDIA driver (libcuda.so.1), nor CuPy: only the CPU backends work here"
    assert list(doctor_gpu.examine()) == [Finding("GPU", "note", text)]


@pytest.mark.usefixtures("no_driver")
def test_cupy_without_a_driver(tmp_path: Path) -> None:
    """The libraries are looked for, and the kernels compiled."""
    folder = shadow(tmp_path, cupy=IMPORTED.format(options={"driver": 0}))
    returned, findings, _ = examine(PYTHONPATH=str(folder))
    assert returned == 0
    assert "only the CPU backends work here" in of(findings, "GPU", "note")
    said = of(findings, "GPU", "ok").splitlines()
    assert [line.partition(":")[0] for line in said] == [
        "CuPy 14.1 or newer",
        "NVRTC",
        "cuBLAS",
        "CUDA headers",
        said[-1],
    ]
    assert said[-1].startswith("the kernels compile for sm_80, ")


def test_a_device_that_is_used(driver: Path, tmp_path: Path) -> None:
    """With a driver that shows one: what the gpu backend itself says about it is said."""
    options = {"cuda": 13020, "driver": 12080, "nvrtc": (13, 5)}
    folder = shadow(tmp_path, cupy=IMPORTED.format(options=options))
    returned, findings, _ = examine(PYTHONPATH=str(folder), LD_LIBRARY_PATH=str(driver), STATUS="0")
    assert returned == 0
    assert "the driver is for CUDA 12, CuPy for CUDA 13" in of(findings, "GPU", "warning")


def told(capsys: pytest.CaptureFixture[str], device: bool) -> list[Finding]:
    """What `tell` says, as doctor reads it."""
    doctor_gpu.tell(device)
    return [doctor_gpu.heard(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"version": "13.6.0"}, "CuPy 14.1 or newer"),
        ({"nvrtc": RuntimeError("cannot open shared object file")}, "NVRTC"),
        ({"cublas": ImportError("cannot open shared object file")}, "cuBLAS"),
        ({"headers": None}, "CUDA headers"),
    ],
)
@pytest.mark.parametrize("device", [False, True])
def test_a_missing_part(monkeypatch, capsys, options, part, device) -> None:
    """It is named with what brings it, the others are found, and nothing else is tried."""
    StandIn(**options).install(monkeypatch)
    findings = told(capsys, device)
    (missing,) = [found for found in findings if found.verdict != "ok"]
    assert missing.verdict == "warning"
    assert missing.text.startswith(f"without {part}, ")
    assert missing.remedy == "pip install 'lmp-dp[cuda12]'"
    assert len(findings) == 4


@pytest.fixture
def emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    StandIn().install(monkeypatch)
    monkeypatch.setattr(cuda_device, "CudaDevice", lambda _index: EmulatedDevice())


@pytest.mark.usefixtures("emulated")
def test_a_device_that_computes(monkeypatch, capsys) -> None:
    monkeypatch.setattr(backends, "automatic", lambda: ("gpu", ""))
    *parts, tried, passed = told(capsys, True)
    assert {found.verdict for found in (*parts, tried, passed)} == {"ok"}
    assert tried.text.endswith("on emulated CUDA device are as NumPy's")
    assert passed.text == "emulated CUDA device passes its self-test: backend auto takes it"


@pytest.mark.usefixtures("emulated")
def test_a_device_that_fails_its_self_test(monkeypatch, capsys) -> None:
    monkeypatch.setattr(backends, "automatic", lambda: ("cpu", "forces differ by 1"))
    (warning,) = [found for found in told(capsys, True) if found.verdict != "ok"]
    assert warning.verdict == "warning"
    assert warning.text.endswith("fails its self-test, backend auto is cpu: forces differ by 1")


@pytest.mark.usefixtures("emulated")
def test_a_device_that_computes_wrongly(monkeypatch, capsys) -> None:
    monkeypatch.setattr(trial, "failures", lambda _device: ["the kernel cells", "CuPy's sort"])
    *_, last = told(capsys, True)
    assert last.verdict == "warning"
    assert "gives other numbers than NumPy: the kernel cells, CuPy's sort" in last.text
    assert "report it" in last.remedy


@pytest.mark.usefixtures("emulated")
def test_a_device_that_fails(monkeypatch, capsys) -> None:
    def raises(_device: object) -> None:
        raise RuntimeError("CUDA_ERROR_ILLEGAL_ADDRESS")

    monkeypatch.setattr(trial, "failures", raises)
    *_, last = told(capsys, True)
    assert last.verdict == "warning"
    assert "RuntimeError: CUDA_ERROR_ILLEGAL_ADDRESS" in last.text


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import os; print('noise', flush=True); os.abort()", "CuPy cannot be used: noise"),
        ("import os; os.abort()", "CuPy cannot be used: status -6"),
        ("import time; time.sleep(60)", "CuPy gave no answer within 1 s"),
    ],
)
def test_a_process_that_ends_or_hangs(monkeypatch, tmp_path, code, said) -> None:
    monkeypatch.setenv("PYTHONPATH", str(shadow(tmp_path, cupy=code)))
    monkeypatch.setattr(doctor_gpu, "_SECONDS", 1.0 if "sleep" in code else 60.0)
    (finding,) = doctor_gpu._tried(True)
    assert (finding.verdict, finding.text) == ("warning", said)
