"""One `Potential` in several threads, in copies and pickles, and in children of any kind."""

from __future__ import annotations

import copy
import gc
import multiprocessing
import pickle
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from threadpoolctl import ThreadpoolController

from cuda_emulation.emulated_device import EmulatedDevice
from lmp_dp import Potential
from lmp_dp.engine import process
from lmp_dp.engine.gpu import device as cuda_device
from lmp_dp.errors import BackendError
from small_model import small_model

#: Seconds after which a child counts as hanging, and is killed.
PATIENCE = 120.0
START_METHODS = ("fork", "spawn", "forkserver")
#: Atoms and edge (Å) of pairs of systems that are evaluated at the same time.
PAIRS = (((40, 7.0), (40, 20.0)), ((100, 11.0), (99, 11.0)))


def copper(n: int, edge: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`n` atoms, none very near to another, in a cubic cell."""
    rng = np.random.default_rng(n)
    places = np.stack(np.meshgrid(*[np.arange(5)] * 3, indexing="ij"), -1).reshape(-1, 3)
    chosen = rng.permutation(len(places))[:n]
    positions = (places[chosen] + rng.uniform(-0.1, 0.1, (n, 3))) * edge / 5
    return positions, np.zeros(n, int), np.full(3, edge)


def bits(result: Any) -> tuple[bytes, ...]:
    """All of an `Evaluation`, for comparison bit by bit."""
    values = (result.energy, result.forces, result.virial, result.atom_energies)
    return tuple(np.asarray(value).tobytes() for value in (*values, result.atom_virials))


# --------------------------------------------------------------------------- threads


@pytest.mark.parametrize("frames", PAIRS, ids=("density", "number"))
@pytest.mark.parametrize(("backend", "threads"), [("cpu", 1), ("cpu", 2), ("gpu", 1)])
def test_two_threads(backend, threads, frames, monkeypatch) -> None:
    monkeypatch.setattr(cuda_device, "CudaDevice", lambda _index: EmulatedDevice())
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    potential = Potential(small_model(), backend=backend, threads=threads, sel="ignore")
    systems = [(x, types + 1, cell) for x, types, cell in (copper(*frame) for frame in frames)]
    expected = [bits(potential.evaluate(*system)) for system in systems]
    repeats = 100 if backend == "cpu" else 3
    wrong: list[str] = []

    def run(number: int) -> None:
        try:
            for repeat in range(repeats):
                if bits(potential.evaluate(*systems[number % 2])) != expected[number % 2]:
                    wrong.append(f"evaluation {repeat} of thread {number}")
        except BaseException as error:
            wrong.append(repr(error))

    callers = [threading.Thread(target=run, args=(k,), daemon=True) for k in range(3)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(PATIENCE)
    assert not any(caller.is_alive() for caller in callers)
    assert not wrong


def test_counts_of_two_threads_are_summed() -> None:
    potential = Potential(small_model(), threads=1, sel="warn")
    warnings: list[str] = []
    potential.on_warning = warnings.append
    rng = np.random.default_rng(1)
    frame = rng.uniform(0, 4.0, (20, 3)), rng.integers(0, 2, 20), [4.0] * 3
    potential.evaluate(*frame)
    [_] = warnings
    once = potential.watch.totals["sel"]
    assert once > 0
    callers = [
        threading.Thread(target=lambda: [potential.evaluate(*frame) for _ in range(50)])
        for _ in range(2)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert potential.watch.totals["sel"] == 101 * once
    assert len(warnings) == 1


def blas_threads() -> list[int]:
    """Of NumPy's BLAS; other libraries may bring others."""
    return [library.num_threads for library in process.one_blas_thread._blas.lib_controllers]


def test_blas_is_limited_until_the_last_evaluation_ends() -> None:
    with ThreadpoolController().select(user_api="blas").limit(limits=2):
        before = blas_threads()
        assert before
        assert set(before) == {2}
        process.one_blas_thread.__enter__()
        process.one_blas_thread.__enter__()
        assert set(blas_threads()) == {1}
        process.one_blas_thread.__exit__()
        assert set(blas_threads()) == {1}
        process.one_blas_thread.__exit__()
        assert blas_threads() == before


def test_close_ends_the_threads(monkeypatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2})
    before = threading.active_count()
    potential = Potential(small_model(), threads=3, sel="ignore")
    frame = copper(40, 10.0)
    expected = bits(potential.evaluate(*frame))
    assert before < threading.active_count() <= before + 3
    potential.close()
    assert threading.active_count() == before
    assert bits(potential.evaluate(*frame)) == expected
    potential.close()
    potential.close()
    assert threading.active_count() == before


def test_an_engine_is_gone_with_its_potential() -> None:
    gc.collect()
    gc.disable()
    try:
        potential = Potential(small_model(), threads=2, sel="ignore")
        potential.evaluate(*copper(40, 10.0))
        engine = weakref.ref(potential._engine)
        del potential
        assert engine() is None
    finally:
        gc.enable()


# --------------------------------------------------------------------------- copies


@pytest.mark.parametrize("precision", [None, "float32"])
@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))]
)
def test_copies(again, backend, precision, water_model, monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(water_model.parent)
    potential = Potential("water.h5", backend=backend, precision=precision, threads=1)
    monkeypatch.chdir(tmp_path)
    frame = copper(40, 10.0)
    expected = bits(potential.evaluate(*frame))
    other = again(potential)
    assert bits(other.evaluate(*frame)) == expected
    assert (other.backend, other.precision, other.threads) == (
        potential.backend,
        potential.precision,
        1,
    )
    assert other._engine is not potential._engine
    assert bits(again(other).evaluate(*frame)) == expected


def test_a_pickle_holds_the_path_or_the_model(water_model) -> None:
    assert len(pickle.dumps(Potential(water_model, threads=1))) < 1000
    potential = Potential(small_model(), threads=1, sel="ignore", table="error")
    other = pickle.loads(pickle.dumps(potential))
    frame = copper(8, 10.0)
    assert bits(other.evaluate(*frame)) == bits(potential.evaluate(*frame))
    assert (other.watch.sel, other.watch.table) == ("ignore", "error")


def test_copies_have_the_same_on_warning() -> None:
    potential = Potential(small_model(), threads=1)
    potential.on_warning = print
    assert pickle.loads(pickle.dumps(potential)).on_warning is print
    potential.on_warning = lambda _text: None
    assert copy.deepcopy(potential).on_warning is potential.on_warning
    with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
        pickle.dumps(potential)


# --------------------------------------------------------------------------- children


def in_child(method: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """What `function` returns in a child process, which never outlives the test."""
    context = multiprocessing.get_context(method)
    here, there = context.Pipe(duplex=False)
    child = context.Process(target=_send, args=(there, function, *arguments), daemon=True)
    child.start()
    there.close()
    try:
        assert here.poll(PATIENCE), f"the child ({method}) hangs"
        answer = here.recv()
    finally:
        child.kill()
        child.join()
    if isinstance(answer, BaseException):
        raise answer
    return answer


def _send(connection: Any, function: Callable[..., Any], *arguments: Any) -> None:
    try:
        connection.send(function(*arguments))
    except BaseException as error:
        connection.send(error)


def bits_of(potential: Potential, frame: tuple[np.ndarray, ...]) -> tuple[bytes, ...]:
    return bits(potential.evaluate(*frame))


@pytest.mark.parametrize("method", START_METHODS)
def test_children_after_use(method: str, cu_model: Path, monkeypatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    potential = Potential(cu_model, threads=2)
    frame = copper(100, 11.0)
    expected = bits(potential.evaluate(*frame))
    assert in_child(method, bits_of, potential, frame) == expected
    assert bits(potential.evaluate(*frame)) == expected


def test_fork_while_another_thread_evaluates(cu_model: Path, monkeypatch) -> None:
    """Whatever the other thread holds: workers, locks.

    BLAS has one thread: OpenBLAS with more may hang in a fork, whoever uses it in another thread.
    """
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    potential = Potential(cu_model, threads=2)
    frame = copper(100, 11.0)
    with ThreadpoolController().select(user_api="blas").limit(limits=1):
        expected = bits(potential.evaluate(*frame))
        stop = threading.Event()

        def evaluate() -> None:
            while not stop.is_set():
                potential.evaluate(*frame)

        busy = threading.Thread(target=evaluate, daemon=True)
        busy.start()
        try:
            for _ in range(5):
                assert in_child("fork", bits_of, potential, frame) == expected
        finally:
            stop.set()
            busy.join(PATIENCE)


def test_a_fork_during_an_evaluation_leaves_blas_as_it_was() -> None:
    with ThreadpoolController().select(user_api="blas").limit(limits=2):
        before = blas_threads()
        with process.one_blas_thread:
            assert set(blas_threads()) == {1}
            assert in_child("fork", blas_threads) == before
        assert blas_threads() == before


def test_a_gpu_is_not_inherited(monkeypatch) -> None:
    monkeypatch.setattr(cuda_device, "CudaDevice", lambda _index: EmulatedDevice())
    potential = Potential(small_model(), backend="gpu", sel="ignore")
    frame = copper(8, 10.0)
    expected = bits(potential.evaluate(*frame))
    with pytest.raises(BackendError, match=r"gpu cannot be used in a child .* spawn or forkserver"):
        in_child("fork", bits_of, potential, frame)
    assert bits(potential.evaluate(*frame)) == expected
