"""One piece of copper in every unit style: the same motion after conversion.

The conversion here is by CODATA constants, independent of LAMMPS's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from lammps_frames import output, read_frames
from lammps_runs import run_lammps, thermo

EV, DALTON, AVOGADRO = 1.602176634e-19, 1.66053906660e-27, 6.02214076e23  # J, kg, 1/mol


@dataclass
class Style:
    """LAMMPS's values of 1 Å, 1 eV, 1 g/mol, 1 ps and 1 bar."""

    length: float
    energy: float
    mass: float
    time: float
    pressure: float


STYLES = {
    "metal": Style(1.0, 1.0, 1.0, 1.0, 1.0),
    "real": Style(1.0, EV * AVOGADRO / 4184, 1.0, 1e3, 1 / 1.01325),  # kcal/mol, fs, atm
    "si": Style(1e-10, EV, DALTON, 1e-12, 1e5),
    "cgs": Style(1e-8, EV * 1e7, DALTON * 1e3, 1e-12, 1e6),
    "electron": Style(1 / 0.529177210903, 1 / 27.211386245988, 1.0, 1e3, 1e5),  # Bohr, Ha, fs, Pa
    "micro": Style(1e-4, EV * 1e15, DALTON * 1e15, 1e-6, 1e2),  # pg µm²/µs², kPa
    "nano": Style(1e-1, EV * 1e21, DALTON * 1e21, 1e-3, 1e-1),  # ag nm²/ns², MPa
}
#: LAMMPS writes its constants with 7 digits or more, of CODATA 2006 and older, and a pressure, say,
#: takes several of them. A wrong factor is wrong by far more.
CONSTANTS = 5e-6


def copper() -> np.ndarray:
    """32 atoms near their sites in a box of 7.1 Å; LAMMPS's own random numbers depend on units."""
    cells = np.stack(np.meshgrid(*[np.arange(2.0)] * 3, indexing="ij"), -1).reshape(-1, 1, 3)
    basis = np.array([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
    sites = 3.55 * (cells + basis).reshape(-1, 3)
    return sites + np.random.default_rng(8).uniform(0.02, 0.2, sites.shape)


def script(style: str, model: Path) -> str:
    u = STYLES[style]
    atoms = "\n".join(
        "create_atoms 1 single " + " ".join(f"{c * u.length:.17g}" for c in atom)
        for atom in copper()
    )
    return f"""
clear
units {style}
region box block 0 {7.1 * u.length:.17g} 0 {7.1 * u.length:.17g} 0 {7.1 * u.length:.17g}
create_box 1 box
{atoms}
mass 1 {63.546 * u.mass:.17g}
pair_style dp {model}
pair_coeff * * Cu
neighbor {1.0 * u.length:.17g} bin          # the default of units si is 1 mm
velocity all create 900 4928459
timestep {0.002 * u.time:.17g}
fix 1 all nve
{output(style, 5)}
run 20
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, cu_model: Path) -> Path:
    path = tmp_path_factory.mktemp("units")
    run_lammps("".join(script(style, cu_model) for style in STYLES), path)
    return path


def test_energy_is_conserved(folder: Path) -> None:
    for style, u in STYLES.items():
        table = thermo(folder / f"{style}.log")
        assert np.ptp(table["PotEng"]) / u.energy > 0.5, style
        # velocity Verlet at 2 fs with copper's fastest modes (8 THz): (2 pi 0.016)^2 / 8 = 1e-3
        assert np.ptp(table["TotEng"]) < 2e-3 * np.ptp(table["PotEng"]), style


@pytest.mark.parametrize("style", [style for style in STYLES if style != "metal"])
def test_the_same_motion_in_all_styles(folder: Path, style: str) -> None:
    u = STYLES[style]
    metal, found = (thermo(folder / f"{name}.log") for name in ("metal", style))
    assert len(found["Step"]) == 5
    for column, unit in (("PotEng", u.energy), ("KinEng", u.energy)):
        np.testing.assert_allclose(found[column] / unit, metal[column], rtol=CONSTANTS)
    for column in ("Press", "c_virial[1]", "c_virial[4]"):
        largest = np.abs(metal["c_virial[1]"]).max()
        np.testing.assert_allclose(
            found[column] / u.pressure, metal[column], rtol=0, atol=CONSTANTS * largest
        )
    frames = [read_frames(folder / f"{name}.dump") for name in ("metal", style)]
    for ours, theirs in zip(*frames, strict=True):
        for names, unit, scale in (
            ("xyz", u.length, 7.1),
            (["fx", "fy", "fz"], u.energy / u.length, 1),
        ):
            np.testing.assert_allclose(
                theirs.vectors(*names) / unit,
                ours.vectors(*names),
                rtol=0,
                atol=CONSTANTS * scale,
            )
