"""Kernels that came compiled: taken without a compilation, by this user, and by the right CPUs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import llvmlite.binding
import pytest

from lmp_dp import child
from lmp_dp.engine.cpu import precompiled

LEVEL = "x86-64-v3"
#: One small kernel, and where its machine code came from.
RUN = """
import numpy as np
if "early" in sys.argv:
    import numba
    numba.njit(lambda x: x)(1)
from lmp_dp.engine.cpu.kernels.compiled import cache_directory
from lmp_dp.engine.cpu.kernels.gates import gate
from lmp_dp.engine.cpu.precompiled import target_features
g, zeros = np.ones((2, 3)), np.zeros((2, 3))
gate(np.ones(3), np.full(2, 2.0), np.ones(2), g, zeros)
assert (g == 3.0).all(), g
stats = gate.stats
print(cache_directory(), sum(stats.cache_hits.values()), sum(stats.cache_misses.values()))
print(target_features())
"""


def run(*arguments: str, **environment: str) -> tuple[Path, int, int, str]:
    """The folder of kernels, hits and misses of its one kernel, and what was compiled for."""
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("NUMBA_", "LMP_DP_"))}
    done = subprocess.run(
        child.command(RUN, *arguments),  # also in the root of a clone, where a fixture runs
        check=True,
        capture_output=True,
        text=True,
        env=plain | environment,
    )
    first, features = done.stdout.splitlines()
    folder, hits, misses = first.split()
    return Path(folder), int(hits), int(misses), features


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Kernels as docker/kernels.py leaves them."""
    root = tmp_path_factory.mktemp("kernels")
    features = precompiled.written(LEVEL)
    _, hits, misses, target = run(
        NUMBA_CPU_NAME=LEVEL, NUMBA_CPU_FEATURES=features, NUMBA_CACHE_DIR=str(root / LEVEL)
    )
    assert (hits, misses, target) == (0, 1, features)
    return root


def reached() -> bool:
    host = llvmlite.binding.get_host_cpu_features()
    return all(host.get(feature) for feature in precompiled.LEVELS[LEVEL].split())


def test_kernels_that_came_compiled_are_taken(shipped: Path, tmp_path: Path) -> None:
    places = {"LMP_DP_KERNELS": str(shipped), "NUMBA_CACHE_DIR": str(tmp_path)}
    for _ in range(2):  # copied, and found in the copy
        folder, hits, misses, target = run(**places)
        assert folder.parent == tmp_path
        if reached():
            assert (hits, misses, target) == (1, 0, precompiled.written(LEVEL))
            assert folder.name.endswith(f"-{LEVEL}")
        else:
            assert not folder.name.endswith(LEVEL)
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]  # no half copies


def test_other_choices_come_first(shipped: Path, tmp_path: Path) -> None:
    """The user's own target, and one that is fixed since something was compiled before."""
    places = {"LMP_DP_KERNELS": str(shipped), "NUMBA_CACHE_DIR": str(tmp_path)}
    host = llvmlite.binding.get_host_cpu_features().flatten()
    name = llvmlite.binding.get_host_cpu_name()
    for choice, expected in (
        (run("early", **places), (0, 1)),
        (run(NUMBA_CPU_NAME=name, **places), (1, 0)),  # what the first has compiled
    ):
        folder, *found, target = choice
        assert target == host
        assert not folder.name.endswith(LEVEL)
        assert tuple(found) == expected


def test_levels_are_in_order() -> None:
    v4, v3 = (set(features.split()) for features in precompiled.LEVELS.values())
    assert v3 < v4
