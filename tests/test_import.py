"""Importing lmp_dp is cheap and pulls in nothing heavy; running needs no TensorFlow."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

HEAVY = ("tensorflow", "torch", "cupy", "matplotlib", "deepmd", "numba", "h5py", "numpy")


def run_python(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout


def test_import_is_light_and_fast() -> None:
    code = (
        "import sys, time; start = time.perf_counter(); import lmp_dp; "
        f"print(time.perf_counter() - start, [m for m in {HEAVY} if m in sys.modules])"
    )
    seconds, _, modules = run_python(code).strip().partition(" ")
    assert float(seconds) < 0.5
    assert modules == "[]"


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_evaluating_needs_no_framework(backend: str, water_model) -> None:
    """With the frameworks made unimportable, a model is loaded and evaluated."""
    code = f"""
import sys
for name in ("tensorflow", "torch", "cupy", "matplotlib", "deepmd"):
    sys.modules[name] = None
from lmp_dp import Potential
print(Potential({str(water_model)!r}, backend={backend!r}).evaluate(
    [[0, 0, 0], [1, 0, 0]], ["O", "H"], [9, 9, 9]).energy)
"""
    assert float(run_python(code)) < 0


def test_reference_needs_no_numba(water_model) -> None:
    code = f"""
import sys
sys.modules["numba"] = None
from lmp_dp import Potential
print(Potential({str(water_model)!r}, backend="reference").evaluate(
    [[0, 0, 0], [1, 0, 0]], ["O", "H"], [9, 9, 9]).energy)
"""
    assert float(run_python(code)) < 0


def test_kernels_compile_where_no_home_can_be_written(water_model, tmp_path) -> None:
    """A read-only home: machine code goes below the folder for temporary files."""
    code = f"""
from lmp_dp import Potential
from lmp_dp.engine.kernels.compiled import cache_directory
Potential({str(water_model)!r}).evaluate([[0, 0, 0], [1, 0, 0]], ["O", "H"], [9, 9, 9])
print(cache_directory(), any(cache_directory().rglob("*.nbi")))
"""
    plain = {k: v for k, v in os.environ.items() if k not in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        env={**plain, "HOME": "/proc/nowhere", "TMPDIR": str(tmp_path)},
    )
    folder, written = done.stdout.split()
    assert folder.startswith(str(tmp_path))
    assert written == "True"
