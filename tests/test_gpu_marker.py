"""What is marked gpu, where there is no device: skipped with the reason, or failed on demand."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys

import pytest

from conftest import TEST_GPU, TESTS

ONE = "tests/engine/test_potential.py::test_gpu_reference_agrees_with_numpy[cuda]"


def run_pytest(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Of this suite, in one process that sees no device whatever the machine has."""
    environment = {name: value for name, value in os.environ.items() if name != TEST_GPU}
    options = ("-o", "addopts=", "-ra", "-p", "no:cacheprovider")
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, *arguments],
        cwd=TESTS.parent,
        env={**environment, "CUDA_VISIBLE_DEVICES": "", **env},
        capture_output=True,
        text=True,
        check=False,
    )


def test_skipped_with_the_reason() -> None:
    done = run_pytest(ONE)
    assert done.returncode == 0, done.stdout
    assert "1 skipped" in done.stdout
    assert "CuPy is not installed" in done.stdout or "no CUDA device: " in done.stdout


def test_failed_where_a_device_is_required() -> None:
    done = run_pytest(ONE, **{TEST_GPU: "required"})
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout
    assert f"skipped, but {TEST_GPU} is set: " in done.stdout
    assert "skipped" not in done.stdout.splitlines()[-1]


def test_a_misspelled_demand() -> None:
    done = run_pytest(ONE, **{TEST_GPU: "yes"})
    assert done.returncode == pytest.ExitCode.USAGE_ERROR, done.stdout
    assert f"{TEST_GPU} is 'yes', expected 'required'" in done.stderr


def test_no_file_that_is_skipped_as_a_whole_has_tests_for_a_device() -> None:
    """Files that need what a machine with a GPU may not have (ase): no demand would notice it."""
    whole = [
        path
        for path in sorted(TESTS.rglob("test_*.py"))
        if any(
            isinstance(node, ast.Expr) and "importorskip" in ast.unparse(node)
            for node in ast.parse(path.read_text()).body
        )
    ]
    assert whole
    for path in whole:
        assert not re.search(r"mark\.gpu|\b(gpu_device|cupy)\b", path.read_text()), path.name
