"""`.ci/run-gpu` and `.ci/gpu-wheels`: what of them needs no device and no network."""

from __future__ import annotations

import base64
import csv
import hashlib
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import devices
import exercise
import facts
import installed
import smoke
import stages
import systems
import wheels
from conftest import INPUTS, TESTS
from cuda_emulation.emulated_device import EmulatedDevice
from lmp_dp.engine.gpu import engine
from lmp_dp.engine.gpu.device import Device

CI = TESTS.parent / ".ci"


@pytest.mark.parametrize("script", ["run", "run-gpu", "gpu-wheels"])
def test_shell_reads_it(script: str) -> None:
    subprocess.run(["bash", "-n", str(CI / script)], check=True)
    assert os.access(CI / script, os.X_OK)


def run_gpu(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Without any device."""
    environment = {**os.environ, "PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": "", **env}
    return subprocess.run(
        [str(CI / "run-gpu"), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "name a stage"),
        (("facts", "fact"), "what is 'fact'?"),
        (("facts", "--out"), "--out needs a value"),
    ],
)
def test_wrong_use(arguments: tuple[str, ...], says: str) -> None:
    done = run_gpu(*arguments)
    assert done.returncode == 2
    assert says in done.stderr


def test_failed_stages_are_counted_and_skipped_ones_named(tmp_path: Path) -> None:
    """No device; a sanitizer that finds a race; and no ncu, unless this machine has one."""
    tools = tmp_path / "bin"
    tools.mkdir()
    sanitizer = tools / "compute-sanitizer"
    sanitizer.write_text('#!/bin/sh\n[ "$2" != racecheck ] || exit 9\n')
    sanitizer.chmod(0o755)
    done = run_gpu(
        *("--out", str(tmp_path / "out"), "facts", "sanitize", "profile"),
        PATH=f"{tools}:{os.environ['PATH']}",
        CUDA_HOME=str(tmp_path),
    )
    summary = (tmp_path / "out" / "summary.txt").read_text()
    assert re.search(r"^== setup: ok", summary, re.M), done.stdout
    assert re.search(r"^== facts: FAILED: exit 1", summary, re.M)
    assert "no device was measured: backend gpu needs CuPy" in done.stdout or (
        "no device was measured: backend gpu needs a CUDA device" in done.stdout
    )
    assert re.search(r"^== sanitize: FAILED: exit 1", summary, re.M)
    assert re.findall(r"^(\w+check): exit (\d)", done.stdout, re.M) == [
        ("memcheck", "0"),
        ("racecheck", "9"),
        ("synccheck", "0"),
    ]
    if shutil.which("ncu") is None:
        assert re.search(r"^== profile: skipped: no ncu", summary, re.M)
        assert summary.splitlines()[-1] == "== 3 stages: 2 failed, 1 skipped"
        assert done.returncode == 2
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names <= {"summary.txt", "log.txt", "reports.tar", "profile.ncu-rep", "profile.csv"}


def test_a_package_of_another_checkout(tmp_path: Path) -> None:
    ours, other = tmp_path / "ours", tmp_path / "other"
    for folder in (ours, other):
        (folder / "part").mkdir(parents=True)
        (folder / "part" / "a.py").write_text("same")
        (folder / "part" / "plugin.so").write_text(str(folder))
    assert not installed.differing(ours, other)
    (other / "part" / "a.py").write_text("changed")
    (ours / "new.cu").write_text("")
    (other / "old.py").write_text("")
    assert installed.differing(ours, other) == ["new.cu", "old.py", "part/a.py"]


def test_requirements_that_are_not_installed() -> None:
    asked = ["numpy>=1.26", "no-such-thing==1.0", 'neither-this; extra == "test"', "h5py"]
    assert installed.missing(asked) == ["no-such-thing"]


def test_a_slimmed_wheel_has_its_record(tmp_path: Path) -> None:
    name, record = "mpich-1.0-py3-none-any.whl", "mpich-1.0.dist-info/RECORD"
    kept = {
        "mpich-1.0.data/data/lib/libmpi.so.12": b"\x7fELF library",
        "mpich-1.0.data/data/bin/mpirun": b"#!/bin/sh\n",
        "mpich-1.0.dist-info/METADATA": b"Name: mpich\n",
    }
    dropped = {
        "mpich-1.0.data/data/lib/libmpi_abi.so.1": b"other library",
        "mpich-1.0.data/data/include/mpi.h": b"header",
        "mpich-1.0.data/data/bin/mpicc": b"compiler",
    }
    source, result = tmp_path / name, tmp_path / "slim.whl"
    with zipfile.ZipFile(source, "w") as wheel:
        for path, data in {**kept, **dropped, record: b"a,b,c\n"}.items():
            entry = zipfile.ZipInfo(path)
            entry.external_attr = (0o755 if "/bin/" in path else 0o644) << 16
            wheel.writestr(entry, data)
    wheels.slim(source, result)
    with zipfile.ZipFile(result) as wheel:
        assert {path: wheel.read(path) for path in wheel.namelist() if path != record} == kept
        assert wheel.getinfo("mpich-1.0.data/data/bin/mpirun").external_attr >> 16 == 0o755
        rows = list(csv.reader(wheel.read(record).decode().splitlines()))
    digests = {
        path: base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
        for path, data in kept.items()
    }
    assert rows == [
        *([path, f"sha256={digests[path]}", str(len(data))] for path, data in kept.items()),
        [record, "", ""],
    ]


def test_names_of_distributions() -> None:
    assert wheels.names_in(["Ruamel.Yaml, numpy==2.1", "h5py>=3;python"]) == {
        *("ruamel-yaml", "numpy", "h5py"),
    }
    assert wheels.distribution("markdown_it_py-4.3.0-py3-none-any.whl") == "markdown-it-py"


LOG = """
Step TotEng Press Volume Atoms
0 -100.0 1000.0 80.0 8
WARNING: something
1 -100.5 2000.0 80.0 8
Loop time of 1 on 1 procs for 1 steps with 8 atoms
"""


def test_deviations_of_runs() -> None:
    rows = smoke.rows_of(LOG)
    assert rows.tolist() == [[0, -100, 1000, 80, 8], [1, -100.5, 2000, 80, 8]]
    others = rows.copy()
    others[1, 1] += 8e-9
    others[0, 2] -= 1.6021765  # bar: 1e-6 eV/Å^3
    assert smoke.deviations(rows, others) == pytest.approx((1e-9, 1e-5))
    with pytest.raises(ValueError, match="differ in steps"):
        smoke.deviations(rows, rows[:1])
    others[0, 1] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        smoke.deviations(rows, others)


def test_runs_are_smaller_and_larger_than_what_is_recorded() -> None:
    for name, atoms in (("copper", 4), ("water", 192)):
        sizes = [atoms * of.times**3 for of in smoke.ON_A_DEVICE if of.system == name]
        assert min(sizes) <= engine.GRAPH_CENTRES < max(sizes)


def test_launches_and_products_are_timed() -> None:
    """By a clock that counts the calls of the device."""
    calls: list[tuple[object, ...]] = []
    bare = SimpleNamespace(
        name="bare",
        launch=lambda *args: calls.append(args),
        multiply=lambda *args: calls.append(args),
        send=lambda *args: calls.append(args),
    )
    clock = SimpleNamespace(mark=lambda: len(calls), seconds=lambda begin, end: float(end - begin))
    device = devices.Timed(bare, clock)
    assert device.name == "bare"
    device.launch("module", "untimed", 1)
    device.spans = []
    device.launch("module", "kernel", 2, "argument")
    device.launch("module", "nothing", 0)
    device.multiply(np.ones((3, 5)), np.ones((5, 7)), np.empty((3, 7)))
    device.launch("module", "kernel", 2, "argument")
    device.send(np.empty(1000), np.empty(500))
    assert [call[:3] for call in calls if len(call) == 4] == [("module", "kernel", 2)] * 2
    assert len(calls) == 5
    assert device.launched == {"untimed", "kernel"}
    assert stages.parts_of(device.spans, clock) == [
        stages.Part("kernel", 2, 2.0, 0.0, 0.0),
        stages.Part("product 5 x 7", 1, 1.0, pytest.approx(2 * 3 * 5 * 7 * 1e-12), 0.0),
        stages.Part("send", 1, 1.0, 0.0, pytest.approx(8 * 500 * 1e-9)),
    ]


def test_products_beside_their_ceiling(tmp_path: Path) -> None:
    path = tmp_path / "facts.json"
    assert stages.ceiling(path, "float64") == 0.0
    rates = {"product_1x2x3_float64_tflops": 20.0, "product_4x5x6_float64_tflops": 40.0}
    path.write_text(json.dumps({"device": {**rates, "product_4x5x6_float32_tflops": 50.0}}))
    assert stages.ceiling(path, "float64") == 40.0
    parts = [stages.Part("kernel", 2, 3e-3, 0, 0), stages.Part("product 5 x 7", 1, 1e-3, 10.0, 0)]
    step = stages.Step("d", "copper", "float64", 1 << 20, 1000, 1200, 1.0, 5e-3, 40.0, parts)
    assert "step 5000.0 ns per atom (first 1000000)" in step.title
    assert "4000.0 in 3 launches, 1000.0 between them" in step.title
    assert re.findall(r"(\d+) x +([\d.]+) +(\d+)%", step.table) == [
        ("2", "3000.0", "75"),
        ("1", "1000.0", "25"),
    ]
    assert step.table.endswith("10.0 TFLOP/s, 25% of the ceiling")


@pytest.mark.parametrize("name", ["launch", "multiply", "send", "fetch"])
def test_what_is_timed_is_of_the_protocol(name: str) -> None:
    timed, asked = (inspect.signature(getattr(of, name)) for of in (devices.Timed, Device))
    assert list(timed.parameters) == list(asked.parameters)


class OnDevice(np.ndarray):
    """An array with what CuPy's has besides."""

    def set(self, array: np.ndarray) -> None:
        self[...] = array

    def get(self, out: np.ndarray) -> None:
        out[...] = self


def test_ceilings_by_a_clock_of_one_millisecond(monkeypatch: pytest.MonkeyPatch) -> None:
    properties = {"name": b"stand-in", "major": 9, "minor": 0, "multiProcessorCount": 132}
    properties |= {"l2CacheSize": 60 << 20, "totalGlobalMem": 141 << 30}
    event = SimpleNamespace(record=lambda: None, synchronize=lambda: None)
    cupy = SimpleNamespace(
        asarray=lambda array, dtype=None: np.asarray(array, dtype).view(OnDevice),
        **{name: getattr(np, name) for name in ("empty", "empty_like", "copyto", "matmul")},
        RawKernel=lambda source, name: lambda grid, block, arguments: None,
        cuda=SimpleNamespace(
            Event=lambda: event,
            get_elapsed_time=lambda begin, end: 1.0,  # ms
            alloc_pinned_memory=bytearray,
            runtime=SimpleNamespace(
                getDeviceProperties=lambda index: properties,
                driverGetVersion=lambda: 13000,
                runtimeGetVersion=lambda: 13000,
            ),
        ),
    )
    monkeypatch.setattr(facts, "ON_DEVICE", 2000)
    monkeypatch.setattr(facts, "ACROSS", 500)
    monkeypatch.setattr(facts, "PRODUCTS", ((50, 4, 5),))
    found = facts.device(cupy)
    assert found["compute_capability"] == "9.0"
    assert found["copy_gb_s"] == pytest.approx(2 * 8 * 2000 / 1e-3 / 1e9)
    assert found["up_gb_s"] == found["down_gb_s"] == pytest.approx(8 * 500 / 1e-3 / 1e9)
    assert found["product_50x4x5_float32_tflops"] == pytest.approx(2 * 50 * 4 * 5 / 1e-3 / 1e12)
    assert found["launch_us"] == pytest.approx(1.0)


def test_kernels_are_known_by_name() -> None:
    device = devices.Timed(EmulatedDevice(), devices.HostClock())
    names = set(device.compile(REAL="double").kernels)
    assert set(exercise.not_launched(device)) == names
    device.launched = {"environment"}
    assert set(exercise.not_launched(device)) == names - {"environment"}


def test_bulk_copper() -> None:
    one = systems.read(INPUTS / "benchmarks" / "copper.data", np.zeros(1, np.int32))
    box = one.replicated(3)
    assert len(box.types_a) == 4 * 27
    assert box.edges_c == pytest.approx([3 * 3.615] * 3)
    r_aac = box.positions_ac[:, None] - box.positions_ac
    r_aac -= np.rint(r_aac / box.edges_c) * box.edges_c
    distances_aa = np.linalg.norm(r_aac, axis=-1)
    assert ((distances_aa < 2.6).sum(axis=1) == 1 + 12).all()
    assert distances_aa[distances_aa > 0].min() == pytest.approx(3.615 / np.sqrt(2))


def test_water_in_the_order_of_the_model() -> None:
    box = systems.system("water", ("H", "O"), 2)
    assert np.bincount(box.types_a).tolist() == [2 * 64 * 8, 64 * 8]
    nb = box.neighbourhood(6.0, 1.0)
    assert nb.n_local == len(box.types_a)
    assert nb.build
    assert (nb.offsets_n, nb.neighbours_p) == (None, None)
