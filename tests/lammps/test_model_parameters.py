"""fparam and aparam in LAMMPS: the keywords give the numbers of pair deepmd."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from conftest import INPUTS, MODELS, needs_deepmd
from lammps_runs import BAR, dump, run_lammps, thermo
from lmp_dp import Potential
from lmp_dp.errors import InputError
from lmp_dp.lammps.arguments import read_arguments
from lmp_dp.lammps.model_parameters import check
from lmp_dp.model import Network, load, save
from lmp_dp.tools import tolerances

START = """
units {units}
read_data {data}
velocity all create 300.0 4711
compute T all temp
compute v all reduce ave vx vy
compute ke all ke/atom
compute vxy all property/atom vx vy vz
variable a equal 1.7
variable b equal 2.6
variable c equal 0.4+0.1*step
fix one all ave/time 1 1 1 v_a
fix three all ave/time 1 1 1 v_a v_b v_c
pair_style STYLE FOLDER/{model}.SUFFIX {keywords}
pair_coeff * * O H
"""
OUTPUT = """
compute virial all pressure NULL virial
thermo 1
thermo_style custom step pe etotal vol c_virial[1] c_virial[2] c_virial[3] &
    c_virial[4] c_virial[5] c_virial[6]
thermo_modify format float %.17g norm no
compute nine all centroid/stress/atom NULL virial
dump 1 all custom 1 {name}.dump id fx fy fz c_nine[*]
dump_modify 1 sort id format float %.17g
log {name}.log
"""
RUN_0 = "run 0\n"
#: Two steps, velocities and so parameters change; the models are random, and their forces large.
RUN_2 = "fix nve all nve/limit 0.01\nrun 2\n"


def situation(model: str, keywords: str, run: str = RUN_0, units: str = "metal") -> tuple[str, str]:
    return model, START.format(
        units=units, data=INPUTS / "water192.data", model=model, keywords=keywords
    ) + OUTPUT + run


SITUATIONS = {
    "fparam": situation("oh_fparam", "fparam 1.3"),
    "fparam_and_aparam": situation("oh_fparam_aparam", "fparam 1.2 3.4 aparam 0.7", RUN_2),
    "aparam": situation("oh_aparam", "aparam 2.1 -0.3"),
    "real": situation("oh_fparam_aparam", "aparam 0.7 fparam 1.2 3.4", units="real"),
    "fparam_from_scalar": situation("oh_fparam", "fparam_from_compute T", RUN_2),
    "fparam_from_vector": situation("oh_fparam_aparam", "fparam_from_compute v aparam 0.7"),
    "fparam_from_fix": situation("oh_fparam_aparam", "fparam_from_fix one aparam 0.7"),
    "fparam_from_fix_vector": situation(
        "oh_fparam_aparam", "fparam_from_fix three 2 aparam 0.7", RUN_2
    ),
    "aparam_from_vector": situation(
        "oh_fparam_aparam", "aparam_from_compute ke fparam 1.2 3.4", RUN_2
    ),
    "aparam_from_array": situation("oh_aparam", "aparam_from_compute vxy"),
}
#: eV per atom, eV/Å (or relative to the largest force, if that is more), eV: round-off of float64,
#: and 50 units in the last place (6e-8) of float32, on sums over 192 atoms.
EXACT = tolerances.EXACT[:3]
FLOAT32 = (3e-6, 3e-6, 1e-3)


def script(style: str, folder: Path) -> str:
    parts = [f"clear\n{text.replace('{name}', name)}" for name, (_, text) in SITUATIONS.items()]
    text = "".join(parts).replace("STYLE", style).replace("FOLDER", str(folder))
    return text.replace("SUFFIX", "pb" if style == "deepmd" else "h5")


@pytest.fixture(scope="module")
def deepmd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("deepmd")
    run_lammps(script("deepmd", MODELS), folder, program=("lmp",))
    return folder


@pytest.fixture(scope="module")
def folder(converted: Callable[[str], Path]) -> Path:
    """Folder of the model files."""
    return {converted(model).parent for model, _ in SITUATIONS.values()}.pop()


@pytest.fixture(scope="module", params=[1, 2])
def dp(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, folder: Path
) -> Path:
    out = tmp_path_factory.mktemp(f"dp{request.param}")
    run_lammps(script("dp", folder), out, ranks=request.param)
    return out


@needs_deepmd
@pytest.mark.parametrize("name", SITUATIONS)
def test_same_numbers(name: str, dp: Path, deepmd: Path) -> None:
    model, text = SITUATIONS[name]
    energy, force, virial = FLOAT32 if model == "oh_aparam" else EXACT
    ours, theirs = (thermo(folder / f"{name}.log") for folder in (dp, deepmd))
    steps = 3 if "run 2" in text else 1
    assert len(ours["Step"]) == len(theirs["Step"]) == steps
    unit = 23.06054783 if name == "real" else 1.0  # kcal/mol in one eV
    np.testing.assert_allclose(ours["PotEng"], theirs["PotEng"], rtol=0, atol=192 * energy * unit)
    bar = 68568.415 if name == "real" else BAR
    for k in range(1, 7):
        a, b = (x[f"c_virial[{k}]"] * x["Volume"] / bar for x in (ours, theirs))
        np.testing.assert_allclose(a, b, rtol=0, atol=virial * unit)
    found, expected = (dump(folder / f"{name}.dump") for folder in (dp, deepmd))
    for k in range(1, 10):
        a, b = (x[f"c_nine[{k}]"] / bar for x in (found, expected))
        np.testing.assert_allclose(a, b, rtol=0, atol=virial * unit)
    largest = max(np.abs(expected["f" + c]).max() for c in "xyz")
    assert largest > 0.03
    for c in "xyz":
        np.testing.assert_allclose(
            found["f" + c], expected["f" + c], rtol=0, atol=force * max(unit, largest)
        )


# ---------------------------------------------------------------------------- fix ttm

SHAPE = (3, 2, 4)
TTM = """
units metal
read_data {data}
change_box all ortho
group most id 1:150
fix e {group} ttm 1 1.0 10 1 1 0 1 {shape} infile grid.txt
pair_style dp {model} {keywords} ttm e
pair_coeff * * O H
compute pe all pe/atom
dump 1 all custom 1 out.dump id type x y z c_pe
dump_modify 1 sort id format float %.17g
{then}
run 0
"""


def grid_of_temperatures(path: Path) -> np.ndarray:
    """Temperatures in cells along x, y and z, and the file that fix ttm reads."""
    grid = np.random.default_rng(8).uniform(0.5, 4.0, SHAPE)
    cells = np.argwhere(grid)
    path.write_text(
        "".join(f"{x + 1} {y + 1} {z + 1} {float(grid[x, y, z])!r}\n" for x, y, z in cells)
    )
    return grid


def ttm_script(model: Path, keywords: str = "", then: str = "", group: str = "most") -> str:
    return TTM.format(
        data=INPUTS / "water192.data",
        shape=" ".join(map(str, SHAPE)),
        model=model,
        keywords=keywords,
        then=then,
        group=group,
    )


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("name", ["oh_fparam", "oh_fparam_aparam"])
def test_electron_temperatures(name: str, ranks: int, folder: Path, tmp_path: Path) -> None:
    """Of the cell of each atom in the fix's group, or their mean, as Python evaluates them."""
    model = folder / f"{name}.h5"
    grid = grid_of_temperatures(tmp_path / "grid.txt")
    of_frame = name == "oh_fparam"
    run_lammps(ttm_script(model, "" if of_frame else "fparam 1.2 3.4"), tmp_path, ranks=ranks)
    atoms = {key: values[0] for key, values in dump(tmp_path / "out.dump").items()}
    positions = np.stack([atoms[c] for c in "xyz"], axis=1)
    edge = 12.4447
    cells = np.floor(positions / edge * SHAPE).astype(int) % SHAPE
    aparam = np.where(atoms["id"] <= 150, grid[tuple(cells.T)], 0.0)[:, None]
    parameters = {"fparam": grid.mean()} if of_frame else {"fparam": [1.2, 3.4], "aparam": aparam}
    expected = Potential(model, backend="reference", sel="ignore").evaluate(
        positions, atoms["type"].astype(int) - 1, [edge] * 3, **parameters
    )
    # the file of fix ttm has all digits; round-off of float64 otherwise
    np.testing.assert_allclose(atoms["c_pe"], expected.atom_energies, rtol=0, atol=1e-9)


def test_all_models_of_a_deviation_get_the_parameters(folder: Path, tmp_path: Path) -> None:
    """The second model is 1.1 times the first, so that the deviation is 0.05 |F|."""
    model = load(folder / "oh_fparam.h5")
    nets = tuple(
        Network(
            (*net.layers[:-1], replace(net.layers[-1], weight_io=1.1 * net.layers[-1].weight_io))
        )
        for net in model.fitting.nets
    )
    save(replace(model, fitting=replace(model.fitting, nets=nets)), tmp_path / "more.h5")
    text = SITUATIONS["fparam"][1].replace("{name}", "out").replace("STYLE", "dp")
    text = text.replace("fparam 1.3", f"{tmp_path / 'more.h5'} fparam 1.3 atomic")
    run_lammps(text.replace("FOLDER", str(folder)).replace("SUFFIX", "h5"), tmp_path)
    forces = dump(tmp_path / "out.dump")
    expected = 0.05 * np.sqrt(sum(forces["f" + c][0] ** 2 for c in "xyz"))
    found = np.loadtxt(tmp_path / "model_devi.out")[7:]
    np.testing.assert_allclose(found, expected, rtol=1e-6)  # seven digits are printed


# ---------------------------------------------------------------------------- what is refused

PLAIN = START + "run 0\n"
FRAME, ATOM, BOTH, NONE = (1, 0), (0, 2), (2, 1), (0, 0)  # numbers of fparam and aparam


@pytest.mark.parametrize(
    ("counts", "words", "message"),
    [
        (FRAME, "", "the model needs fparam, 1 values: write one of fparam, fparam_from"),
        (ATOM, "", "the model needs aparam, 2 values: write one of aparam, aparam_from"),
        (BOTH, "fparam 1 2 3 aparam 1", "fparam has 3 values, the model needs 2"),
        (BOTH, "fparam 1 2 aparam", "keyword aparam has no value"),
        (BOTH, "aparam fparam 1 2", "keyword aparam has no value"),
        (FRAME, "fparam warm", "fparam warm is not a number"),
        (FRAME, "fparam 1 aparam 1", "keyword aparam is given, but the model takes no aparam"),
        (NONE, "fparam 1", "keyword fparam is given, but the model takes no fparam"),
        (NONE, "ttm e", "the model takes neither fparam nor aparam"),
        (FRAME, "fparam 1 fparam_from_compute T", "fparam and fparam_from_compute: leave one"),
        (FRAME, "fparam 1 ttm e", "fparam comes from fparam and ttm: leave one"),
        (BOTH, "fparam 1 2 aparam 1 ttm e", "aparam comes from aparam and ttm: leave one"),
        (ATOM, "ttm e", "ttm gives one value, but the model needs 2 for aparam"),
        (FRAME, "fparam_from_fix three 0", "index 0 is not a positive whole number"),
    ],
)
def test_bad_keywords_are_refused(counts: tuple[int, int], words: str, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        check(read_arguments(["model.h5", *words.split()]), *counts)


@pytest.mark.parametrize(
    ("model", "keywords", "message"),
    [
        ("oh_fparam", "", "the model needs fparam, 1 values"),
        ("oh_fparam", "fparam_from_compute nil", "fparam_from_compute: there is no compute nil"),
        ("oh_fparam", "fparam_from_compute ke", "compute ke gives no scalar"),
        (
            "oh_fparam_aparam",
            "aparam 1 fparam_from_compute ke",
            "compute ke gives no vector of 2 values",
        ),
        ("oh_fparam", "fparam_from_fix nil", "fparam_from_fix: there is no fix nil"),
        ("oh_fparam", "fparam_from_fix three", "fix three gives no scalar"),
        ("oh_fparam", "fparam_from_fix three 4", "fix three gives no vector of 4 values"),
        ("oh_aparam", "aparam_from_compute T", "compute T gives no 2 values per atom"),
        ("oh_aparam", "aparam_from_compute ke", "compute ke gives no 2 values per atom"),
        ("oh_fparam", "ttm one", "fix one is of style ave/time, expected ttm or ttm/grid"),
    ],
)
def test_unfit_computes_and_fixes_are_refused(
    model: str, keywords: str, message: str, folder: Path, tmp_path: Path
) -> None:
    text = PLAIN.format(
        units="metal", data=INPUTS / "water192.data", model=model, keywords=keywords
    )
    text = text.replace("STYLE", "dp").replace("FOLDER", str(folder)).replace("SUFFIX", "h5")
    done = run_lammps(text, tmp_path, check=False, timeout=60.0)
    assert done.returncode != 0
    assert "Traceback" not in done.output
    assert "ERROR: pair_style dp: " in done.output
    assert message in done.output


def test_models_that_take_other_parameters_are_refused(
    converted: Callable[[str], Path], tmp_path: Path
) -> None:
    one, other = converted("oh_fparam"), converted("oh_one_sided")
    text = PLAIN.format(
        units="metal", data=INPUTS / "water192.data", model="M", keywords="fparam 1"
    )
    text = text.replace("STYLE FOLDER/M.SUFFIX", f"dp {one} {other}")
    output = run_lammps(text, tmp_path, check=False).output
    assert "the models differ in their numbers of fparam and aparam: [(1, 0), (0, 0)]" in output
