"""Memory of the gpu backend: what it takes is what is counted, and what happens where it is short.

The emulated device counts all arrays, up to a ceiling.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cuda_emulation.emulated_device import EmulatedDevice
from engine.gpu.test_engine import EVERYTHING, neighbourhood, water_box
from lmp_dp.engine import Neighbourhood, Outputs, Result
from lmp_dp.engine.gpu import GpuEngine, lists
from lmp_dp.engine.gpu import engine as gpu
from lmp_dp.engine.gpu.chunk import Packed
from lmp_dp.engine.gpu.device import CudaDevice
from lmp_dp.engine.gpu.memory import System
from lmp_dp.engine.gpu.room import nbytes, with_headroom
from lmp_dp.errors import BackendError
from lmp_dp.model import load
from lmp_dp.model.deep_potential import DeepPotential


class CudaError(RuntimeError):
    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


class CUDARuntimeError(CudaError):
    pass


class CUDADriverError(CudaError):
    pass


class OutOfMemoryError(MemoryError):
    pass


def of_numpy() -> MemoryError:
    """What NumPy raises where the host's memory is used up."""
    with pytest.raises(MemoryError) as error:
        np.empty(1 << 55)
    return error.value


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OutOfMemoryError("CuPy's pool"), True),
        (MemoryError("std::bad_alloc: cudaErrorMemoryAllocation: out of memory"), True),
        (CUDADriverError(2), True),
        (CUDADriverError(700), False),
        (CUDARuntimeError(2), False),  # pinned memory is the host's
        (of_numpy(), False),
        (RuntimeError("out of memory"), False),
    ],
    ids=repr,
)
def test_whose_memory_is_used_up(error, expected) -> None:
    device = object.__new__(CudaDevice)  # which none is needed for
    device.xp = SimpleNamespace(
        cuda=SimpleNamespace(
            memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
            driver=SimpleNamespace(CUDADriverError=CUDADriverError),
        )
    )
    assert device.ran_out_of_memory(error) == expected


@dataclass(frozen=True)
class Whole:
    """Water on a device with enough memory."""

    model: DeepPotential
    nb: Neighbourhood
    result: Result
    peak: int
    of_chunks: int


@pytest.fixture(scope="module")
def whole(water_model) -> Whole:
    model = load(water_model)
    nb = neighbourhood(*water_box(), model.rcut, 1.0)
    nb.build = 1
    engine = GpuEngine(model, EmulatedDevice())
    result = engine.compute(nb, EVERYTHING)
    assert chunks(engine) == 2  # one per element
    room = engine._room
    of_chunks = sum(map(nbytes, (room.moments, room.features_bi, room.layers)))
    return Whole(model, nb, result, engine.device.memory.peak, of_chunks)


def fails(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, error: Exception, times: int
) -> list[int]:
    """The first calls of a function raise; returns the list of those that were made."""
    function, calls = getattr(owner, name), []

    def failing(*args: Any, **kwargs: Any) -> Any:
        calls.append(len(calls))
        if len(calls) <= times:
            raise error
        return function(*args, **kwargs)

    monkeypatch.setattr(owner, name, failing)
    return calls


def agree(one: Result, two: Result) -> None:
    """But for the order of sums."""
    np.testing.assert_allclose(one.forces_ac, two.forces_ac, rtol=0, atol=1e-12)
    assert one.energy == pytest.approx(two.energy, rel=1e-14)


def chunks(engine: GpuEngine) -> int:
    assert engine._lists is not None
    return len(engine._lists.chunks)


def test_the_hosts_memory_is_the_hosts(whole, monkeypatch) -> None:
    engine = GpuEngine(whole.model, EmulatedDevice())
    fails(monkeypatch, engine.device, "fetch", of_numpy(), 1)
    with pytest.raises(MemoryError, match="Unable to allocate"):
        engine.compute(whole.nb, EVERYTHING)
    again = engine.compute(whole.nb, EVERYTHING)
    np.testing.assert_array_equal(again.forces_ac, whole.result.forces_ac)
    assert engine._chunk_bytes == gpu.CHUNK_BYTES


@pytest.mark.parametrize("error", [MemoryError("Thrust's"), None], ids=["Thrust", "pool"])
def test_a_failure_in_the_lists_frees_and_leaves_chunks(error, whole, monkeypatch) -> None:
    engine = GpuEngine(whole.model, EmulatedDevice())
    memory, empty = engine.device.memory, engine.device.memory.used
    engine.compute(whole.nb, EVERYTHING)
    held: list[int] = []
    build = lists.build

    def failing(*args: Any) -> Any:
        held.append(memory.used)
        if len(held) == 1:
            if error:
                raise error
            engine.device.xp.empty(memory.ceiling, np.int8)
        return build(*args)

    monkeypatch.setattr(lists, "build", failing)
    result = engine.compute(dataclasses.replace(whole.nb, build=2), EVERYTHING)
    assert len(held) == 2
    # where the atoms are, twice: all else is gone
    n_bytes = whole.nb.positions_ac.nbytes
    assert held[1] - empty == n_bytes + with_headroom(n_bytes)
    assert held[0] - empty > 10 * (held[1] - empty)
    np.testing.assert_array_equal(result.forces_ac, whole.result.forces_ac)
    assert chunks(engine) == 2
    assert engine._chunk_bytes == gpu.CHUNK_BYTES


def test_lists_that_do_not_fit(whole) -> None:
    engine, nb = GpuEngine(whole.model, EmulatedDevice()), whole.nb
    memory, empty = engine.device.memory, engine.device.memory.used
    all_there_was, memory.ceiling = memory.ceiling, empty + 200_000
    pattern = (
        r"27 atoms with \d+ ghosts do not fit on .* takes about (\d+) bytes, 0 MiB are free, "
        r"so that about (\d+) atoms fit; use more devices"
    )
    with pytest.raises(BackendError, match=pattern) as refused:
        engine.compute(nb, EVERYTHING)
    found = re.search(pattern, str(refused.value))
    assert found
    assert engine._system
    assert int(found[1]) == engine._system.nbytes // 27
    assert int(found[2]) < 27
    # nothing is held by the error's frames, and nothing was given up for good
    assert memory.used - empty <= nb.positions_ac.nbytes
    assert engine._chunk_bytes == gpu.CHUNK_BYTES
    memory.ceiling = all_there_was
    again = engine.compute(nb, EVERYTHING)
    np.testing.assert_array_equal(again.forces_ac, whole.result.forces_ac)


def test_a_failure_in_a_chunk_divides_the_chunks(whole, monkeypatch) -> None:
    device = EmulatedDevice()
    device.memory.ceiling = whole.peak - whole.of_chunks // 2
    # as if others took what was free when chunks were chosen
    monkeypatch.setattr(device, "free_bytes", lambda: 1 << 32)
    engine = GpuEngine(whole.model, device)
    agree(engine.compute(whole.nb, EVERYTHING), whole.result)
    assert chunks(engine) > 2
    builds = device.launches["count_neighbours"] // 2  # there are two elements
    assert 2 <= builds <= 4
    engine.compute(whole.nb, EVERYTHING)
    assert device.launches["count_neighbours"] // 2 == builds


def test_chunks_are_chosen_by_what_is_left(whole) -> None:
    """Nothing has to fail for that."""
    device = EmulatedDevice(ceiling=whole.peak - whole.of_chunks // 2)
    engine = GpuEngine(whole.model, device)
    agree(engine.compute(whole.nb, EVERYTHING), whole.result)
    assert device.launches["count_neighbours"] == 2
    assert chunks(engine) > 2


def test_chunks_of_one_centre_that_do_not_fit(whole, monkeypatch) -> None:
    engine = GpuEngine(whole.model, EmulatedDevice())
    calls = fails(monkeypatch, engine, "_evaluate", MemoryError(), 100)
    with pytest.raises(BackendError, match="do not fit on"):
        engine.compute(whole.nb, EVERYTHING)
    assert len(calls) > 2


def test_lists_that_were_lost_are_made_of_the_same_positions(whole, monkeypatch) -> None:
    """The skin counts from where atoms were when LAMMPS made its lists."""
    model, nb = whole.model, whole.nb
    rng = np.random.default_rng(9)
    ways = rng.normal(size=nb.positions_ac.shape)
    # half of the skin, less round-off, to one side and then to the other
    ways *= 0.4999 / np.linalg.norm(ways, axis=1)[:, None]
    there, back = (
        dataclasses.replace(nb, positions_ac=nb.positions_ac + sign * ways) for sign in (1, -1)
    )
    engine = GpuEngine(model, EmulatedDevice())
    engine.compute(nb, EVERYTHING)
    with monkeypatch.context() as patch:
        calls = fails(patch, engine, "_evaluate", MemoryError(), 1)
        engine.compute(there, EVERYTHING)
        assert len(calls) == 2
    result = engine.compute(back, EVERYTHING)
    exact = GpuEngine(model, EmulatedDevice()).compute(
        dataclasses.replace(back, build=0), EVERYTHING
    )
    agree(result, exact)
    # lists of where they were at the failure would not do
    other = GpuEngine(model, EmulatedDevice())
    other.compute(there, EVERYTHING)
    missed = other.compute(back, EVERYTHING)
    assert np.abs(missed.forces_ac - exact.forces_ac).max() > 1e-9


def copper(n_cells: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions, types and cell of copper, slightly disordered."""
    rng = np.random.default_rng(4)
    base = np.array([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
    grid = np.stack(np.meshgrid(*[np.arange(n_cells)] * 3, indexing="ij"), -1).reshape(-1, 1, 3)
    positions = 3.615 * (grid + base).reshape(-1, 3)
    positions += rng.normal(0, 0.05, positions.shape)
    return positions, np.zeros(len(positions), np.int32), 3.615 * n_cells * np.eye(3)


@pytest.mark.parametrize("name", ["cu", "water"])
def test_what_is_counted_is_what_is_taken(name, compressed, monkeypatch) -> None:
    model = compressed[name]
    nb = neighbourhood(*(copper(2) if name == "cu" else water_box()), model.rcut, 1.0)
    engine = GpuEngine(model, EmulatedDevice())
    memory, build, building = engine.device.memory, lists.build, []
    of_model = memory.used

    def watched(*args: Any) -> Any:
        memory.peak = memory.used
        found = build(*args)
        building.append(memory.peak - memory.used)
        return found

    monkeypatch.setattr(lists, "build", watched)
    engine.compute(nb, Outputs())
    system, room, found = engine._system, engine._room, engine._lists
    assert found is not None
    assert system == System(
        len(nb.types_a), nb.n_local, len(engine._stages), len(found.neighbours_p)
    )
    of_chunks = sum(map(nbytes, (room.moments, room.features_bi, room.layers)))
    of_all_sizes = sum(map(nbytes, (room.step.totals, room.step.partial))) + 8 * Packed.size(0)
    # each of five buffers rounds its headroom to whole numbers; offsets have an end
    assert memory.used - of_model - of_chunks - of_all_sizes == pytest.approx(system.kept, abs=60)
    assert 0.4 * system.building < building[0] <= system.building
    # a step has nothing besides
    assert memory.peak == memory.used
    assert engine.memory().startswith(
        f"emulated CUDA device holds {system.kept // nb.n_local} bytes per atom"
    )


def test_ten_million_copper_atoms() -> None:
    """The count of LOG.md: 133 slots per atom with a skin of 1 Å, ghosts within 7 Å of the box."""
    of_h200 = 141e9

    def count(n: int) -> System:
        side = (11.81 * n) ** (1 / 3)
        return System(int(n * (1 + 14 / side) ** 3), n, 1, 133 * n)

    ten_million = count(10**7)
    assert ten_million.kept == pytest.approx(46.3e9, rel=2e-3)
    assert ten_million.building == pytest.approx(0.9e9, rel=2e-2)
    assert ten_million.n_slots < lists.MOST_SLOTS
    largest = next(
        n
        for n in range(10**7, 10**8, 10**5)
        if count(n + 10**5).nbytes + with_headroom(gpu.CHUNK_BYTES) > of_h200
    )
    assert largest == pytest.approx(29e6, rel=0.02)
    assert count(largest).n_slots < lists.MOST_SLOTS
    # which is what the error says of too many
    device = SimpleNamespace(name="H200", free_bytes=lambda: int(of_h200))
    said = str(count(2 * largest).does_not_fit(device, with_headroom(gpu.CHUNK_BYTES)))
    fit = re.search(r"134468 MiB are free, so that about (\d+) atoms fit", said)
    assert fit, said
    assert int(fit[1]) == pytest.approx(largest, rel=0.01)
