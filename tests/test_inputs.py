"""The input scripts of lammps_inputs/: each of them runs, and its twin for pair deepmd agrees."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from conftest import INPUTS, needs_deepmd
from lammps_runs import run_lammps, thermo

SCRIPTS = tuple(sorted(path.name for path in INPUTS.glob("in.*") if path.suffix != ".deepmd"))
#: The scripts that say `pair_style dp`; each of them has a twin that says `pair_style deepmd`.
PAIRED = tuple(
    name
    for name in SCRIPTS
    if re.search(r"^pair_style\s+dp\s", (INPUTS / name).read_text(), re.MULTILINE)
)
STEPS = ("-var", "steps", "5")
#: eV per atom: the same configuration (round-off), and five steps later (round-off that grew).
AT_START, LATER = 1e-10, 1e-6


def workplace(folder: Path) -> Path:
    """`folder` with links to everything in lammps_inputs/, so that relative paths hold there."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in INPUTS.iterdir():
        (folder / path.name).symlink_to(path)
    return folder


def all_in_one(suffix: str) -> str:
    """All paired scripts, one after the other in one process, each with a log of full precision."""
    parts = []
    for name in PAIRED:
        text = (INPUTS / f"{name}{suffix}").read_text()
        text, count = re.subn(
            r"^thermo_style .*$", r"\g<0>\nthermo_modify format float %.17g", text, flags=re.M
        )
        assert count == 1, name
        parts.append(f"clear\nlog {name}.log\n{text}\nvariable atoms equal atoms\n"
                     f'print "atoms: ${{atoms}}"\n')  # fmt: skip
    return "\n".join(parts)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders with a log of every paired script, by pair style."""
    folders = {style: workplace(tmp_path_factory.mktemp(style)) for style in ("dp", "deepmd")}
    run_lammps(all_in_one(""), folders["dp"], options=STEPS)
    run_lammps(all_in_one(".deepmd"), folders["deepmd"], program=("lmp",), options=STEPS)
    return folders


def test_there_are_scripts() -> None:
    assert len(PAIRED) >= 5
    twins = {path.name.removesuffix(".deepmd") for path in INPUTS.glob("in.*.deepmd")}
    assert twins == set(PAIRED)


@pytest.mark.parametrize("name", SCRIPTS)
def test_runs_as_it_stands(name: str, tmp_path: Path) -> None:
    folder = workplace(tmp_path / "inputs")
    run_lammps((INPUTS / name).read_text(), folder, options=STEPS)
    table = thermo(folder / "log.lammps")
    assert {"Step", "PotEng"} <= set(table)
    assert table["Step"][0] == 0
    assert table["Step"][-1] == 5
    assert all(np.isfinite(column).all() for column in table.values())


@pytest.mark.parametrize("name", PAIRED)
def test_twin_differs_in_the_pair_style_only(name: str) -> None:
    ours = (INPUTS / name).read_text().splitlines()
    theirs = (INPUTS / f"{name}.deepmd").read_text().splitlines()
    assert len(ours) == len(theirs)
    [(mine, other)] = [pair for pair in zip(ours, theirs, strict=True) if pair[0] != pair[1]]
    pattern = r"pair_style\s+(\w+)\s+models/(\w+)\.(\w+)"
    (style, model, suffix), (other_style, other_model, other_suffix) = (
        re.fullmatch(pattern, line).groups() for line in (mine, other)
    )
    assert (style, suffix, other_style, other_suffix) == ("dp", "h5", "deepmd", "pb")
    assert model == other_model


@needs_deepmd
@pytest.mark.parametrize("name", PAIRED)
def test_twin_gives_the_same_energies(name: str, both: dict[str, Path]) -> None:
    logs = [folder / f"{name}.log" for folder in both.values()]
    ours, theirs = (thermo(log) for log in logs)
    n_atoms = int(re.search(r"^atoms: (\d+)$", logs[0].read_text(), re.MULTILINE).group(1))
    np.testing.assert_array_equal(ours["Step"], theirs["Step"])
    difference = np.abs(ours["PotEng"] - theirs["PotEng"]) / n_atoms
    assert difference[0] <= AT_START
    assert difference.max() <= LATER
