"""The ASE calculator: against DeePMD-kit's recorded values, ASE's own derivatives, and physics."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ase")
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.db import connect
from ase.eos import EquationOfState
from ase.io import Trajectory, write
from ase.md.verlet import VelocityVerlet

from conftest import INPUTS, recorded_frames
from lmp_dp import Potential
from lmp_dp.ase import LmpDP
from lmp_dp.errors import InputError

VOIGT = ([0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1])  # xx yy zz yz xz xy
ULP = np.finfo(float).eps


def atoms_of(frame, type_map: tuple[str, ...]) -> Atoms:
    """A recorded frame as ASE sees it."""
    return Atoms(
        [type_map[t] for t in frame.types],
        frame.positions,
        cell=frame.cell,
        pbc=frame.cell is not None,
    )


def copper(size: int = 1, shift: float = 0.0) -> Atoms:
    atoms = bulk("Cu", "fcc", a=3.6, cubic=True) * (size, size, size)
    atoms.rattle(shift, seed=3)
    return atoms


@pytest.fixture(scope="module")
def cu() -> LmpDP:
    return LmpDP(INPUTS / "models" / "cu.h5", threads=1)


@pytest.mark.parametrize("name", ["water", "hea", "oh_two_sided", "hco_atom_ener"])
def test_values_of_deepmd(name: str, converted) -> None:
    """Tolerances of a float64 model (see lmp_dp.tools.check): the order of summation."""
    calculator = LmpDP(converted(name))
    for frame in recorded_frames(name):
        atoms = atoms_of(frame, calculator.potential.type_map)
        atoms.calc = calculator
        n = len(atoms)
        assert atoms.get_potential_energy() == pytest.approx(frame.energy, abs=1e-10 * n)
        assert calculator.results["free_energy"] == calculator.results["energy"]
        np.testing.assert_allclose(atoms.get_forces(), frame.forces, rtol=0, atol=1e-9)
        np.testing.assert_allclose(
            atoms.get_potential_energies(), frame.atom_energies, rtol=0, atol=1e-9
        )
        if frame.cell is None:
            with pytest.raises(PropertyNotImplementedError):
                atoms.get_stress()
            continue
        volume = abs(np.linalg.det(frame.cell))
        virial = frame.virial.reshape(3, 3)[VOIGT]
        of_atoms = frame.atom_virials.reshape(n, 3, 3)
        symmetric = 0.5 * (of_atoms + of_atoms.transpose(0, 2, 1))[:, VOIGT[0], VOIGT[1]]
        np.testing.assert_allclose(atoms.get_stress(), -virial / volume, rtol=0, atol=1e-8 / volume)
        stresses = atoms.get_stresses()
        np.testing.assert_allclose(stresses, -symmetric / volume, rtol=0, atol=1e-8 / volume)
        total = stresses.sum(axis=0)
        np.testing.assert_allclose(total, atoms.get_stress(), rtol=0, atol=1e-8 / volume)


def test_forces_and_stress_are_derivatives_of_the_energy(converted) -> None:
    """ASE's central differences at h and h/2: the second errs by a third of their difference."""
    calculator = LmpDP(converted("hea_two_sided"))
    frame = next(f for f in recorded_frames("hea_two_sided") if f.cell is not None)
    atoms = atoms_of(frame, calculator.potential.type_map)
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + np.diag([0.05, -0.04], 1)), scale_atoms=True)
    atoms.calc = calculator
    noise = 4 * ULP * abs(atoms.get_potential_energies()).sum()
    some = range(0, len(atoms), 5)
    for exact, differences, size in (
        (atoms.get_forces()[some], lambda h: calculate_numerical_forces(atoms, h, some), 1.0),
        (atoms.get_stress(), lambda h: calculate_numerical_stress(atoms, h), atoms.get_volume()),
    ):
        h = 2e-4
        coarse, fine = differences(h), differences(h / 2)
        tolerance = abs(coarse - fine).max() + noise / h / size
        assert tolerance < 1e-4 * abs(exact).max()
        np.testing.assert_allclose(fine, exact, rtol=0, atol=tolerance)
    stress = atoms.get_stress()
    # all six differ, so that their order and signs matter
    assert abs(np.subtract.outer(stress, stress) + np.eye(6)).min() > 10 * tolerance


@pytest.mark.parametrize("pbc", [(True, True, False), (False, True, False)])
def test_open_directions(pbc: tuple[bool, bool, bool], cu: LmpDP) -> None:
    """No cell vector, a short one, or a vacuum wider than the cutoff: the same atoms."""
    atoms = copper(2, shift=0.05)
    vacuum = atoms.copy()
    vacuum.set_cell(atoms.cell.lengths() + np.where(pbc, 0.0, 20.0))
    vacuum.calc = cu
    energy, forces = vacuum.get_potential_energy(), vacuum.get_forces()
    virial = vacuum.get_stress() * vacuum.get_volume()
    for cell in (np.diag(np.where(pbc, atoms.cell.lengths(), 0.0)), atoms.cell.array):
        same = atoms.copy()
        same.set_cell(cell)
        same.set_pbc(pbc)
        same.calc = cu
        assert same.get_potential_energy() == pytest.approx(energy, abs=1e-10 * len(atoms))
        np.testing.assert_allclose(same.get_forces(), forces, rtol=0, atol=1e-9)
        if same.cell.rank == 3:
            found = same.get_stress() * same.get_volume()
            np.testing.assert_allclose(found, virial, rtol=0, atol=1e-8)
        else:
            with pytest.raises(PropertyNotImplementedError):
                same.get_stress()
    periodic = atoms.copy()
    periodic.calc = cu
    assert abs(periodic.get_potential_energy() - energy) > 1.0


def test_energy_is_conserved(cu: LmpDP) -> None:
    """Velocity Verlet moves the energy of a mode by at most (omega dt)^2/4 of its potential energy.

    The square of the highest frequency is bounded by the norms of the force constants of one atom;
    all vibrational energy is the kinetic energy of the start, in the minimum.
    """
    atoms = copper(2)
    atoms.calc = cu
    step, columns = 0.01, []
    for axis in range(3):
        pair = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[0, axis] += sign * step
            moved.calc = cu
            pair.append(moved.get_forces())
        columns.append((pair[1] - pair[0]) / (2 * step))
    constants = np.linalg.norm(np.stack(columns, axis=2), ord=2, axis=(1, 2))
    omega2 = constants.sum() / atoms.get_masses()[0]
    dt = 2.0 * units.fs
    assert 0.0 < omega2 * dt**2 < 0.1

    velocities = np.random.default_rng(1).normal(size=(len(atoms), 3))
    atoms.set_velocities((velocities - velocities.mean(axis=0)) * 0.02)
    assert 200 < atoms.get_temperature() < 400
    start, kinetic = atoms.get_total_energy(), atoms.get_kinetic_energy()
    energies = []
    run = VelocityVerlet(atoms, timestep=dt)
    run.attach(lambda: energies.append(atoms.get_total_energy()))
    run.run(60)
    assert atoms.get_kinetic_energy() < 0.8 * kinetic  # the half of it has become potential energy
    assert abs(np.array(energies) - start).max() < omega2 * dt**2 / 4 * kinetic


def test_equation_of_state_of_copper(cu: LmpDP) -> None:
    """The volume of lowest energy by ASE's fit is that of zero pressure by bisection."""

    def primitive(volume: float) -> Atoms:
        atoms = bulk("Cu", "fcc", a=(4 * volume) ** (1 / 3))
        atoms.calc = cu
        return atoms

    def fitted(width: float) -> float:
        volumes = np.linspace(11.8 * (1 - width), 11.8 * (1 + width), 9)
        energies = [primitive(v).get_potential_energy() for v in volumes]
        return EquationOfState(volumes, energies, eos="birchmurnaghan").fit(warn=False)[0]

    low, high = 11.0, 12.6
    for _ in range(40):
        middle = (low + high) / 2
        # positive stress pulls the cell together
        low, high = (low, middle) if primitive(middle).get_stress()[0] > 0 else (middle, high)
    wide, narrow = fitted(0.04), fitted(0.02)
    # the fit's error falls with its range, so the narrow one errs by less than it changed
    assert abs(wide - narrow) < 1e-2
    assert narrow == pytest.approx(low, abs=abs(wide - narrow) + 1e-6)


def test_only_what_has_changed_is_evaluated(cu: LmpDP, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    plain = Potential.evaluate

    def counted(self, *arguments):
        calls.append(arguments)
        return plain(self, *arguments)

    monkeypatch.setattr(Potential, "evaluate", counted)
    atoms = copper(shift=0.1)
    atoms.calc = cu
    forces = atoms.get_forces()
    atoms.get_potential_energy()
    atoms.get_stress()
    assert len(calls) == 1
    atoms.positions[0] += 0.1
    assert abs(atoms.get_forces() - forces).max() > 0.01
    assert len(calls) == 2


def test_unknown_elements_and_missing_vectors(cu: LmpDP, cu_model: Path) -> None:
    alloy = copper()
    alloy.symbols[1] = "Au"
    alloy.calc = cu
    with pytest.raises(InputError, match=r"the model has no element \['Au'\]; it has Cu"):
        alloy.get_potential_energy()
    endless = Atoms("Cu", pbc=(True, False, False))
    endless.calc = cu
    with pytest.raises(InputError, match="no vector for a periodic direction"):
        endless.get_potential_energy()
    with pytest.raises(InputError, match="precision 'half' is unknown"):
        LmpDP(cu_model, precision="half")


def test_says_that_ase_is_missing() -> None:
    code = "import sys; sys.modules['ase'] = None; import lmp_dp.ase"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install 'lmp-dp[ase]'" in done.stderr


# ------------------------------------------------------------------ copies, pickles, files of ASE


def again(atoms: Atoms, how: str) -> Atoms:
    return copy.deepcopy(atoms) if how == "deepcopy" else pickle.loads(pickle.dumps(atoms))


@pytest.mark.parametrize("how", ["deepcopy", "pickle"])
def test_copies_of_atoms_carry_the_calculator(how: str, cu: LmpDP) -> None:
    atoms = copper(2, shift=0.05)
    atoms.calc = cu
    forces = atoms.get_forces()
    same = again(atoms, how)
    assert same.calc is not cu
    assert same.calc.potential is not cu.potential
    np.testing.assert_array_equal(same.calc.results["forces"], forces)  # not calculated again
    same.calc.reset()
    np.testing.assert_array_equal(same.get_forces(), forces)
    same.positions[0] += 0.1
    assert abs(same.get_forces() - forces).max() > 0.01
    np.testing.assert_array_equal(atoms.get_forces(), forces)


def energy_of(atoms: Atoms) -> float:
    atoms.calc.reset()
    return atoms.get_potential_energy()


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_pools(method: str, cu: LmpDP) -> None:
    """Atoms go to other processes with their calculator, after it was used here."""
    images = [copper(2, shift=0.01 * k) for k in range(3)]
    for atoms in images:
        atoms.calc = cu
    expected = [energy_of(atoms) for atoms in images]
    with multiprocessing.get_context(method).Pool(2) as pool:  # its processes are daemons
        assert pool.map_async(energy_of, images).get(timeout=120) == expected


def test_model_and_options_are_stored(cu_model: Path, tmp_path: Path) -> None:
    options = {"threads": 1, "precision": "float32"}
    calculator = LmpDP(cu_model, **options)
    expected = {"model": str(cu_model), **options}
    assert calculator.todict() == expected
    atoms = copper()
    atoms.calc = calculator
    energy = atoms.get_potential_energy()
    with connect(tmp_path / "atoms.db") as database:
        database.write(atoms)
    [row] = connect(tmp_path / "atoms.db").select()
    assert (row.calculator, row.calculator_parameters) == ("lmpdp", expected)
    assert row.energy == energy
    write(tmp_path / "atoms.traj", atoms)
    with Trajectory(tmp_path / "atoms.traj") as trajectory:
        assert trajectory[0].calc.parameters == expected
        assert trajectory[0].get_potential_energy() == energy
    assert LmpDP(**row.calculator_parameters).potential.precision == "float32"
    in_memory = LmpDP(calculator.potential.model, threads=1)
    assert in_memory.todict()["model"].startswith("in memory, from ")


def test_options_can_be_changed(cu_model: Path) -> None:
    atoms = copper(shift=0.05)
    atoms.calc = LmpDP(cu_model, threads=1)
    exact = atoms.get_potential_energy()
    atoms.calc.set(precision="float32")
    assert atoms.calc.potential.precision == "float32"
    assert 0.0 < abs(atoms.get_potential_energy() - exact) < 1e-3
    with pytest.raises(InputError, match="precision 'half' is unknown"):
        atoms.calc.set(precision="half")
    assert atoms.calc.todict()["precision"] == "float32"


def test_arguments_are_the_calculators(cu_model: Path) -> None:
    message = "LmpDP has no argument cutoff, label; it takes model, backend, precision, threads"
    with pytest.raises(InputError, match=message):
        LmpDP(cu_model, cutoff=6.0, threads=1, label="x")


def test_two_atoms_in_one_place(cu: LmpDP) -> None:
    atoms = copper(2)
    atoms.positions[5] = atoms.positions[1]
    atoms.calc = cu
    with pytest.raises(InputError, match="atoms 1 and 5 are in one place: 0 Å apart"):
        atoms.get_forces()
