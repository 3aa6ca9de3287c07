"""Models of the other descriptors: pair_style dp on 1 and 2 ranks as pair_style deepmd."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from conftest import needs_deepmd, source_graph
from lammps_runs import BAR, dump, run_lammps, thermo
from lmp_dp.tools import tolerances

MODELS = (
    "e3_two",
    "er_exclude_two_sided",
    "hybrid_a_r",
    "hybrid_e3_a",
    "tebd_two_sided",
    "atten_two_layers",
    "atten_v2_layers",
)
ENERGY, FORCE, VIRIAL = tolerances.EXACT[:3]

SCRIPT = """
clear
log NAME.log
units metal
boundary p p p
lattice sc 2.3
region box prism 0 4 0 4 0 4 0.6 -0.4 0.7
create_box 2 box
create_atoms 1 box
set type 1 type/fraction 2 0.6 7311
mass 1 15.999
mass 2 1.008
displace_atoms all random 0.3 0.3 0.3 8831
pair_style MODEL
pair_coeff * * O H
compute pe all pe/atom
compute virial all pressure NULL virial
thermo_style custom step pe vol c_virial[*]
thermo_modify format float %.17g norm no
dump 1 all custom 1 NAME.dump id type x y z fx fy fz c_pe
dump_modify 1 sort id format float %.17g
run 0
"""


def script(model_of: Callable[[str], str]) -> str:
    """All models in one process, one after the other."""
    return "\n".join(
        SCRIPT.replace("NAME", name).replace("MODEL", model_of(name)) for name in MODELS
    )


@pytest.fixture(scope="module")
def deepmd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with what pair deepmd wrote."""
    folder = tmp_path_factory.mktemp("deepmd")
    run_lammps(script(lambda name: f"deepmd {source_graph(name)}"), folder, program=("lmp",))
    return folder


@pytest.fixture(scope="module", params=[1, 2], ids=["one rank", "two ranks"])
def dp(request, tmp_path_factory: pytest.TempPathFactory, converted) -> Path:
    """Folder with what pair dp wrote."""
    folder = tmp_path_factory.mktemp("dp")
    run_lammps(script(lambda name: f"dp {converted(name)}"), folder, ranks=request.param)
    return folder


@needs_deepmd
@pytest.mark.parametrize("name", MODELS)
def test_same_numbers(name: str, dp: Path, deepmd: Path) -> None:
    ours, theirs = (thermo(folder / f"{name}.log") for folder in (dp, deepmd))
    atoms, expected = (dump(folder / f"{name}.dump") for folder in (dp, deepmd))
    n_atoms = atoms["id"].shape[1]
    np.testing.assert_array_equal(atoms["type"], expected["type"])
    np.testing.assert_allclose(ours["PotEng"], theirs["PotEng"], rtol=0, atol=ENERGY * n_atoms)
    for k in range(1, 7):
        virial, same = (t[f"c_virial[{k}]"] * t["Volume"] / BAR for t in (ours, theirs))
        np.testing.assert_allclose(virial, same, rtol=0, atol=VIRIAL)
    for c in "xyz":
        np.testing.assert_allclose(atoms["f" + c], expected["f" + c], rtol=0, atol=FORCE)
    np.testing.assert_allclose(atoms["c_pe"], expected["c_pe"], rtol=0, atol=10 * ENERGY)
    assert np.abs(expected["fx"]).max() > 1e-3
