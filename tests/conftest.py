"""Fixtures shared by all tests: models, data, and the recorded values of DeePMD-kit."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest

if TYPE_CHECKING:
    from lmp_dp.engine.gpu.device import Device

TESTS = Path(__file__).parent
INPUTS = TESTS.parent / "lammps_inputs"
MODELS = TESTS / "models"
#: Trained models that the package ships, recorded under the same names.
TRAINED = ("cu", "water", "hea")
RANDOM = tuple(sorted(path.stem for path in MODELS.glob("*.pb")))
RECORDED = (*RANDOM, *TRAINED)
#: Models in DeePMD-kit's v3 formats, by PyTorch or NumPy.
V3 = tuple(sorted(path.stem for path in (MODELS / "v3").iterdir()))

#: A terminal would take these as a title, a cleared screen, text written backwards, a new line.
HOSTILE = "\x1b]0;title\x07\x1b[2J\u202etxt\r\n[bold]x[/]y[/nothing] $x {%d} <b>"
#: How rich colours text and hides the cursor, the only control characters that are ours.
COLOURS = re.compile(r"\x1b\[[0-9;]*m|\x1b\[\?25[lh]|\x1b\[2K|\x1b\[1A|\r")

#: Environment variable. "required": what is marked gpu must not be skipped, for whatever reason.
TEST_GPU = "LMP_DP_TEST_GPU"

needs_deepmd = pytest.mark.skipif(
    importlib.util.find_spec("deepmd") is None, reason="deepmd-kit is not installed"
)


def pytest_configure() -> None:
    """Refuse a misspelled demand for a device; forget what else steers us on this machine."""
    if (wish := os.environ.get(TEST_GPU, "")) not in ("", "required"):
        raise pytest.UsageError(f"{TEST_GPU} is {wish!r}, expected 'required', or nothing")
    for name in [n for n in os.environ if n.startswith("LMP_DP_") and n != TEST_GPU]:
        del os.environ[name]


@functools.cache
def no_device() -> str:
    """Why tests marked gpu cannot run on this machine; empty where they can."""
    from lmp_dp.engine.gpu.device import device_count
    from lmp_dp.errors import BackendError

    if importlib.util.find_spec("cupy") is None:
        return "CuPy is not installed"
    try:
        device_count()
    except BackendError as error:
        return f"no CUDA device: {str(error).removeprefix('backend gpu needs a CUDA device: ')}"
    return ""


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what is marked gpu where there is no device; this is the only place that does."""
    if item.get_closest_marker("gpu") and (reason := no_device()):
        pytest.skip(reason)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Fail what is marked gpu and skipped where a device is required."""
    report = yield
    if report.skipped and item.get_closest_marker("gpu") and os.environ.get(TEST_GPU):
        report.outcome = "failed"
        report.longrepr = f"skipped, but {TEST_GPU} is set: {report.longrepr[2]}"
    return report


@dataclass
class Frame:
    """A configuration with what DeepPot.eval gave for it."""

    name: str
    positions: np.ndarray
    cell: np.ndarray | None
    types: np.ndarray
    energy: float
    forces: np.ndarray
    virial: np.ndarray
    atom_energies: np.ndarray
    atom_virials: np.ndarray
    fparam: np.ndarray | None = None
    aparam: np.ndarray | None = None


def assert_nothing_steers(text: str) -> None:
    """Nothing but printable text, new lines, and what colours it."""
    assert all(char.isprintable() or char == "\n" for char in COLOURS.sub("", text)), text


def source_graph(name: str) -> Path:
    """The source of a recorded model: a frozen graph, or a file of a v3 format."""
    if name in V3:
        return next((MODELS / "v3").glob(f"{name}.*"))
    return INPUTS / "models" / f"{name}.pb" if name in TRAINED else MODELS / f"{name}.pb"


def recorded_frames(name: str) -> list[Frame]:
    """All frames recorded for a model."""

    def read(group: h5py.Group) -> Frame:
        values = {key: np.asarray(group[key][()]) for key in group}
        return Frame(
            name=group.name,
            positions=values["positions"],
            cell=values.get("cell"),
            types=values["types"],
            energy=float(values["energy"]),
            forces=values["forces"],
            virial=values["virial"],
            atom_energies=values["atom_energies"],
            atom_virials=values["atom_virials"],
            fparam=values.get("fparam"),
            aparam=values.get("aparam"),
        )

    with h5py.File(MODELS / ("recorded_v3.h5" if name in V3 else "recorded.h5")) as file:
        return [read(group) for group in file[name].values()]


@pytest.fixture(scope="session")
def converted(tmp_path_factory: pytest.TempPathFactory):
    """Function: name of a recorded model -> its model file, converted once per session."""
    from lmp_dp.tools.convert import convert

    folder = tmp_path_factory.mktemp("converted")

    def get(name: str) -> Path:
        path = folder / f"{name}.h5"
        if not path.exists():
            convert(source_graph(name), path)
        return path

    return get


@pytest.fixture(scope="session")
def compressed():
    """Trained models with tables, by name; each is made once per session."""
    from lmp_dp.model import load
    from lmp_dp.tools.compress import compress

    class Compressed(dict):
        def __missing__(self, name: str):
            self[name] = compress(load(INPUTS / "models" / f"{name}.h5"))
            return self[name]

    return Compressed()


@pytest.fixture(scope="session")
def compressed_file(compressed, tmp_path_factory: pytest.TempPathFactory):
    """Function: name of a trained model -> its file with tables."""
    from lmp_dp.model import save

    folder = tmp_path_factory.mktemp("compressed")

    def get(name: str) -> Path:
        path = folder / f"{name}.h5"
        if not path.exists():
            save(compressed[name], path)
        return path

    return get


@pytest.fixture(scope="session")
def cu_model() -> Path:
    return INPUTS / "models" / "cu.h5"


@pytest.fixture(scope="session")
def water_model() -> Path:
    return INPUTS / "models" / "water.h5"


@pytest.fixture(scope="session")
def hea_model() -> Path:
    return INPUTS / "models" / "hea.h5"


@pytest.fixture(scope="session")
def water_data() -> Path:
    return INPUTS / "water192.data"


#: Tests that are made on emulated devices, and once more, marked gpu, on a real one.
EMULATED_AND_CUDA = ("emulated", pytest.param("cuda", marks=pytest.mark.gpu))


@pytest.fixture(params=EMULATED_AND_CUDA)
def gpu_device(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], Device]:
    """Function: a device, as backend gpu takes it."""
    from lmp_dp.engine.gpu import device

    if request.param == "emulated":
        from cuda_emulation.emulated_device import EmulatedDevice

        monkeypatch.setattr(device, "CudaDevice", lambda _index: EmulatedDevice())
    return lambda: device.CudaDevice(0)


@pytest.fixture(params=EMULATED_AND_CUDA)
def cupy(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module, or what emulated devices have in its place."""
    if request.param == "emulated":
        from cuda_emulation.device_memory import EmulatedCuPy, Memory
        from lmp_dp.engine.gpu import device

        stand_in = EmulatedCuPy(Memory())
        monkeypatch.setitem(sys.modules, "cupy", stand_in)
        monkeypatch.setattr(device, "usable_cupy", lambda _backend: stand_in)
    return importlib.import_module("cupy")


@pytest.fixture(autouse=True)
def _inside_a_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """LAMMPS writes log.lammps where it runs: never into the source tree."""
    monkeypatch.chdir(tmp_path)
