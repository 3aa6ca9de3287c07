"""CUDA sources compiled by g++ for the host, and what a launch must know of a kernel."""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import shutil
import signal
import stat
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from cuda_emulation.device_memory import KernelError

FOLDER = Path(__file__).parent
#: Address space that stays empty around an array: what any int can index in 8-byte elements.
GUARD = 1 << 34

FLAGS = ("-std=c++17", "-fPIC", "-fvisibility=hidden", "-O2", "-g", "-march=native")
KERNEL_FLAGS = (
    "-Wno-unknown-pragmas",
    # Checks without a run-time library: a failed one is an illegal instruction, at its own line.
    *("-fsanitize=undefined,float-cast-overflow", "-fno-sanitize=vptr"),
    *("-fsanitize-undefined-trap-on-error", "-fno-crossjumping", "-fno-tree-tail-merge"),
)

#: C type of a kernel's parameter -> NumPy types that have its layout and meaning.
TYPES: dict[str, tuple[type[np.generic], ...]] = {
    "bool": (np.bool_,),
    "char": (np.int8, np.uint8, np.bool_),
    "signed char": (np.int8,),
    "unsigned char": (np.uint8, np.bool_),
    "short": (np.int16,),
    "unsigned short": (np.uint16,),
    "int": (np.int32,),
    "unsigned": (np.uint32,),
    "unsigned int": (np.uint32,),
    "long long": (np.int64,),
    "unsigned long long": (np.uint64,),
    "float": (np.float32,),
    "double": (np.float64,),
}


@dataclass(frozen=True)
class Parameter:
    """A parameter of a kernel."""

    name: str
    c_type: str
    pointer: bool
    const: bool
    restrict: bool

    @classmethod
    def parse(cls, declaration: str) -> Parameter:
        words = re.findall(r"\w+|\*", declaration)
        *words, name = words
        c_type = " ".join(w for w in words if w not in ("*", "const", "__restrict__", "volatile"))
        if c_type not in TYPES or words.count("*") > 1:
            raise ValueError(f"parameter '{declaration.strip()}': unknown type")
        pointer = "*" in words
        const = "const" in (words[: words.index("*")] if pointer else words)
        return cls(name, c_type, pointer, const, "__restrict__" in words)

    def check(self, value: Any) -> None:
        """Raises TypeError unless value is what the kernel reads."""
        expected = " or ".join(t.__name__ for t in TYPES[self.c_type])
        if self.pointer:
            if not isinstance(value, np.ndarray):
                raise TypeError(f"an array of {expected} is expected, not {type(value).__name__}")
            if value.dtype.type not in TYPES[self.c_type]:
                raise TypeError(f"an array of {expected} is expected, not of {value.dtype}")
            if not value.flags.c_contiguous:
                raise TypeError(f"the array (shape {value.shape}) is not C-contiguous")
            if not self.const and not value.flags.writeable:
                raise TypeError("the array is read-only, the kernel's pointer is not const")
        elif not isinstance(value, np.generic) or value.dtype.type not in TYPES[self.c_type]:
            raise TypeError(
                f"a numpy.{expected} is expected, not {value!r} ({type(value).__name__})"
            )


@dataclass(frozen=True)
class Module:
    """Kernels of one set of defines."""

    library_path: Path
    kernels: dict[str, tuple[Parameter, ...]]

    @cached_property
    def library(self) -> ctypes.CDLL:
        library = ctypes.CDLL(str(self.library_path))
        for name in self.kernels:
            getattr(library, f"emulate_{name}").restype = ctypes.c_char_p
        return library

    def failure(self, message: str, arrays: list[tuple[str, int, int]]) -> KernelError:
        """The error for a launch that a signal ended; arrays are (name, first, end)."""
        number = ctypes.c_int.in_dll(self.library, "emulation_signal").value
        if not number:
            return KernelError(message)
        address = ctypes.c_size_t.in_dll(self.library, "emulation_address").value
        instruction = ctypes.c_size_t.in_dll(self.library, "emulation_instruction").value
        what = {
            signal.SIGSEGV: "access to an address outside all arrays",
            signal.SIGBUS: "access to an address outside all arrays",
            signal.SIGFPE: "integer division by zero",
            signal.SIGILL: "undefined behaviour (overflow, index or cast out of range)",
        }[signal.Signals(number)]
        if number == signal.SIGSEGV:
            for name, first, end in arrays:
                if first - GUARD <= address < end + GUARD:
                    what = f"access {address - first} bytes into '{name}' ({end - first} bytes)"
        return KernelError(f"{message}: {what} at {self._line(instruction)}")

    def _line(self, instruction: int) -> str:
        """Where an instruction comes from in the source, and the calls inlined around it."""
        lines = _run(["addr2line", "-i", "-e", str(self.library_path), hex(instruction)], "")
        places = [Path(line).name for line in lines.splitlines()]
        places = [p for p in places if not p.startswith(("emulation.h:", "calls:"))]
        return ", called from ".join(places)


@lru_cache
def cublas() -> ctypes.CDLL:
    """The stand-in for cuBLAS."""
    path = _built("cublas.so", (*FLAGS, "-shared"), (FOLDER / "cublas.cpp").read_text())
    library = ctypes.CDLL(str(path))
    library.standin_take.restype = ctypes.c_void_p
    for name in ("run", "take", "begin_capture", "end_capture"):
        getattr(library, f"standin_{name}").argtypes = (ctypes.c_void_p,)
    return library


@lru_cache
def compiled(source: str, options: tuple[str, ...]) -> Module:
    """The module of a source, built unless an earlier session of this user has built it."""
    kernels = _signatures(_run([_compiler()[0], "-E", "-P", "-x", "c++", *options, "-"], source))
    runtime = _built("emulation.o", (*FLAGS, "-c"), (FOLDER / "emulation.cpp").read_text())
    calls = "\n".join(f"EMULATION_KERNEL({name})" for name in kernels)
    text = f'#include "emulation.h"\n#line 1 "kernels"\n{source}\n#line 1 "calls"\n{calls}\n'
    flags = (*FLAGS, *KERNEL_FLAGS, *options, "-shared", str(runtime), "-ldl")
    return Module(_built("kernels.so", flags, text), kernels)


def _built(name: str, flags: tuple[str, ...], text: str) -> Path:
    """What the compiler makes of a text; its name has the hash of all that it depends on."""
    compiler, version = _compiler()
    parts = (name, *flags, text, (FOLDER / "emulation.h").read_text(), compiler, version)
    result = _cache() / f"{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:24]}-{name}"
    if not result.exists():
        with tempfile.TemporaryDirectory(dir=_cache()) as folder:
            built = Path(folder, name)
            command = [compiler, f"-I{FOLDER}", "-o", str(built), "-x", "c++", "-", "-x", "none"]
            _run([*command, *flags], text)
            built.replace(result)
    return result


@lru_cache
def _compiler() -> tuple[str, str]:
    """The C++ compiler and its version."""
    compiler = os.environ.get("CXX") or shutil.which("g++")
    if compiler is None:
        raise RuntimeError("no C++ compiler: install g++, or name one in CXX")
    return compiler, _run([compiler, "--version"], "")


def _signatures(preprocessed: str) -> dict[str, tuple[Parameter, ...]]:
    """Name and parameters of each kernel in a preprocessed source."""
    kernels = {
        match["name"]: tuple(
            Parameter.parse(p) for p in match["parameters"].split(",") if p.strip()
        )
        for match in re.finditer(
            r'extern\s+"C"\s+__global__\s+(?:void\s+|__launch_bounds__\s*\([^)]*\)\s*)+'
            r"(?P<name>\w+)\s*\((?P<parameters>[^)]*)\)",
            preprocessed,
        )
    }
    if len(kernels) != len(re.findall(r"\b__global__\b", preprocessed)):
        raise ValueError(
            'a __global__ function is not of the form extern "C" __global__ void NAME(TYPE NAME, '
            f"...); found: {', '.join(kernels)}"
        )
    return kernels


def _run(command: list[str], text: str) -> str:
    run = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if run.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{run.stderr}")
    return run.stdout


def _cache() -> Path:
    """A folder that only this user can write."""
    folder = Path(tempfile.gettempdir(), f"lmp-dp-cuda-emulation-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise RuntimeError(f"{folder} belongs to someone else: remove it or set TMPDIR")
    return folder
