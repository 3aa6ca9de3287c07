"""Atoms that come, go, change type or are held: no stale lists, and energies as without LAMMPS."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lammps_frames import assert_frames_are_right, output, read_frames
from lammps_runs import run_lammps, thermo

ALLOY = ["Ta", "Nb"]
COPPER = """
clear
units metal
{processors}
atom_modify map yes
lattice fcc 3.615
region box block 0 2 0 2 0 {height}
create_box 2 box
region solid block 0 2 0 2 0 1.9
create_atoms 1 region solid
mass * 63.546
displace_atoms all random 0.1 0.1 0.1 17
pair_style dp {model}
pair_coeff * * Cu {second}
neighbor 1.0 bin
timestep 0.002
velocity all create 600 4928459
fix nve all nve
"""
#: name -> (second LAMMPS type, height of the box in cells, commands).
ROWS: dict[str, tuple[str, int, str]] = {
    "gcmc": (
        "Cu",
        4,
        "region top block 0 2 0 2 2.2 3.8\n"
        "fix mc all gcmc 1 6 2 1 1187 900 -2.5 0.4 region top overlap_cutoff 1.8",
    ),
    "deposit": (
        "Cu",
        5,
        "region top block 0 2 0 2 3 4.5\n"
        "fix add all deposit 4 1 2 8831 region top near 0.5 vz -20 -20",
    ),
    "evaporate": (
        "Cu",
        3,
        "region top block 0 2 0 2 1.0 3\nfix take all evaporate 2 2 top 49892",
    ),
    "swap_with_null": (
        "NULL",
        3,
        "set atom 1*9 type 2\nfix mc all atom/swap 2 3 29494 3000 types 1 2",
    ),
    "setforce": (
        "Cu",
        3,
        "group held id 1:12\nvelocity held set 0 0 0\nfix hold held setforce 0 0 0",
    ),
}


def row(name: str, model: Path, processors: str = "") -> str:
    second, height, commands = ROWS[name]
    text = COPPER.format(processors=processors, model=model, second=second, height=height)
    return f"{text}{commands}\n{output(name)}run 8\nwrite_data {name}.data\n"


@pytest.fixture(scope="module", params=[1, 2])
def folder(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, cu_model: Path
) -> Path:
    path = tmp_path_factory.mktemp("changing")
    run_lammps("".join(row(name, cu_model) for name in ROWS), path, ranks=request.param)
    return path


def numbers_of_atoms(folder: Path, name: str) -> list[float]:
    return thermo(folder / f"{name}.log")["Atoms"].tolist()


@pytest.mark.parametrize("name", ["gcmc", "deposit", "evaporate"])
def test_atoms_that_come_and_go(folder: Path, cu_model: Path, name: str) -> None:
    assert_frames_are_right(folder, name, cu_model, ["Cu", "Cu"])
    n = numbers_of_atoms(folder, name)
    assert len(set(n)) > 1
    if name == "deposit":
        assert n[-1] == n[0] + 4
    elif name == "evaporate":
        assert n[-1] < n[0]


def test_types_that_change_without_a_new_list(folder: Path, cu_model: Path) -> None:
    frames = assert_frames_are_right(folder, "swap_with_null", cu_model, ["Cu", "NULL"])
    assert any((frame.types != frames[0].types).any() for frame in frames)
    assert all((frame.types == 2).sum() == 9 for frame in frames)


SET_TYPE = """
units metal
boundary f f f
lattice fcc 3.615
region box block -1 4 -1 4 -1 4
create_box 2 box
region cluster block 0 1.9 0 1.9 0 1.9
create_atoms 1 region cluster
mass * 63.546
displace_atoms all random 0.1 0.1 0.1 17
pair_style dp {model}
pair_coeff * * Cu NULL
fix nve all nve
timestep 0.002
velocity all create 300 4928459
{output}
run 1
set atom 3*5 type 2
run 2 pre no
set atom 3*4 type 1
run 2 pre no
set atom 9 type 2
run 1
"""


def test_set_type_without_a_new_list(cu_model: Path, tmp_path: Path) -> None:
    """(Open boundaries: ghosts would keep their types, which is LAMMPS's affair.)"""
    run_lammps(SET_TYPE.format(model=cu_model, output=output("set")), tmp_path)
    frames = assert_frames_are_right(tmp_path, "set", cu_model, ["Cu", "NULL"])
    assert [int((frame.types == 2).sum()) for frame in frames] == [0, 0, 3, 3, 1, 1, 2]
    assert "Neighbor list builds = 0" in (tmp_path / "set.log").read_text()


def test_held_atoms_are_still_neighbours(folder: Path, cu_model: Path) -> None:
    frames = read_frames(folder / "setforce.dump")
    held = np.isin(frames[0].columns["id"], np.arange(1, 13))
    for frame in frames:
        assert not frame.vectors("fx", "fy", "fz")[held].any()
        np.testing.assert_array_equal(
            frame.vectors("x", "y", "z")[held], frames[0].vectors("x", "y", "z")[held]
        )
    table = thermo(folder / "setforce.log")
    assert np.ptp(table["TotEng"]) < 0.02 * np.ptp(table["PotEng"])  # held atoms do no work


def test_a_fresh_run_of_the_final_configuration(
    folder: Path, cu_model: Path, tmp_path: Path
) -> None:
    names = ["gcmc", "deposit", "evaporate", "swap_with_null"]
    text = "".join(
        f"""
clear
units metal
read_data {folder / name}.data nocoeff
pair_style dp {cu_model}
pair_coeff * * Cu {ROWS[name][0]}
{output(name)}run 0
"""
        for name in names
    )
    run_lammps(text, tmp_path)
    for name in names:
        fresh, table = thermo(tmp_path / f"{name}.log"), thermo(folder / f"{name}.log")
        # write_data writes 16 digits
        np.testing.assert_allclose(fresh["PotEng"][0], table["PotEng"][-1], rtol=0, atol=1e-9)


# ------------------------------------------------------------------------ fix gcmc's own energies

DILUTE = """
units metal
region box block 0 40 0 40 0 40
create_box 1 box
create_atoms 1 random 12 7741 box overlap 9.0 maxtry 2000
mass 1 63.546
pair_style dp {model}
pair_coeff * * Cu
{commands}
thermo_style custom step pe atoms {columns}
thermo_modify format float %.17g
run {steps}
"""


def test_excluded_atoms_are_absent(cu_model: Path, tmp_path: Path) -> None:
    """`exclude group G all`: the energy without the atoms of G, not with them as lone atoms."""
    far = DILUTE.format(
        model=cu_model,
        columns="",
        commands="""
create_atoms 1 single 1 1 1
create_atoms 1 single 3.2 1 1
group g id 1 13
{}
""",
        steps=0,
    )
    text = "\n".join(
        f"clear\nlog {name}.log\n" + far.replace("{}", command)
        for name, command in (
            ("all", ""),
            ("excluded", "neigh_modify exclude group g all"),
            ("reversed", "neigh_modify exclude group all g"),
            ("deleted", "delete_atoms group g compress no"),
        )
    )
    run_lammps(text, tmp_path)
    energy = {
        name: thermo(tmp_path / f"{name}.log")["PotEng"][0]
        for name in ("all", "excluded", "reversed", "deleted")
    }
    assert energy["excluded"] == pytest.approx(energy["deleted"], rel=1e-14)
    assert energy["reversed"] == pytest.approx(energy["deleted"], rel=1e-14)
    assert abs(energy["all"] - energy["deleted"]) > 1.0


@pytest.mark.parametrize("ranks", [1, 2])
def test_gcmc_deletes_by_the_right_energy(cu_model: Path, tmp_path: Path, ranks: int) -> None:
    """An ideal gas, mu above the energy of a lone atom by much: no atom may leave, all may come.

    Each atom costs e0; with z = exp(mu/kT)/L^3 an insertion is accepted with probability
    z V exp(-e0/kT)/(N+1), a deletion with N exp(e0/kT)/(z V). mu = e0 + 1.5 eV at 900 K makes
    these >> 1 and << 1e-10 (V/L^3 = 2e8, exp(-e0/kT) = 1e15). Were a lone atom's energy left in
    the energy after a deletion, as it is in pair deepmd, the second would be N/31.
    """
    text = DILUTE.format(model=cu_model, columns="", commands="", steps=0)
    run_lammps(text, tmp_path / "single")
    e0 = thermo(tmp_path / "single" / "log.lammps")["PotEng"][0] / 12
    assert e0 < -1.5
    commands = f"""
fix mc all gcmc 1 60 0 1 1187 900 {e0 + 1.5} 0.4 overlap_cutoff 7.0
compute_modify thermo_temp dynamic/dof yes
"""
    columns = "f_mc[3] f_mc[4] f_mc[5] f_mc[6]"
    text = DILUTE.format(model=cu_model, columns=columns, commands=commands, steps=2)
    run_lammps(text, tmp_path, ranks=ranks)
    table = thermo(tmp_path / "log.lammps")
    insertions, inserted, deletions, deleted = (table[f"f_mc[{k}]"][-1] for k in (3, 4, 5, 6))
    assert insertions > 20
    assert deletions > 20
    assert inserted > 10
    assert deleted == 0
    assert table["Atoms"][-1] == 12 + inserted


# ------------------------------------------------------------------------ neighbours taken away

BONDED = """
clear
units metal
atom_style {atom_style}
lattice fcc 3.62
region box block 0 2 0 2 0 2
create_box 2 box {bonds}
create_atoms 1 box
mass * 63.546
set atom 1*8 type 2
displace_atoms all random 0.1 0.1 0.1 5
group left id 1:8
group right id 9:32
{before}
pair_style dp {model}
pair_coeff * * {elements}
{after}
{output}
run 0
"""
SPACE = "bond/types 1 extra/bond/per/atom 4 extra/special/per/atom 12"


def bonded(
    model: Path,
    name: str,
    *,
    special: str | None = None,
    after: str = "",
    elements: str = "Cu Cu",
    atom_style: str = "atomic",
) -> str:
    before = ""
    if special is not None:
        atom_style = "bond"
        before = f"special_bonds lj/coul {special}\nbond_style zero\nbond_coeff *"
        after = "".join(f"create_bonds single/bond 1 1 {j}\n" for j in (2, 3, 4)) + after
    return BONDED.format(
        atom_style=atom_style,
        bonds="" if special is None else SPACE,
        before=before,
        model=model,
        elements=elements,
        after=after,
        output=output(name),
    )


def test_special_bonds(cu_model: Path, tmp_path: Path) -> None:
    """Weights do not concern the model, as long as no neighbour goes missing."""
    names = {"one": "1 1 1", "tiny": "1e-50 1e-50 1e-50", "half": "1e-50 1e-50 0.5"}
    text = "".join(bonded(cu_model, name, special=special) for name, special in names.items())
    run_lammps(text, tmp_path)
    for name in names:
        assert_frames_are_right(tmp_path, name, cu_model, ["Cu", "Cu"])

    done = run_lammps(bonded(cu_model, "zero", special="0 1 1"), tmp_path, check=False)
    assert done.returncode == 1
    assert "special_bonds takes bonded neighbours away" in done.output


@pytest.mark.parametrize(
    ("exclusion", "atom_style", "ranks"),
    [
        ("type 1 2", "atomic", 1),
        ("group left left", "atomic", 1),
        ("group left right", "atomic", 2),
        ("molecule/intra all", "molecular", 1),
        ("molecule/inter left", "molecular", 1),
    ],
)
def test_exclusions_are_refused(
    cu_model: Path, tmp_path: Path, exclusion: str, atom_style: str, ranks: int
) -> None:
    text = bonded(cu_model, "x", after=f"neigh_modify exclude {exclusion}", atom_style=atom_style)
    done = run_lammps(text, tmp_path, check=False, ranks=ranks)
    assert done.returncode != 0
    message = f"pair_style dp: neigh_modify exclude {exclusion} takes neighbours away"
    assert f"ERROR: {message}" in done.output


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("command", ["neigh_modify include", "comm_modify group"])
def test_groups_without_all_atoms_of_the_model_are_refused(
    cu_model: Path, tmp_path: Path, command: str, ranks: int
) -> None:
    after = f"atom_modify first left\n{command} left"
    text = bonded(cu_model, "x", after=after)
    done = run_lammps(text, tmp_path, check=False, ranks=ranks)
    assert done.returncode != 0
    assert f"ERROR: pair_style dp: {command} left takes neighbours away" in done.output

    text = bonded(cu_model, "seen", after=after, elements="NULL Cu")
    text = text.replace("group left id 1:8", "group left type 2")
    run_lammps(text, tmp_path, ranks=ranks)
    assert_frames_are_right(tmp_path, "seen", cu_model, ["NULL", "Cu"])


@pytest.mark.parametrize("ranks", [1, 2])
def test_other_orders_bins_and_ghosts(cu_model: Path, tmp_path: Path, ranks: int) -> None:
    """Settings that change how neighbours are found, but not which."""
    commands = {
        "first": "atom_modify first left",
        "nsq": "neighbor 1.0 nsq",
        "multi": "neighbor 1.0 multi\ncomm_modify mode multi cutoff/multi * 0.5",
        "ghosts": "comm_modify cutoff 2.0",
    }
    text = "".join(bonded(cu_model, name, after=after) for name, after in commands.items())
    run_lammps(text, tmp_path, ranks=ranks)
    for name in commands:
        assert_frames_are_right(tmp_path, name, cu_model, ["Cu", "Cu"])


def test_exclusions_of_others_are_not_refused(cu_model: Path, tmp_path: Path) -> None:
    """Between atoms that the model does not see."""
    commands = {"group": "group left left", "type": "type 2 2", "both": "type 1 2"}
    text = "".join(
        bonded(cu_model, name, after=f"neigh_modify exclude {command}", elements="Cu NULL")
        for name, command in commands.items()
    )
    run_lammps(text, tmp_path)
    for name in commands:
        assert_frames_are_right(tmp_path, name, cu_model, ["Cu", "NULL"])
