"""Importing lmp_dp is cheap and pulls in nothing heavy; running needs no TensorFlow."""

from __future__ import annotations

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
