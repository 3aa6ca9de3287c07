"""Small models that no shipped one is like, in LAMMPS: pair_style dp against pair_style deepmd."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from conftest import needs_deepmd, source_graph
from lammps_runs import dump, run_lammps
from lmp_dp.model import save
from lmp_dp.model.sources.any_source import read_source
from lmp_dp.tools.tolerances import EXACT

NAMES = ("cu_compressed", "cu_compressed_hybrid", "lf_cu")


def script(style: str, folder: Path, suffix: str) -> str:
    """One situation per model: displaced copper of 108 atoms."""
    return "".join(
        f"""
clear
units metal
lattice fcc 3.9
region box block 0 3 0 3 0 3
create_box 1 box
create_atoms 1 box
mass 1 63.546
reset_atoms id sort yes
displace_atoms all random 0.15 0.15 0.15 8831
pair_style {style} {folder / name}.{suffix}
pair_coeff * * Cu
compute pe all pe/atom
dump 1 all custom 1 {name}.dump id fx fy fz c_pe
dump_modify 1 sort id format float %.17g
run 0
"""
        for name in NAMES
    )


@pytest.fixture(scope="module")
def deepmd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with what pair deepmd wrote."""
    folder = tmp_path_factory.mktemp("deepmd")
    models = source_graph(NAMES[0]).parent
    run_lammps(script("deepmd", models, "pb"), folder, program=("lmp",))
    return folder


@needs_deepmd
@pytest.mark.parametrize("ranks", [1, 2])
def test_same_numbers(ranks: int, deepmd: Path, tmp_path: Path) -> None:
    for name in NAMES:
        save(read_source(source_graph(name)), tmp_path / f"{name}.h5")
    run_lammps(script("dp", tmp_path, "h5"), tmp_path, ranks=ranks)
    for name in NAMES:
        found, expected = (dump(folder / f"{name}.dump") for folder in (tmp_path, deepmd))
        assert np.ptp(expected["fx"]) > 0.1
        for c in "xyz":
            np.testing.assert_allclose(found["f" + c], expected["f" + c], rtol=0, atol=EXACT.force)
        np.testing.assert_allclose(found["c_pe"], expected["c_pe"], rtol=0, atol=EXACT.atom_energy)
