"""NVIDIA's compilers take the kernels: no warnings, nothing spilled, for old and new GPUs.

Each kernel leaves room for as many blocks on a multiprocessor as its launch bounds name.

NVRTC of CUDA 12 is what CuPy compiles with; nvcc, where it is installed, may be another release.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from cuda_emulation.emulated_device import EmulatedDevice
from lmp_dp.engine.gpu import kernels as cuda

#: The oldest architecture that CUDA 13 knows, A100, H100, B200.
ARCHITECTURES = ("sm_75", "sm_80", "sm_90", "sm_100")
PRECISIONS = ("double", "float")
NVCC = shutil.which("nvcc")
#: Blocks on a multiprocessor that the heaviest kernels leave room for.
BLOCKS = {
    "double": {"moment_by_tables": 5, "gradients_by_tables": 3},
    "float": {"moment_by_tables": 6, "gradients_by_tables": 4},
}
#: Of a multiprocessor, which gives them to warps in portions (all architectures here).
REGISTERS, PORTION = 65536, 256


class Nvrtc:
    """NVIDIA's run-time compiler, from its wheel; needs no GPU."""

    def __init__(self) -> None:
        package = importlib.util.find_spec("nvidia.cuda_nvrtc")
        assert package is not None, "pip install nvidia-cuda-nvrtc-cu12"
        folders = package.submodule_search_locations
        (library,) = (path for folder in folders for path in Path(folder).glob("lib/libnvrtc.so.*"))
        self._library = ctypes.CDLL(str(library))

    def compile(self, source: str, architecture: str, precision: str) -> tuple[str, bytes, str]:
        """Log, machine code and PTX of a source."""
        options = [f"--gpu-architecture={architecture}", f"-DREAL={precision}"]
        options += ["--std=c++17", "--ptxas-options=-v"]
        c_options = (ctypes.c_char_p * len(options))(*[option.encode() for option in options])
        program = ctypes.c_void_p()
        self._check(
            "nvrtcCreateProgram", ctypes.byref(program), source.encode(), b"source", 0, None, None
        )
        try:
            failed = self._library.nvrtcCompileProgram(program, len(options), c_options)
            log = self._read("nvrtcGetProgramLog", program).rstrip(b"\0").decode()
            assert not failed, log
            ptx = self._read("nvrtcGetPTX", program).rstrip(b"\0").decode()
            return log, self._read("nvrtcGetCUBIN", program), ptx
        finally:
            self._check("nvrtcDestroyProgram", ctypes.byref(program))

    def _read(self, function: str, program: ctypes.c_void_p) -> bytes:
        size = ctypes.c_size_t()
        self._check(f"{function}Size", program, ctypes.byref(size))
        text = ctypes.create_string_buffer(size.value)
        self._check(function, program, text)
        return text.raw

    def _check(self, function: str, *arguments: object) -> None:
        assert getattr(self._library, function)(*arguments) == 0, function


def assert_clean(log: str, architectures: tuple[str, ...], precision: str) -> dict[str, int]:
    """Every kernel is in the log of each architecture, without spills, and no warning.

    Returns each kernel's registers, of the architecture that wants most.
    """
    assert not re.findall(r".*\b(?:warning|error)\b.*", log, re.IGNORECASE)
    kernels = EmulatedDevice().compile(REAL=precision).kernels
    compiled = re.findall(
        r"entry function '(\w+)' for '(\w+)'\n.*\n\D*(\d+) bytes stack frame, "
        r"(\d+) bytes spill stores, (\d+) bytes spill loads\n.*Used (\d+) registers",
        log,
    )
    assert {(name, arch) for name, arch, *_ in compiled} == {
        (name, arch) for name in kernels for arch in architectures
    }
    # A stack frame is an array that did not fit into registers: memory traffic like a spill.
    assert [entry for entry in compiled if entry[2:5] != ("0", "0", "0")] == []
    registers: dict[str, int] = {}
    for name, *_, used in compiled:
        registers[name] = max(registers.get(name, 0), int(used))
    return registers


def blocks_that_fit(registers: int) -> int:
    """Blocks of a kernel for whose warps a multiprocessor has registers."""
    portions = -(-registers * cuda.WARP // PORTION)
    return REGISTERS // (portions * PORTION * cuda.THREADS // cuda.WARP)


@pytest.fixture(scope="module")
def compiled() -> Iterator[dict[tuple[str, str], Future[tuple[str, bytes, str]]]]:
    """Log, machine code and PTX by architecture and precision, compiled side by side."""
    nvrtc, source = Nvrtc(), cuda.source()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield {
            (architecture, precision): pool.submit(nvrtc.compile, source, architecture, precision)
            for architecture in ARCHITECTURES
            for precision in PRECISIONS
        }


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_nvrtc(compiled, architecture, precision):
    log, code, ptx = compiled[architecture, precision].result()
    registers = assert_clean(log, (architecture,), precision)
    assert code.startswith(b"\x7fELF")
    bounds = re.findall(
        r"\.entry (\w+)\([^)]*\)\s*\.maxntid (\d+), 1, 1\s*\.minnctapersm (\d+)", ptx
    )
    assert {name for name, *_ in bounds} == set(registers)
    assert {int(threads) for _, threads, _ in bounds} == {cuda.THREADS}
    wanted = {name: int(blocks) for name, _, blocks in bounds}
    assert BLOCKS[precision].items() <= wanted.items()
    fitting = {name: blocks_that_fit(used) for name, used in registers.items()}
    assert {name: blocks for name, blocks in fitting.items() if blocks < wanted[name]} == {}
    # whose distances must be the same bits: what one has counted, the other one fills in
    for name in ("count_neighbours", "fill_neighbours"):
        (body,) = re.findall(rf"\.entry {name}\(.*?^}}", ptx, re.DOTALL | re.MULTILINE)
        assert "mul.rn.f64" in body
        assert "fma." not in body


@pytest.mark.skipif(NVCC is None, reason="nvcc is not installed; NVRTC compiles the same source")
@pytest.mark.parametrize("precision", PRECISIONS)
def test_nvcc(tmp_path, precision):
    source = tmp_path / "kernels.cu"
    source.write_text(cuda.source())
    numbers = [architecture.removeprefix("sm_") for architecture in ARCHITECTURES]
    targets = [f"-gencode=arch=compute_{n},code=sm_{n}" for n in numbers]
    options = ["-std=c++17", f"-DREAL={precision}", "-Xptxas", "-v", "--threads", "0"]
    command = [str(NVCC), "-fatbin", "-o", "kernels.fatbin", *targets, *options, str(source)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    log = run.stdout + run.stderr
    assert run.returncode == 0, log
    assert_clean(log, ARCHITECTURES, precision)
