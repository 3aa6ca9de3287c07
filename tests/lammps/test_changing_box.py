"""Boxes that change, during a run and between runs; and runs that are taken up again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lammps_frames import assert_frames_are_right, output, read_frames
from lammps_runs import run_lammps, thermo

COPPER = """
clear
units metal
lattice fcc 3.7
region box prism 0 2 0 2 0 2 0 0 0
create_box 1 box
create_atoms 1 box
mass 1 63.546
displace_atoms all random 0.08 0.08 0.08 29
pair_style dp {model}
pair_coeff * * Cu
neighbor 1.0 bin
timestep 0.002
"""
BEND = """
velocity all create 600 4928459
fix nve all nve
fix bend all deform 1 x scale 0.95 y erate 1.0 xy erate 4.0 remap v
"""
PRESSURE = 5000.0  # bar
#: name -> commands after COPPER.
ROWS = {
    "relax": f"fix relax all box/relax tri {PRESSURE} vmax 0.01\n{output('relax', 1000)}"
    + "minimize 0 1e-9 200 2000\n" * 2,
    # the box changes after the forces of a step, so frames are taken when it has come to rest
    "deform": BEND + "run 15\nunfix bend\n" + output("deform") + "run 3\n",
    "change_box": output("change_box")
    + "run 0\n"
    + "change_box all x scale 0.95 xy delta 0.7 remap\nrun 1\n"
    + "change_box all z final 0 12 boundary p p s units box\nrun 1\n"
    + "change_box all z final -4 14 yz delta 0.0 units box\nrun 1\n",
    "replicate": "replicate 2 1 1\n" + output("replicate") + "run 0\n",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, cu_model: Path) -> Path:
    path = tmp_path_factory.mktemp("box")
    text = "".join(COPPER.format(model=cu_model) + commands for commands in ROWS.values())
    run_lammps(text, path)
    return path


@pytest.mark.parametrize("name", ROWS)
def test_boxes(folder: Path, cu_model: Path, name: str) -> None:
    frames = assert_frames_are_right(folder, name, cu_model, ["Cu"])
    assert abs(frames[-1].cell[0, 0] - 7.4) > 0.1
    assert len(frames[-1].types) == (64 if name == "replicate" else 32)


def test_the_relaxed_box_has_the_pressure(folder: Path) -> None:
    table = thermo(folder / "relax.log")
    for c in range(1, 4):
        assert table[f"c_virial[{c}]"][-1] == pytest.approx(PRESSURE, abs=1.0)
    for c in range(4, 7):
        assert table[f"c_virial[{c}]"][-1] == pytest.approx(0.0, abs=1.0)
    # perfect fcc again: neighbours at a/sqrt(2), no forces
    frame = read_frames(folder / "relax.dump")[-1]
    assert np.abs(frame.vectors("fx", "fy", "fz")).max() < 1e-6
    assert np.ptp(np.linalg.norm(frame.cell, axis=1)) < 1e-5


# ------------------------------------------------------------------------ restart, data, rerun

START = """
clear
units metal
atom_modify map yes
read_data {data}
pair_style dp {model}
pair_coeff * * O H
neighbor 1.0 bin
timestep 0.0005
fix nve all nve
"""
AGAIN = """
clear
{read}
pair_style dp {model}
pair_coeff * * O H
neighbor 1.0 bin
timestep 0.0005
fix nve all nve
{output}
run 5
"""


def continued(water_data: Path, water_model: Path) -> str:
    again = {
        "restart": "read_restart half.restart",
        "data": "units metal\natom_modify map yes\nread_data half.data nocoeff\nreset_timestep 5",
    }
    return (
        START.format(data=water_data, model=water_model)
        + output("whole")
        + "run 5\nwrite_restart half.restart\nwrite_data half.data\nrun 5\n"
        + "".join(
            AGAIN.format(read=read, model=water_model, output=output(name))
            for name, read in again.items()
        )
        + START.format(data=water_data, model=water_model).replace("fix nve all nve", "")
        + output("rerun").replace(" vx vy vz", "")
        + "rerun whole.dump dump x y z vx vy vz\n"
    )


@pytest.mark.parametrize("ranks", [1, 2])
def test_runs_are_taken_up_again(
    water_data: Path, water_model: Path, tmp_path: Path, ranks: int
) -> None:
    run_lammps(continued(water_data, water_model), tmp_path, ranks=ranks)
    whole = thermo(tmp_path / "whole.log")
    end = read_frames(tmp_path / "whole.dump")[-1]
    # data files hold 16 digits; neighbour sums come in another order; both grow over 5 steps
    for name in ("restart", "data"):
        table = thermo(tmp_path / f"{name}.log")
        np.testing.assert_array_equal(table["Step"], np.arange(5, 11))
        for column in ("PotEng", "TotEng"):
            np.testing.assert_allclose(table[column], whole[column][-6:], rtol=0, atol=1e-9)
        frame = read_frames(tmp_path / f"{name}.dump")[-1]
        for names in ("xyz", ("vx", "vy", "vz")):
            np.testing.assert_allclose(
                frame.vectors(*names), end.vectors(*names), rtol=0, atol=1e-10
            )
    table = thermo(tmp_path / "rerun.log")
    steps = np.unique(whole["Step"], return_index=True)[1]
    for column in ("PotEng", *(f"c_virial[{c}]" for c in range(1, 7))):
        # bar, of 1e4: one part in 1e12
        np.testing.assert_allclose(table[column], whole[column][steps], rtol=1e-12, atol=1e-8)


def test_a_restart_without_a_pair_style_is_refused(cu_model: Path, tmp_path: Path) -> None:
    """As with pair deepmd: the file has the name of the style, and no model."""
    text = COPPER.format(model=cu_model) + "run 0\nwrite_restart x.restart\n"
    run_lammps(text, tmp_path)
    for more, message in (
        ("run 0", "ERROR: All pair coeffs are not set"),
        ("pair_coeff * * Cu", "write pair_style dp MODEL.h5 and pair_coeff after read_restart"),
    ):
        done = run_lammps(f"read_restart x.restart\n{more}\n", tmp_path, check=False)
        assert done.returncode == 1
        assert message in done.output
