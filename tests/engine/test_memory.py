"""Atoms are processed in chunks: peak memory of large systems, in processes of their own."""

from __future__ import annotations

import subprocess
import sys

import pytest

from conftest import INPUTS

SCRIPT = """
import re
import sys
from pathlib import Path

import numpy as np

from lmp_dp import Potential

backend, n = sys.argv[1], int(sys.argv[2])
text = open(sys.argv[3]).read().split("Atoms # atomic\\n\\n")[1].split("\\n\\n")[0]
rows = np.array([line.split()[:5] for line in text.splitlines()], dtype=float)
edge = 12.4447
shifts = np.stack(np.meshgrid(*[np.arange(n)] * 3, indexing="ij"), -1).reshape(-1, 1, 3)
positions = (rows[None, :, 2:] + edge * shifts).reshape(-1, 3)
types = np.tile(rows[:, 1].astype(int) - 1, n**3)
result = Potential(sys.argv[4], backend=backend).evaluate(positions, types, [n * edge] * 3)
# not getrusage's: that begins with what the process had that started this one
peak_kb = re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1]
print(len(types), result.energy / n**3, int(peak_kb) * 1024)
"""


def peak(backend: str, n: int) -> tuple[int, float, float]:
    """Atoms, energy per copy of water192 (eV), peak memory (bytes)."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            SCRIPT,
            backend,
            str(n),
            str(INPUTS / "water192.data"),
            str(INPUTS / "models" / "water.h5"),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    atoms, energy, memory = done.stdout.split()
    return int(atoms), float(energy), float(memory)


@pytest.mark.slow
def test_a_hundred_thousand_water_atoms_stay_under_4_gb() -> None:
    atoms, energy, memory = peak("cpu", 8)
    assert atoms == 98_304
    assert memory < 4e9
    assert energy == pytest.approx(-29945.2247, abs=1e-3)  # as one copy, and as pair deepmd


def test_reference_engine_works_in_chunks() -> None:
    """Dense arrays of all atoms would take 5,184 atoms * 138 slots * 20 kB = 14 GB."""
    atoms, energy, memory = peak("reference", 3)
    assert atoms == 5_184
    assert memory < 1.5e9
    assert energy == pytest.approx(-29945.2247, abs=1e-3)
