"""Models as they are, of all formats: pair_style dp on 1 and 2 ranks gives what was recorded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from conftest import Frame, recorded_frames, source_graph
from lammps_runs import BAR, dump, run_lammps, thermo
from lmp_dp.model.sources.any_source import read_source
from parity import tolerances

MODELS = (
    "dprc",
    "hco_compressed_one_sided",
    "srtab_two_sided",
    "tebd_strip",
    "v3_a_exclude",
    "v3_a_exclude_dp",
    "v3_atten_none_strip",
    "v3_atten_sharp",
    "v3_atten_strip",
    "v3_e3_exclude",
    "v3_hybrid_atten",
    "v3_r_float32",
    "v3_zbl",
)
#: xx yy zz xy xz yz, LAMMPS's order.
SIX = ([0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2])

SCRIPT = """
clear
log NAME.log
units metal
box tilt large
read_data NAME.data
pair_style dp MODEL OPTIONS
pair_coeff * * ELEMENTS
compute pe all pe/atom
compute virial all pressure NULL virial
thermo_style custom step pe vol c_virial[*]
thermo_modify format float %.17g norm no
dump 1 all custom 1 NAME.dump id type fx fy fz c_pe
dump_modify 1 sort id format float %.17g
run 0
"""


def frame_of(name: str) -> Frame:
    return next(frame for frame in recorded_frames(name) if frame.name.endswith("/triclinic"))


def data(frame: Frame, elements: tuple[str, ...]) -> str:
    """A data file; positions outside of the box are taken back by LAMMPS."""
    cell = frame.cell
    lines = ["frame", "", f"{len(frame.types)} atoms", f"{len(elements)} atom types", ""]
    lines += [f"0 {cell[k, k]:.17g} {c}lo {c}hi" for k, c in enumerate("xyz")]
    lines += [f"{cell[1, 0]:.17g} {cell[2, 0]:.17g} {cell[2, 1]:.17g} xy xz yz", "", "Masses", ""]
    lines += [f"{t + 1} 1.0" for t in range(len(elements))]
    lines += ["", "Atoms # atomic", ""]
    lines += [
        f"{n + 1} {t + 1} {x:.17g} {y:.17g} {z:.17g}"
        for n, (t, (x, y, z)) in enumerate(zip(frame.types, frame.positions, strict=True))
    ]
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module", params=[1, 2], ids=["one rank", "two ranks"])
def dp(request, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with what pair dp wrote: all models in one process, one after the other."""
    folder = tmp_path_factory.mktemp("recorded")
    script = ""
    for name in MODELS:
        elements, frame = read_source(source_graph(name)).type_map, frame_of(name)
        (folder / f"{name}.data").write_text(data(frame, elements))
        options = "" if frame.fparam is None else f"fparam {frame.fparam[0]:.17g}"
        words = {
            "NAME": name,
            "MODEL": str(source_graph(name)),
            "OPTIONS": options,
            "ELEMENTS": " ".join(elements),
        }
        lines = SCRIPT
        for word, text in words.items():
            lines = lines.replace(word, text)
        script += lines
    run_lammps(script, folder, ranks=request.param)
    return folder


@pytest.mark.parametrize("name", MODELS)
def test_recorded_values(name: str, dp: Path) -> None:
    frame = frame_of(name)
    allowed = tolerances(name, read_source(source_graph(name)).precision)
    table, atoms = thermo(dp / f"{name}.log"), dump(dp / f"{name}.dump")
    n_atoms = len(frame.types)
    assert table["PotEng"][0] == pytest.approx(frame.energy, abs=allowed["energy"] * n_atoms)
    forces = np.stack([atoms[f"f{c}"][0] for c in "xyz"], axis=1)
    np.testing.assert_allclose(forces, frame.forces, rtol=0, atol=allowed["forces"])
    np.testing.assert_allclose(
        atoms["c_pe"][0], frame.atom_energies, rtol=0, atol=10 * allowed["atom_energies"]
    )
    found = [table[f"c_virial[{k}]"][0] * table["Volume"][0] / BAR for k in range(1, 7)]
    symmetric = 0.5 * (frame.virial + frame.virial.T)
    np.testing.assert_allclose(found, symmetric[SIX], rtol=0, atol=allowed["virial"])
    assert np.abs(frame.forces).max() > 1e-4
