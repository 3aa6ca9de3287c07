"""Pair style dp under hybrid styles, beside other styles, with suffixes and run styles."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from lammps_frames import assert_frames_are_right, output, read_frames
from lammps_runs import run_lammps, thermo

LJ = "lj/cut 4.0", "pair_coeff * * lj/cut 0.02 2.3"
ZBL = "zbl 3.0 4.0", "pair_coeff * * zbl 29 29"
#: name -> (pair style, pair_coeff lines, {term: factor}); DP and NULL are the styles on their own.
STYLES: dict[str, tuple[str, str, dict[str, float]]] = {
    "dp": ("dp MODEL", "pair_coeff * * Cu Cu", {}),
    "null": ("dp MODEL", "pair_coeff * * Cu NULL", {}),
    "lj": ("lj/cut 4.0", "pair_coeff * * 0.02 2.3", {}),
    "zbl": ("zbl 3.0 4.0", "pair_coeff * * 29 29", {}),
    "overlay": (
        f"hybrid/overlay dp MODEL {LJ[0]} {ZBL[0]}",
        f"pair_coeff * * dp Cu Cu\n{LJ[1]}\n{ZBL[1]}",
        {"dp": 1.0, "lj": 1.0, "zbl": 1.0},
    ),
    "overlay_null": (
        f"hybrid/overlay dp MODEL {LJ[0]}",
        f"pair_coeff * * dp Cu NULL\n{LJ[1]}",
        {"null": 1.0, "lj": 1.0},
    ),
    "scaled": (
        f"hybrid/scaled 0.7 dp MODEL 0.3 {LJ[0]}",
        f"pair_coeff * * dp Cu Cu\n{LJ[1]}",
        {"dp": 0.7, "lj": 0.3},
    ),
    "scaled_by_variable": (
        f"hybrid/scaled v_part dp MODEL 1.0 {ZBL[0]}",
        f"pair_coeff * * dp Cu Cu\n{ZBL[1]}",
        {"dp": 0.25, "zbl": 1.0},
    ),
    "adapt": (
        f"hybrid/overlay dp MODEL {LJ[0]}",
        f"pair_coeff * * dp Cu Cu\n{LJ[1]}\nfix part all adapt 1 pair dp scale * * v_part",
        {"dp": 0.25, "lj": 1.0},
    ),
}
PPPM = "kspace_style pppm 1e-6"
STYLES |= {
    "coulomb": ("coul/long 4.5", f"pair_coeff * *\n{PPPM}", {}),
    "overlay_coulomb": (  # whose cutoff is not that of the model
        "hybrid/overlay dp MODEL coul/long 4.5",
        f"pair_coeff * * dp Cu Cu\npair_coeff * * coul/long\n{PPPM}",
        {"dp": 1.0, "coulomb": 1.0},
    ),
    "coulomb_overlay": (
        "hybrid/overlay coul/long 4.5 dp MODEL dp MODEL",
        f"pair_coeff * * dp 1 Cu NULL\npair_coeff * * dp 2 Cu Cu\npair_coeff * * coul/long\n{PPPM}",
        {"null": 1.0, "dp": 1.0, "coulomb": 1.0},
    ),
}
PER_ATOM = """
compute pe all pe/atom
compute six all stress/atom NULL virial
dump atoms all custom 1 NAME.atoms id type x y z c_pe c_six[*]
dump_modify atoms sort id format float %.17g
"""


def script(name: str, model: Path) -> str:
    style, coefficients, _ = STYLES[name]
    return f"""
clear
units metal
atom_style charge
lattice fcc 3.3
region box block 0 3 0 3 0 3
create_box 2 box
create_atoms 1 box
mass * 63.546
set atom 1*20 type 2
set atom 1*54 charge 0.4
set atom 55*108 charge -0.4
displace_atoms all random 0.15 0.15 0.15 11
variable part equal 0.25
pair_style {style.replace("MODEL", str(model))}
{coefficients}
{output(name)}{PER_ATOM.replace("NAME", name)}
run 0
"""


def run(
    folder: Path, model: Path, *options: str, names: Iterable[str] = STYLES, threads: str = "1"
) -> Path:
    text = "".join(script(name, model) for name in names)
    run_lammps(text, folder, options=options, OMP_NUM_THREADS=threads)
    return folder


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, cu_model: Path) -> Path:
    return run(tmp_path_factory.mktemp("plain"), cu_model)


def everything(folder: Path, name: str) -> dict[str, np.ndarray]:
    """Energy (eV), virial (bar), and forces, energies and virials of the atoms."""
    table = thermo(folder / f"{name}.log")
    (frame,) = read_frames(folder / f"{name}.dump")
    (atoms,) = read_frames(folder / f"{name}.atoms")
    return {
        "energy": table["PotEng"][:1],
        "virial": np.array([table[f"c_virial[{c}]"][0] for c in range(1, 7)]),
        "forces": frame.vectors("fx", "fy", "fz"),
        "atom energies": atoms.columns["c_pe"],
        "atom virials": atoms.vectors(*(f"c_six[{c}]" for c in range(1, 7))),
    }


def assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray], name: str) -> None:
    for what, values in expected.items():
        # sums in another order: round-off of the largest value, and 1e2 terms
        np.testing.assert_allclose(
            found[what], values, rtol=0, atol=1e-13 * np.abs(values).max() * 1e2, err_msg=name
        )


@pytest.mark.parametrize("name", [name for name, (*_, terms) in STYLES.items() if terms])
def test_sums_add_up(plain: Path, name: str) -> None:
    terms = {term: everything(plain, term) for term in STYLES[name][2]}
    assert all(np.abs(term["energy"][0]) > 0.1 for term in terms.values())
    expected = {
        what: sum(factor * terms[term][what] for term, factor in STYLES[name][2].items())
        for what in next(iter(terms.values()))
    }
    assert_same(everything(plain, name), expected, name)


@pytest.mark.parametrize("suffix", ["omp", "opt"])
def test_other_styles_with_a_suffix(
    plain: Path, cu_model: Path, tmp_path: Path, suffix: str
) -> None:
    """(LAMMPS itself refuses hybrid/scaled there.)"""
    names = [name for name in STYLES if not name.startswith("scaled")]
    accelerated = run(tmp_path, cu_model, "-sf", suffix, names=names, threads="2")
    for name in names:
        assert_same(everything(accelerated, name), everything(plain, name), name)
    assert "pair lj/cut/" + suffix in (tmp_path / "lj.log").read_text()


# ------------------------------------------------------------------------ long-range forces

KSPACE = """
clear
units metal
atom_style charge
atom_modify map yes
lattice fcc 3.3
region box block 0 3 0 3 0 3
create_box 1 box
create_atoms 1 box
mass * 63.546
set atom 1*54 charge 0.4
set atom 55*108 charge -0.4
displace_atoms all random 0.15 0.15 0.15 11
pair_style {pair}
{coefficients}
{kspace}
log {name}.log
thermo_style custom step pe elong
thermo_modify format float %.17g
dump frame all custom 1 {name}.dump id x y z q
dump_modify frame sort id format float %.17g
run 0
"""


def long_range_energy(positions: np.ndarray, charges: np.ndarray, edge: float, g: float) -> float:
    """Energy (eV) of Gaussian charges of width 1/(g sqrt 2) in a cubic box, without self-energies.

    Ewald's sum, 2 pi/V sum_k exp(-k^2/4g^2)/k^2 |sum_i q_i exp(ikr_i)|^2 - g/sqrt(pi) sum_i q_i^2.
    """
    n = np.arange(-9, 10)
    k = 2 * np.pi / edge * np.stack(np.meshgrid(n, n, n), axis=-1).reshape(-1, 3)
    k = k[np.any(k != 0.0, axis=1)]
    k2 = np.sum(k**2, axis=1)
    structure = np.exp(1j * k @ positions.T) @ charges
    energy = 2 * np.pi / edge**3 * np.sum(np.exp(-k2 / (4 * g**2)) / k2 * np.abs(structure) ** 2)
    return 14.399645 * float(energy - g / np.sqrt(np.pi) * np.sum(charges**2))


@pytest.mark.parametrize("solver", ["ewald", "pppm"])
@pytest.mark.parametrize("pair", ["dp MODEL", "hybrid/overlay dp MODEL dp MODEL"])
def test_the_long_range_alone(cu_model: Path, tmp_path: Path, solver: str, pair: str) -> None:
    """A kspace style with no other Coulomb style beside the model: as with pair deepmd."""
    twice = pair.startswith("hybrid")
    fill = {
        "pair": pair.replace("MODEL", str(cu_model)),
        "coefficients": "pair_coeff * * dp 1 Cu\npair_coeff * * dp 2 Cu"
        if twice
        else "pair_coeff * * Cu",
    }
    kspace = f"kspace_style {solver} 1e-6\nkspace_modify gewald 0.4"
    run_lammps(
        KSPACE.format(name="without", kspace="", **fill)
        + KSPACE.format(name="with", kspace=kspace, **fill),
        tmp_path,
    )
    table, without = thermo(tmp_path / "with.log"), thermo(tmp_path / "without.log")
    (frame,) = read_frames(tmp_path / "with.dump")
    expected = long_range_energy(
        frame.vectors("x", "y", "z"), frame.columns["q"], float(frame.cell[0, 0]), 0.4
    )
    assert abs(expected) > 10.0
    # 1e-6 of 14.4 eV/Å is the RMS error of forces; of the energy that over 1 Å, for 108 atoms
    np.testing.assert_allclose(table["E_long"][0], expected, rtol=0, atol=1.44e-5 * 108**0.5)
    np.testing.assert_allclose(
        table["PotEng"][0], without["PotEng"][0] + table["E_long"][0], rtol=1e-13
    )


def test_a_cut_off_coulomb_style_has_no_long_range(cu_model: Path, tmp_path: Path) -> None:
    text = KSPACE.format(
        name="x",
        pair=f"hybrid/overlay dp {cu_model} coul/cut 5.0",
        coefficients="pair_coeff * * dp Cu\npair_coeff * * coul/cut",
        kspace=PPPM,
    )
    done = run_lammps(text, tmp_path, check=False)
    assert done.returncode == 1
    assert "ERROR: Coulomb styles of pair hybrid sub-styles do not match" in done.output


def test_kspace_before_pair_coeff(cu_model: Path, tmp_path: Path) -> None:
    text = KSPACE.format(name="x", pair=f"dp {cu_model}", coefficients="", kspace=PPPM)
    done = run_lammps(text, tmp_path, check=False)
    assert done.returncode == 1
    assert "ERROR: pair_style dp: pair_coeff is missing" in done.output


# ------------------------------------------------------------------------ run styles

MOTION = """
clear
units metal
lattice fcc 3.615
region box block 0 2 0 2 0 2
create_box 1 box
create_atoms 1 box
mass 1 63.546
pair_style dp {model}
pair_coeff * * Cu
velocity all create 900 4928459
timestep 0.002
fix 1 all nve
run_style {run_style}
{output}
run 6
"""


def test_respa(cu_model: Path, tmp_path: Path) -> None:
    """One level is velocity Verlet, and so are two with nothing on the inner one."""
    styles = {"verlet": "verlet", "one": "respa 1", "two": "respa 2 2 bond 1 pair 2"}
    text = "".join(
        MOTION.format(model=cu_model, run_style=style, output=output(name))
        for name, style in styles.items()
    )
    run_lammps(text, tmp_path)
    frames = {name: assert_frames_are_right(tmp_path, name, cu_model, ["Cu"]) for name in styles}
    for name in ("one", "two"):
        np.testing.assert_allclose(
            frames[name][-1].vectors("x", "y", "z"),
            frames["verlet"][-1].vectors("x", "y", "z"),
            rtol=0,
            atol=1e-12,
        )


def test_respa_cannot_split_the_model(cu_model: Path, tmp_path: Path) -> None:
    text = MOTION.format(model=cu_model, run_style="respa 2 2 inner 1 4.0 5.0 outer 2", output="")
    done = run_lammps(text, tmp_path, check=False)
    assert done.returncode == 1
    assert "ERROR: Pair style does not support rRESPA inner/middle/outer" in done.output
