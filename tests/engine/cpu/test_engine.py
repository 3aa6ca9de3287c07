"""The cpu engine: chunks, workers and threads leave no trace in the results."""

from __future__ import annotations

import threading
from concurrent.futures import Future

import numpy as np
import pytest

from conftest import recorded_frames
from lmp_dp import Potential
from lmp_dp.engine.cpu import engine
from lmp_dp.engine.cpu.fitting import FittingStage
from lmp_dp.engine.cpu.room import Buffer
from lmp_dp.model import load


@pytest.mark.parametrize("compress_it", [False, True])
def test_results_do_not_depend_on_buffers_or_threads(
    compress_it: bool, compressed, water_model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bitwise: 1 and 2 threads, called twice, and with every buffer poisoned with NaN."""
    frame = next(f for f in recorded_frames("water") if f.name.endswith("periodic"))
    model = compressed["water"] if compress_it else load(water_model)
    arguments = (frame.positions, frame.types, frame.cell)
    plain = Potential(model, backend="cpu", threads=1)
    results = [plain.evaluate(*arguments), plain.evaluate(*arguments)]
    results.append(Potential(model, backend="cpu", threads=2).evaluate(*arguments))
    take, taken = Buffer.take, 0

    def poisoned(self, shape, dtype):
        nonlocal taken
        taken += 1
        array = take(self, shape, dtype)
        array.view(np.uint8).fill(0xFF)  # NaN as a float, -1 as an int
        return array

    monkeypatch.setattr(Buffer, "take", poisoned)
    results.append(Potential(model, backend="cpu", threads=2).evaluate(*arguments))
    assert taken > 0
    for result in results[1:]:
        assert result.energy == results[0].energy
        np.testing.assert_array_equal(result.forces, results[0].forces)
        np.testing.assert_array_equal(result.virial, results[0].virial)
        np.testing.assert_array_equal(result.atom_virials, results[0].atom_virials)


def test_an_error_in_a_worker_does_not_block_later_evaluations(
    compressed, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = next(f for f in recorded_frames("water") if f.name.endswith("periodic"))
    arguments = (frame.positions, frame.types, frame.cell)
    potential = Potential(compressed["water"], backend="cpu", threads=2)
    energy = potential.evaluate(*arguments).energy
    fit = FittingStage.evaluate

    def out_of_memory(self, *arguments):
        raise MemoryError("no memory left")

    for _ in range(6):  # more often than there are workers
        monkeypatch.setattr(FittingStage, "evaluate", out_of_memory)
        with pytest.raises(MemoryError, match="no memory left"):
            potential.evaluate(*arguments)
        monkeypatch.setattr(FittingStage, "evaluate", fit)
        assert potential.evaluate(*arguments).energy == energy


def test_a_caller_never_sleeps_for_good(compressed, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that goes on only when another thread has run, as after a lost wake-up."""
    frame = next(f for f in recorded_frames("water") if f.name.endswith("periodic"))
    arguments = (frame.positions, frame.types, frame.cell)
    potential = Potential(compressed["water"], backend="cpu", threads=2)
    energy = potential.evaluate(*arguments).energy
    fit, asked = FittingStage.evaluate, threading.Event()
    result, caller = Future.result, threading.get_ident()

    def seen(self, timeout=None):
        assert timeout is not None, "waits without end"
        try:
            return result(self, timeout)
        finally:
            if threading.get_ident() == caller:
                asked.set()

    def stuck(self, *of_chunk):
        assert asked.wait(60), "the caller has not looked again"
        return fit(self, *of_chunk)

    monkeypatch.setattr(engine, "LOOK_AGAIN", 0.01)
    monkeypatch.setattr(Future, "result", seen)
    monkeypatch.setattr(FittingStage, "evaluate", stuck)
    assert potential.evaluate(*arguments).energy == energy
