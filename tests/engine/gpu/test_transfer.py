"""What a step moves between host and device: a copy each way, counted on the emulated device.

What holds for results is tested on a device too, marked gpu.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from conftest import recorded_frames
from cuda_emulation.device_memory import KernelError
from cuda_emulation.emulated_device import EmulatedDevice
from lmp_dp import Potential
from lmp_dp.engine import Neighbourhood, Outputs, periodic
from lmp_dp.engine.gpu import engine as engine_module
from lmp_dp.engine.gpu.engine import GpuEngine
from lmp_dp.engine.gpu.room import Buffer
from lmp_dp.engine.gpu.transfer import Transfer
from lmp_dp.model import load

#: What LAMMPS asks for on most steps, on thermo steps, and for compute pe/atom and stress/atom.
FORCES = Outputs(virial=False, borrowed=True)
EVERYTHING = Outputs(virial=True, atom_energies=True, atom_virials=True)
#: Energy, nine of the virial, not finite, dropped, beyond the tables.
N_SUMS = 13


def box(rcut: float, skin: float = 1.0, build: int = 1) -> Neighbourhood:
    """27 disordered atoms and their images."""
    rng = np.random.default_rng(5)
    grid = np.stack(np.meshgrid(*[np.arange(3)] * 3, indexing="ij"), -1).reshape(-1, 3)
    positions = 2.1 * grid + rng.uniform(-0.3, 0.3, grid.shape)
    types = rng.integers(0, 2, len(grid)).astype(np.int32)
    nb = periodic.build(positions, types, np.eye(3) * 6.3, rcut + skin, lists=False).neighbourhood
    return dataclasses.replace(nb, skin=skin, build=build)


def moved(nb: Neighbourhood, seed: int) -> Neighbourhood:
    shift_ac = np.random.default_rng(seed).uniform(-0.2, 0.2, nb.positions_ac.shape)
    return dataclasses.replace(nb, positions_ac=nb.positions_ac + shift_ac)


def arrays_of(result) -> list[np.ndarray]:
    return [result.forces_ac, result.virial_cc, result.atom_energies_a, result.atom_virials_acc]


def copies_of_a_step(engine: GpuEngine, nb: Neighbourhood, outputs: Outputs) -> tuple[Counter, ...]:
    """Number, bytes and waits of the copies of one step."""
    device = engine.device
    before = device.copies.copy(), device.copied.copy(), device.waits
    engine.compute(nb, outputs)
    return device.copies - before[0], device.copied - before[1], device.waits - before[2]


@pytest.mark.parametrize("recorded", [False, True])
@pytest.mark.parametrize("with_tables", [False, True])
def test_a_step_makes_one_copy_each_way(
    with_tables, recorded, water_model, compressed, monkeypatch
) -> None:
    monkeypatch.setattr(engine_module, "GRAPH_CENTRES", 4096 if recorded else 0)
    model = compressed["water"] if with_tables else load(water_model)
    engine = GpuEngine(model, EmulatedDevice())
    nb = box(model.rcut)
    for _ in range(2):
        engine.compute(nb, EVERYTHING)
    n_all = len(nb.types_a)
    up, forces = 24 * n_all, 24 * n_all + 8 * N_SUMS
    memory = engine.device.memory
    all_there_is, memory.ceiling = memory.ceiling, memory.used  # nothing is allocated from now on
    for outputs, down in (
        (FORCES, forces),
        (Outputs(virial=True), forces),
        (Outputs(atom_energies=True), forces + 8 * n_all),
    ):
        copies, copied, waits = copies_of_a_step(engine, nb, outputs)
        assert copies == {"send": 1, "fetch": 1}
        assert copied == {"send": up, "fetch": down}
        assert waits == 1
    # virials of atoms are the only other copy, and seldom asked for; still waited for once
    memory.ceiling = all_there_is
    assert engine.device.recordings == recorded
    copies, copied, waits = copies_of_a_step(engine, nb, EVERYTHING)
    assert copies == {"send": 1, "fetch": 2}
    assert copied["fetch"] == forces + (8 + 72) * n_all
    assert waits == 1


def test_parameters_go_up_with_the_positions(converted) -> None:
    name = "oh_fparam_aparam"
    model = load(converted(name))
    fitting = model.fitting
    nb = box(model.rcut)
    nb.fparam_f = fitting.fparam_avg_f
    nb.aparam_af = np.tile(fitting.aparam_avg_f, (nb.n_local, 1))
    engine = GpuEngine(model, EmulatedDevice())
    for _ in range(2):
        engine.compute(nb, FORCES)
    copies, copied, waits = copies_of_a_step(engine, nb, FORCES)
    assert copies == {"send": 1, "fetch": 1}
    n_parameters = fitting.n_fparam + fitting.n_aparam
    per_atom = 8 + n_parameters * fitting.dtype.itemsize  # what is subtracted, parameters
    assert copied["send"] == 24 * len(nb.types_a) + per_atom * nb.n_local
    assert waits == 1


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_a_vacuum_that_depends_on_parameters(precision, converted, gpu_device) -> None:
    """What `atom_ener` subtracts, of one element of two, is the net's value at each atom's p."""
    name = "oh_fparam_aparam"
    model = load(converted(name))
    subtracts = dataclasses.replace(model.fitting, subtract_vacuum_t=np.array([False, True]))
    model = dataclasses.replace(model, fitting=subtracts)
    frame = recorded_frames(name)[0]
    n = len(frame.types)
    aparam = np.random.default_rng(3).normal(0.5, 0.2, (n, subtracts.n_aparam))
    found, expected = (
        Potential(model, backend=b, precision=precision, sel="ignore")
        .evaluate(frame.positions, frame.types, frame.cell, fparam=frame.fparam, aparam=aparam)
        .atom_energies
        for b in ("gpu", "reference")
    )
    # round-off of nets with some hundred terms per sum
    eps = 2.0**-53 if precision == "float64" else 2.0**-24
    np.testing.assert_allclose(found, expected, rtol=0, atol=1000 * eps * np.abs(expected).max())


def test_lists_take_types_and_grids_steps_do_not(water_model) -> None:
    model = load(water_model)
    engine = GpuEngine(model, EmulatedDevice())
    nb = box(model.rcut)
    for build in (1, 1, 2, 2):
        at_build = build != engine._build
        copies, _, _ = copies_of_a_step(engine, dataclasses.replace(nb, build=build), FORCES)
        assert (copies["upload"] > 0) == (copies["download"] > 0) == at_build


# ------------------------------------------------------------------------- whose the results are


def test_a_result_is_the_callers(water_model, gpu_device) -> None:
    model = load(water_model)
    engine = GpuEngine(model, gpu_device())
    nb = box(model.rcut)
    kept = engine.compute(nb, EVERYTHING)
    before = [array.copy() for array in arrays_of(kept)]
    other = engine.compute(moved(nb, 1), EVERYTHING)
    for array, copy, of_other in zip(arrays_of(kept), before, arrays_of(other), strict=True):
        np.testing.assert_array_equal(array, copy)
        assert not np.array_equal(array, of_other)
        assert array.flags.writeable


def test_a_borrowed_result_lasts_until_the_next_evaluation(water_model, gpu_device) -> None:
    model = load(water_model)
    nb = box(model.rcut)
    engine = GpuEngine(model, gpu_device())
    owned = engine.compute(nb, EVERYTHING)
    borrowed = engine.compute(nb, dataclasses.replace(EVERYTHING, borrowed=True))
    for array, expected in zip(arrays_of(borrowed), arrays_of(owned), strict=True):
        np.testing.assert_array_equal(array, expected)
    another = GpuEngine(model, gpu_device())  # of another model, in LAMMPS
    another.compute(moved(nb, 2), dataclasses.replace(EVERYTHING, borrowed=True))
    for array, expected in zip(arrays_of(borrowed), arrays_of(owned), strict=True):
        np.testing.assert_array_equal(array, expected)
    following = engine.compute(moved(nb, 1), dataclasses.replace(EVERYTHING, borrowed=True))
    assert np.shares_memory(borrowed.forces_ac, following.forces_ac)


def test_a_borrowed_result_outlives_its_engine(water_model, gpu_device) -> None:
    """The memory is the arrays' as well."""
    model = load(water_model)
    nb = box(model.rcut)
    engine = GpuEngine(model, gpu_device())
    owned = engine.compute(nb, EVERYTHING)
    borrowed = engine.compute(nb, dataclasses.replace(EVERYTHING, borrowed=True))
    engine.close()
    del engine
    for array, expected in zip(arrays_of(borrowed), arrays_of(owned), strict=True):
        np.testing.assert_array_equal(array, expected)


def test_positions_may_change_as_soon_as_compute_returns(water_model, gpu_device) -> None:
    """LAMMPS moves atoms in place."""
    model = load(water_model)
    frames = [moved(box(model.rcut), seed) for seed in range(3)]
    expected = [GpuEngine(model, gpu_device()).compute(nb, EVERYTHING) for nb in frames]
    engine = GpuEngine(model, gpu_device())
    here = dataclasses.replace(frames[0], build=0)
    for nb, of_its_own in zip(frames, expected, strict=True):
        here.positions_ac[...] = nb.positions_ac
        found = engine.compute(here, EVERYTHING)
        for array, other in zip(arrays_of(found), arrays_of(of_its_own), strict=True):
            np.testing.assert_array_equal(array, other)


def test_several_threads(water_model, gpu_device) -> None:
    model = load(water_model)
    potential = Potential(model, backend="gpu", sel="ignore")
    frames = [dataclasses.replace(moved(box(model.rcut), seed), build=0) for seed in range(4)]
    alone = [potential.compute(nb, EVERYTHING) for nb in frames]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda nb: potential.compute(nb, EVERYTHING), frames * 2))
    for result, expected in zip(found, alone * 2, strict=True):
        for array, other in zip(arrays_of(result), arrays_of(expected), strict=True):
            np.testing.assert_array_equal(array, other)


def test_engines_of_two_devices_in_any_thread(water_model) -> None:
    model = load(water_model)
    nb = box(model.rcut)
    engines = [GpuEngine(model, EmulatedDevice()) for _ in range(2)]
    for one, other in (engines, engines[::-1]):
        expected = one.compute(nb, EVERYTHING)
        other.compute(moved(nb, 1), EVERYTHING)
        with ThreadPoolExecutor(1) as pool:
            found = pool.submit(one.compute, nb, EVERYTHING).result()
            pool.submit(one.close).result()
        for array, of_first in zip(arrays_of(found), arrays_of(expected), strict=True):
            np.testing.assert_array_equal(array, of_first)


# --------------------------------------------------------------------------------- pinned memory


def test_arrays_of_all_kinds_arrive() -> None:
    device = EmulatedDevice("")
    transfer, buffer = Transfer(device), Buffer()
    rng = np.random.default_rng(1)
    for n in (4, 0, 7, 2):
        parts = [
            rng.normal(size=(n, 3)),
            rng.normal(size=(2 * n,))[::2],  # not contiguous
            rng.normal(size=(n, 3)).astype(np.float32),
        ]
        sent = transfer.send(parts, buffer)
        for part, array in zip(parts, sent, strict=True):
            assert array.dtype == part.dtype
            np.testing.assert_array_equal(array.get(), part)
        fetched = transfer.fetch([sent[0], sent[2]])
        np.testing.assert_array_equal(fetched[0], parts[0])
        np.testing.assert_array_equal(fetched[1], parts[2])
    assert device.waits == 4


def test_after_a_step_that_failed(water_model, monkeypatch) -> None:
    """Its copy may still be under way: pinned memory is not written before that has ended."""
    model = load(water_model)
    device = EmulatedDevice()
    engine = GpuEngine(model, device)
    nb = box(model.rcut)
    engine.compute(nb, EVERYTHING)
    with monkeypatch.context() as patch:
        patch.setattr(device, "launch", lambda *_: (_ for _ in ()).throw(KernelError("ended")))
        with pytest.raises(KernelError, match="ended"):
            engine.compute(moved(nb, 1), EVERYTHING)
    waits = device.waits
    found = engine.compute(moved(nb, 2), EVERYTHING)
    assert device.waits == waits + 2
    expected = GpuEngine(model, EmulatedDevice()).compute(moved(nb, 2), EVERYTHING)
    # lists of other positions: another order of sums
    np.testing.assert_allclose(found.forces_ac, expected.forces_ac, rtol=0, atol=1e-12)


# ------------------------------------------------------------------------------ what is not finite


@pytest.mark.parametrize("at_build", [False, True])
@pytest.mark.parametrize("with_tables", [False, True])
def test_positions_that_are_no_places(
    with_tables, at_build, water_model, compressed, gpu_device
) -> None:
    """Found wherever they are, between builds and at one; the next sound step is sound."""
    model = compressed["water"] if with_tables else load(water_model)
    engine = GpuEngine(model, gpu_device())
    nb = box(model.rcut)
    nb.types_a[3] = -1  # an atom that the model does not see
    sound = engine.compute(nb, EVERYTHING)
    assert sound.finite
    build, last = 1, len(nb.types_a) - 1
    for atom, c, value in (
        (0, 0, np.nan),
        (3, 1, np.inf),
        (nb.n_local, 2, np.nan),
        (last, 0, -np.inf),
    ):
        broken = dataclasses.replace(nb, positions_ac=nb.positions_ac.copy())
        broken.positions_ac[atom, c] = value
        build += at_build
        result = engine.compute(dataclasses.replace(broken, build=build), EVERYTHING)
        assert not result.finite
        assert result.forces_ac.shape == (len(nb.types_a), 3)
    build += at_build
    again = engine.compute(dataclasses.replace(nb, build=build), EVERYTHING)
    assert again.finite
    np.testing.assert_array_equal(again.forces_ac, sound.forces_ac)


@pytest.mark.parametrize("with_tables", [False, True])
def test_forces_that_are_not_finite(with_tables, water_model, compressed, gpu_device) -> None:
    """Two atoms in one place: what is said agrees with the forces themselves."""
    model = compressed["water"] if with_tables else load(water_model)
    engine = GpuEngine(model, gpu_device())
    nb = box(model.rcut, build=0)
    assert engine.compute(nb, EVERYTHING).finite
    nb.positions_ac[1] = nb.positions_ac[0]
    result = engine.compute(nb, FORCES)
    assert not np.isfinite(result.forces_ac).all()
    assert not result.finite
