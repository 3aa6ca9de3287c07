"""Importing lmp_dp is cheap and pulls in nothing heavy; running needs no TensorFlow."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from conftest import MODELS

FRAMEWORKS = ("tensorflow", "torch", "cupy", "matplotlib", "deepmd")
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
for name in {FRAMEWORKS}:
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


def test_converting_needs_no_framework(tmp_path) -> None:
    """Binary and text, from the command line; unproven, since deepmd-kit proves it."""
    code = f"""
import sys
from google.protobuf import text_format
for name in {FRAMEWORKS}:
    sys.modules[name] = None
from pathlib import Path
from lmp_dp import Potential, cli
from lmp_dp.model.sources.tensorflow import graphdef
source = Path({str(MODELS / "oh_one_sided.pb")!r})
Path("text.pbtxt").write_text(
    text_format.MessageToString(graphdef.parse(source.read_bytes(), text=False)))
for path in (source, "text.pbtxt"):
    assert cli.main(["convert", str(path), "model.h5"]) == 0
    print(Potential("model.h5", "reference").evaluate(
        [[0, 0, 0], [1, 0, 0]], ["O", "H"], [9, 9, 9]).energy)
assert not [name for name in {FRAMEWORKS} if sys.modules[name]]
"""
    said, *rest = run_python(code).splitlines()
    assert "unproven" in said
    assert rest[0] == rest[2]
    assert rest[1] == said


@pytest.mark.parametrize(
    "module",
    ["engine.lowering", "engine.reference", "engine.gpu", "tools.compress", "tools.convert"],
)
def test_imports_without_numba(module: str) -> None:
    """Only the cpu backend needs numba; what is neutral or the gpu's does not import it."""
    code = f"""
import sys
sys.modules["numba"] = sys.modules["llvmlite"] = None
import lmp_dp.{module}
print([name for name in sys.modules if name.startswith("lmp_dp.engine.cpu")])
"""
    assert run_python(code).strip() == "[]"


def test_lowering_needs_no_numba(water_model) -> None:
    code = f"""
import sys
sys.modules["numba"] = sys.modules["llvmlite"] = None
from lmp_dp.engine.lowering import lower
from lmp_dp.model import load
print(lower(load({str(water_model)!r}), 0).n_features)
"""
    # M = 100 channels, 16 of them second factors: pairs a >= b
    assert int(run_python(code)) == 100 * 16 - 16 * 15 // 2


def test_kernels_compile_where_no_home_can_be_written(water_model, tmp_path) -> None:
    """A read-only home: machine code goes below the folder for temporary files."""
    code = f"""
from lmp_dp import Potential
from lmp_dp.engine.cpu.kernels.compiled import cache_directory
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
