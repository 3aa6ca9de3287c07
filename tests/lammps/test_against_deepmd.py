"""pair_style dp and pair_style deepmd run the same LAMMPS input and give the same numbers.

All situations go through one process per style, one after the other with ``clear`` between
them (which is a test of ``clear`` by itself).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest

from conftest import INPUTS, TRAINED, needs_deepmd
from lammps_runs import BAR, dump, run_lammps, thermo
from lmp_dp.tools import tolerances

OUTPUT = """
compute pe all pe/atom
compute virial all pressure NULL virial
thermo_style custom step pe etotal vol c_virial[1] c_virial[2] c_virial[3] &
    c_virial[4] c_virial[5] c_virial[6]
thermo_modify format float %.17g norm no
dump 1 all custom {every} NAME.dump id type x y z fx fy fz c_pe
dump_modify 1 sort id format float %.17g
"""
RUN_0 = OUTPUT.format(every=1) + "run 0\n"

COPPER = """
units metal
boundary p p p
lattice fcc 3.615
region box {shape} 0 {n} 0 {n} 0 {n} {tilt}
create_box 1 box
create_atoms 1 box
mass 1 63.546
pair_style {style} CU
pair_coeff * * Cu
displace_atoms all random 0.12 0.12 0.12 8831
"""


def water(style: str, then: str) -> str:
    return f"""
units metal
read_data {INPUTS / "water192.data"}
pair_style {style} WATER
pair_coeff * * O H
{then}"""


def copper(style: str, then: str, n: int = 3, shape: str = "block", tilt: str = "") -> str:
    return COPPER.format(style=style, n=n, shape=shape, tilt=tilt) + then


def hybrid(style: str, pair: str, coefficients: str) -> str:
    plain = f"pair_style {style} WATER\npair_coeff * * O H"
    return water(style, RUN_0).replace(plain, f"pair_style {pair}\n{coefficients}")


def charged(style: str, pair: str, first: str, second: str | None = None) -> str:
    """Copper with charges, and pppm; `first` and `second` are pair_coeff lines."""
    commands = "set atom 1*16 charge 0.4\nset atom 17*32 charge -0.4\nkspace_style pppm 1e-6\n"
    if second:
        commands += f"pair_coeff * * {second}\n"
    text = copper(style, commands + RUN_0, n=2).replace("metal", "metal\natom_style charge")
    return text.replace(f"pair_style {style} CU", f"pair_style {pair}").replace("* * Cu", first)


TILT = """
change_box all xy final 4.0 xz final -3.0 yz final 2.0 remap units box
change_box all x scale 1.03 y scale 0.96 remap
"""
ALLOY = (INPUTS / "in.alloy_nvt").read_text().split("pair_style")[0]

#: name -> (script of a style, eV per atom, eV/Å, eV) that must agree.
EXACT = tolerances.EXACT[:3]
#: After n steps of dynamics round-off has grown; the issue's bound on energies along a run.
DYNAMIC = (1e-6, 1e-4, 1e-2)
SITUATIONS = {
    "run0": (lambda s: water(s, RUN_0), EXACT),
    "triclinic": (lambda s: water(s, TILT + RUN_0), EXACT),
    "smaller_than_cutoff": (lambda s: copper(s, RUN_0, n=1), EXACT),
    "prism": (
        lambda s: copper(s, RUN_0, n=2, shape="prism", tilt="0.8 -0.6 0.9"),
        EXACT,
    ),
    "open": (
        lambda s: copper(s, "change_box all boundary s s s\n" + RUN_0, n=2),
        EXACT,
    ),
    "alloy": (
        lambda s: (
            ALLOY
            + f"pair_style {s} HEA\npair_coeff * * Ta Nb W Mo V Al\n"
            + "displace_atoms all random 0.1 0.1 0.1 41\n"
            + RUN_0
        ),
        EXACT,
    ),
    "two_types_one_element": (
        lambda s: (
            copper(s, "set atom 1*7 type 2\n" + RUN_0, n=2)
            .replace("create_box 1", "create_box 2")
            .replace("mass 1", "mass *")
            .replace("* * Cu", "* * Cu Cu")
        ),
        EXACT,
    ),
    "hybrid_overlay": (
        lambda s: (
            water(s, "").replace(f"pair_style {s} WATER\npair_coeff * * O H", "")
            + f"pair_style hybrid/overlay {s} WATER lj/cut 5.0\n"
            + f"pair_coeff * * {s} O H\npair_coeff * * lj/cut 0.002 2.0\n"
            + RUN_0
        ),
        EXACT,
    ),
    "nve": (
        lambda s: (
            water(s, "fix 1 all nve\ntimestep 0.0005\nneighbor 1.0 bin\nthermo 10\n")
            + OUTPUT.format(every=200)
            + "run 200\n"
        ),
        DYNAMIC,
    ),
    "npt": (
        lambda s: (
            copper(
                s,
                "velocity all create 600 5531\ntimestep 0.001\nthermo 5\n"
                "fix 1 all npt temp 600 600 0.1 tri 0.0 0.0 0.5\n",
                shape="prism",
                tilt="0 0 0",
            )
            + OUTPUT.format(every=40)
            + "run 40\n"
        ),
        DYNAMIC,
    ),
    "minimize": (
        lambda s: copper(s, "thermo 1\n" + OUTPUT.format(every=10) + "minimize 0 1e-9 10 100\n"),
        DYNAMIC,
    ),
    "second_run": (
        lambda s: (
            water(s, "fix 1 all nve\ntimestep 0.0005\nthermo 5\n")
            + OUTPUT.format(every=10)
            + "run 10\ndisplace_atoms group_o move 0.02 0.0 -0.01\nrun 10\nrun 5 pre no\n"
        ),
        DYNAMIC,
    ),
}

#: Under hybrid styles, with types that the model does not see.
WITH_NULL = {
    "hybrid_null": (
        lambda s: hybrid(s, f"hybrid {s} WATER", f"pair_coeff * * {s} NULL H"),
        EXACT,
    ),
    "overlay_null_and_lj": (  # (with plain hybrid pair deepmd crashes, of its partial list)
        lambda s: hybrid(
            s,
            f"hybrid/overlay {s} WATER lj/cut 5.0",
            f"pair_coeff * * {s} O NULL\npair_coeff 1*2 2 lj/cut 0.002 2.0",
        ),
        EXACT,
    ),
    "overlay_nulls": (
        lambda s: hybrid(
            s,
            f"hybrid/overlay {s} WATER {s} WATER",
            f"pair_coeff * * {s} 1 O NULL\npair_coeff * * {s} 2 NULL H",
        ),
        EXACT,
    ),
    "scaled_nulls": (  # their test_pair_deepmd_type_map_with_null
        lambda s: hybrid(
            s,
            f"hybrid/scaled 0.5 {s} WATER 0.5 {s} WATER",
            f"pair_coeff * * {s} 1 O NULL\npair_coeff * * {s} 2 NULL H",
        ),
        EXACT,
    ),
    "alloy_nulls": (
        lambda s: (
            ALLOY
            + f"pair_style hybrid/overlay {s} HEA {s} HEA\n"
            + f"pair_coeff * * {s} 1 Ta Nb NULL Mo NULL NULL\n"
            + f"pair_coeff * * {s} 2 NULL Nb W NULL V NULL\n"
            + "displace_atoms all random 0.1 0.1 0.1 41\n"
            + RUN_0
        ),
        EXACT,
    ),
}
#: Long-range Coulomb forces beside the model.
CHARGED = {
    "pppm": (lambda s: charged(s, f"{s} CU", "* * Cu"), EXACT),
    "pppm_hybrid": (
        lambda s: charged(s, f"hybrid/overlay {s} CU lj/cut 5.0", f"* * {s} Cu", "lj/cut 0.002 2"),
        EXACT,
    ),
    "pppm_coul_long": (  # with pair deepmd it must have the model's cutoff
        lambda s: charged(s, f"hybrid/overlay {s} CU coul/long 6.0", f"* * {s} Cu", "coul/long"),
        EXACT,
    ),
}
SITUATIONS |= WITH_NULL | CHARGED
#: Partial neighbour lists, and ghosts (the alloy is made otherwise on other numbers of ranks).
ON_TWO_RANKS = [name for name in (*WITH_NULL, *CHARGED) if name != "alloy_nulls"]


#: With compressed models: what the tables' tolerance of 1e-9 becomes in energies and forces.
COMPRESSED = (1e-8, 1e-6, 1e-5)


def script(style: str, models: Path = INPUTS / "models", names: Iterable[str] = SITUATIONS) -> str:
    suffix = "h5" if style == "dp" else "pb"
    parts = []
    for name in names:
        make, _ = SITUATIONS[name]
        text = f"clear\nlog {name}.log\n" + make(style).replace("NAME", name)
        text = text.replace("displace_atoms group_o", "group o type 1\ndisplace_atoms o")
        for model in ("WATER", "CU", "HEA"):
            text = text.replace(f"{style} {model}", f"{style} {models / model.lower()}.{suffix}")
        parts.append(text)
    return "\n".join(parts)


@pytest.fixture(scope="module")
def deepmd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with what pair deepmd wrote."""
    folder = tmp_path_factory.mktemp("deepmd")
    run_lammps(script("deepmd"), folder, program=("lmp",))
    return folder


@pytest.fixture(scope="module")
def dp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with what pair dp wrote."""
    folder = tmp_path_factory.mktemp("dp")
    run_lammps(script("dp"), folder)
    return folder


@pytest.fixture(scope="module")
def dp_on_two_ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with what pair dp wrote on two ranks."""
    folder = tmp_path_factory.mktemp("dp_on_two_ranks")
    run_lammps(script("dp", names=ON_TWO_RANKS), folder, ranks=2)
    return folder


@pytest.fixture(scope="module")
def dp_compressed(
    tmp_path_factory: pytest.TempPathFactory, compressed_file: Callable[[str], Path]
) -> Path:
    """Folder with what pair dp wrote with compressed models."""
    folder = tmp_path_factory.mktemp("dp_compressed")
    (models,) = {compressed_file(name).parent for name in TRAINED}
    run_lammps(script("dp", models), folder)
    return folder


@needs_deepmd
@pytest.mark.parametrize("name", SITUATIONS)
def test_same_numbers(name: str, dp: Path, deepmd: Path) -> None:
    assert_same(name, dp, deepmd, SITUATIONS[name][1])


@needs_deepmd
@pytest.mark.parametrize("name", ON_TWO_RANKS)
def test_same_numbers_on_two_ranks(name: str, dp_on_two_ranks: Path, deepmd: Path) -> None:
    assert_same(name, dp_on_two_ranks, deepmd, SITUATIONS[name][1])


@needs_deepmd
@pytest.mark.parametrize("name", SITUATIONS)
def test_compressed_models_give_the_same_to_their_tolerance(
    name: str, dp_compressed: Path, deepmd: Path
) -> None:
    exact = SITUATIONS[name][1]
    assert_same(name, dp_compressed, deepmd, COMPRESSED if exact is EXACT else exact)


def assert_same(name: str, ours_in: Path, theirs_in: Path, bounds: tuple[float, ...]) -> None:
    """Compare thermo output and dumps within (eV per atom, eV/Å, eV)."""
    energy, force, virial = bounds
    ours, theirs = (thermo(folder / f"{name}.log") for folder in (ours_in, theirs_in))
    atoms, expected = (dump(folder / f"{name}.dump") for folder in (ours_in, theirs_in))
    n_atoms = atoms["id"].shape[1]
    assert len(ours["Step"]) == len(theirs["Step"]) > 0
    np.testing.assert_allclose(ours["PotEng"], theirs["PotEng"], rtol=0, atol=energy * n_atoms)
    np.testing.assert_allclose(ours["Volume"], theirs["Volume"], rtol=1e-9)
    for k in range(1, 7):
        name_k = f"c_virial[{k}]"
        np.testing.assert_allclose(
            ours[name_k] * ours["Volume"] / BAR,
            theirs[name_k] * theirs["Volume"] / BAR,
            rtol=0,
            atol=virial,
        )
    for c in "xyz":
        np.testing.assert_allclose(atoms["f" + c], expected["f" + c], rtol=0, atol=force)
    np.testing.assert_allclose(atoms["c_pe"], expected["c_pe"], rtol=0, atol=10 * max(energy, 1e-9))
    assert np.abs(expected["fx"]).max() > 0.05


@needs_deepmd
def test_situations_are_not_empty(dp: Path) -> None:
    """The dynamic situations move, the strained ones have a virial worth comparing."""
    nve = thermo(dp / "nve.log")
    assert len(nve["Step"]) == 21
    assert np.ptp(nve["PotEng"]) > 0.05
    assert np.abs(thermo(dp / "triclinic.log")["c_virial[4]"]).max() > 10.0
