"""Data files as people have them: of other potentials, compressed, without masses, labelled."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from conftest import INPUTS, needs_deepmd
from lmp_dp import cli
from lmp_dp.errors import InputError
from lmp_dp.tools.data_file import DataFile, reduced
from lmp_dp.tools.lammps_frames import Frames, LammpsRunError, quoted, read_data, write_data

WATER = (INPUTS / "water192.data").read_text()
MASSES = "\nMasses\n\n1 15.999\n2 1.008\n"
#: What a data file of a water potential has besides, 128 bonds and 64 angles.
COEFFICIENTS = """
Pair Coeffs # lj/cut/coul/long

1 0.1553 3.166
2 0.0 1.0

Bond Coeffs # harmonic

1 600.0 0.9572

Angle Coeffs

1 75.0 104.52

"""


def atoms() -> list[list[str]]:
    """The rows of the section Atoms: ID, type, x, y, z and three image flags."""
    section = WATER.partition("Atoms # atomic\n\n")[2].partition("\n\n")[0]
    return [line.split() for line in section.splitlines()]


def rows(form: str) -> str:
    return "".join(form.format(*row) + "\n" for row in atoms())


def data(section: str, form: str = "{} {} {} {} {} {} {} {}", masses: str = MASSES) -> str:
    """A data file with the atoms of WATER in another form."""
    header = WATER.partition("\nMasses")[0]
    return f"{header}{masses}\n{section}\n\n{rows(form)}"


def as_full() -> str:
    """The same with charges, bonds, angles, coefficients, velocities and the data of a fix."""
    text = data("Atoms  # full", "{0} 1 {1} 0.1 {2} {3} {4} {5} {6} {7}")
    text = text.replace(
        "2 atom types\n",
        "2 atom types\n128 bonds\n1 bond types\n64 angles\n1 angle types\n2 extra bond per atom\n"
        "3 crossterms\n",
    )
    oxygen = [k for k, row in enumerate(atoms()) if row[1] == "1"]
    hydrogen = [k for k, row in enumerate(atoms()) if row[1] == "2"]
    ids = [row[0] for row in atoms()]
    triples = [
        (ids[hydrogen[2 * m]], ids[k], ids[hydrogen[2 * m + 1]]) for m, k in enumerate(oxygen)
    ]
    bonds = [(o, h) for one, o, two in triples for h in (one, two)]
    text += "\nBonds\n\n" + "".join(f"{b} 1 {i} {j}\n" for b, (i, j) in enumerate(bonds, 1))
    text += "\nAngles\n\n" + "".join(f"{a} 1 {' '.join(t)}\n" for a, t in enumerate(triples, 1))
    text += "\nVelocities\n\n" + rows("{0} 0.1 0.2 0.3") + "\nCMAP\n\n1 1 1 2 3 4 5\n"
    return text.replace(MASSES, MASSES + COEFFICIENTS)


@pytest.fixture(scope="module")
def water() -> Frames:
    return read_data(INPUTS / "water192.data")[0]


def assert_same(found: Frames, expected: Frames) -> None:
    for name, array in vars(expected).items():
        np.testing.assert_array_equal(getattr(found, name), array, err_msg=name)


def labelled(masses: str) -> str:
    """With type labels, which the rows use as well."""
    text = data("Atoms # atomic", "{0} type{1} {2} {3} {4} {5} {6} {7}", masses)
    return text.replace("type1 ", "O ").replace("type2 ", "H ")


CASES: dict[str, tuple[Callable[[], str], str]] = {
    "full": (as_full, "full"),
    "no hint": (lambda: data("Atoms"), "atomic"),
    "no hint, no image flags": (lambda: data("Atoms", "{} {} {} {} {}"), "atomic"),
    "hybrid": (
        lambda: data("Atoms # hybrid charge bond", "{0} {1} {2} {3} {4} 0.1 1 {5} {6} {7}"),
        "hybrid charge bond",
    ),
    "labels": (
        lambda: labelled("\nAtom Type Labels\n\n1 O\n2 H\n\nMasses\n\nO 15.999\nH 1.008\n"),
        "atomic",
    ),
    "units real": (lambda: WATER.replace("units = metal", "units = real"), "atomic"),
    "comments": (
        lambda: (
            data("Atoms # atomic")
            .replace("15.999", "15.999 # oxygen")
            .replace("192 atoms", "  192   atoms  # of water")
        ),
        "atomic",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_same_configuration(case: str, water: Frames, tmp_path: Path) -> None:
    text, style = CASES[case]
    path = tmp_path / "some.data"
    path.write_text(text())
    found, described = read_data(path)
    expected = water
    if case == "no hint, no image flags":  # the file has atoms outside of the box by round-off
        shift_ac = found.positions_zac[0] - water.positions_zac[0]
        assert abs(shift_ac - np.rint(shift_ac / 12.4447) * 12.4447).max() < 1e-12
        expected = water.with_masses([])
        expected.positions_zac[:] = found.positions_zac
    assert_same(found, expected)
    assert described.atom_style == style
    notes = described.notes(["O", "H"])
    assert [("names no atom style" in note) for note in notes] == [True] * ("no hint" in case)


@pytest.mark.parametrize(
    ("suffix", "compress"), [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)]
)
def test_compressed(
    suffix: str, compress: Callable[[bytes], bytes], water: Frames, tmp_path: Path
) -> None:
    path = tmp_path / f"water.data{suffix}"
    content = compress(WATER.encode())
    path.write_bytes(content)
    assert_same(read_data(path)[0], water)
    for broken in (content[: len(content) // 2], b"plain text", content[:99] + b"\0" * 99):
        path.write_bytes(broken)
        with pytest.raises(InputError, match=r"the data file cannot be read: .*water\.data"):
            read_data(path)


def test_masses_that_are_not_there_are_those_of_the_elements(water: Frames, tmp_path: Path) -> None:
    path = tmp_path / "water.data"
    path.write_text(data("Atoms # atomic", masses=""))
    found, _ = read_data(path)
    assert np.isnan(found.masses_y).all()
    assert found.with_masses(["O", "H"]).masses_y.tolist() == [15.999, 1.008]
    assert found.with_masses(["Cu", "NULL"]).masses_y.tolist() == [63.546, 1.0]
    with pytest.raises(InputError, match=r"no masses, and OW \(LAMMPS type 1\) is no element"):
        found.with_masses(["OW", "H"])
    assert water.with_masses(["OW", "HW"]).masses_y.tolist() == [15.999, 1.008]  # not asked for
    # a style with a mass per atom: 0.5 Å in diameter, 2 g/mol/Å^3
    path.write_text(data("Atoms # sphere", "{0} {1} 0.5 2.0 {2} {3} {4} {5} {6} {7}", ""))
    assert_same(read_data(path)[0].with_masses(["O", "H"]), water)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("something else\n", "is no LAMMPS data file: it has no section Atoms"),
        ("title\n\n0 atoms\n\nAtoms # full\n\n", "has no atoms"),
        (WATER.replace("units = metal", "units = lj"), "in units lj by its first line, but must"),
        (data("Atoms # hybrid"), "has atom style hybrid, but not of which styles"),
        (
            data("Atoms", "{0} 1 {1} 0.1 {2} {3} {4}"),
            "rows have 7 columns, where atomic has 5 or 8: write the style there, as in `Atoms  # ",
        ),
    ],
)
def test_files_that_cannot_be_used(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "some.data"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_data(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (data("Atoms # atomc"), "Unrecognized atom style 'atomc'"),
        (data("Atoms # full"), "Incorrect format|Invalid"),
        (WATER.replace("192 atoms", "193 atoms"), "Unexpected end of data file"),
        (WATER.replace("2 atom types", "1 atom types"), "data file: 2 1.008"),
    ],
)
def test_what_lammps_refuses_is_said(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "some.data"
    path.write_text(text)
    with pytest.raises(LammpsRunError, match=f"reading .*some.data: .*({message})"):
        read_data(path)


def test_no_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere", tmp_path / ("long" * 1250)):
        with pytest.raises(InputError, match="the data file cannot be read: "):
            read_data(path)


def test_labels_that_contradict_the_elements(tmp_path: Path) -> None:
    path = tmp_path / "water.data"
    path.write_text(WATER.replace(MASSES, f"\nAtom Type Labels\n\n1 O\n2 H # light\n{MASSES}"))
    described = reduced(path, tmp_path / "copy")
    assert described.labels == {1: "O", 2: "H"}
    assert described.notes(["O", "H"]) == described.notes(["NULL", "H"]) == []
    one, two = described.notes(["H", "O"])
    assert "labels LAMMPS type 1 as O, but it is taken as H: is the order" in one
    assert "labels LAMMPS type 2 as H, but it is taken as O" in two
    force_field = DataFile(path, "full", True, True, {1: "OW", 2: "HW"})
    assert force_field.notes(["O", "H"]) == []


def test_written_and_read_again(water: Frames, tmp_path: Path) -> None:
    path = tmp_path / "again.data"
    write_data(water, path)
    assert_same(read_data(path)[0], water)


def test_paths_for_lammps() -> None:
    assert quoted(Path("a b")) == '"a b"'
    assert quoted(Path('a "b"')) == "'a \"b\"'"
    assert quoted(Path("wässrig")) == '"wässrig"'
    for name in ('it\'s "b"', "a\nb", os.fsdecode(b"a\xff")):
        with pytest.raises(LammpsRunError, match="LAMMPS cannot read a path"):
            quoted(Path(name))


def test_check_and_bench_of_a_molecular_file(
    water_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bonds and all, against the plain file's energy; labels and masses of other elements."""
    full, plain, out = tmp_path / "full.data.gz", INPUTS / "water192.data", tmp_path / "out.json"
    swapped = "\nAtom Type Labels\n\n1 H\n2 O\n\nMasses\n\n1 1.008\n2 15.999\n"
    full.write_bytes(gzip.compress(as_full().replace(MASSES, swapped).encode()))
    energies, notes = [], []
    for path in (plain, full):
        arguments = ["--data", str(path), "--elements", "O", "H", "--json", str(out)]
        check = ["check", str(water_model), "--against", "reference", "--frames", "0", *arguments]
        assert cli.main(check) == 0
        report = json.loads(out.read_text())
        energies.append(report["frames"][0]["energy"])
        notes.append(report["remarks"])
        bench = ["bench", str(water_model), "--steps=1", "--warm-up=0", "--repeats=1", *arguments]
        assert cli.main(bench) == 0
        report = json.loads(out.read_text())
        energies.append(192 * report["runs"][0]["energy_per_atom"])
        notes.append([note for note in report["notes"] if "machine" not in note])
    assert energies == pytest.approx([energies[0]] * 4, abs=1e-9)
    assert notes[:2] == [[], []]
    for found in notes[2:]:
        assert len(found) == 3
        assert "labels LAMMPS type 1 as H, but it is taken as O" in found[0]
        assert "labels LAMMPS type 2 as O, but it is taken as H" in found[1]
        assert "LAMMPS type 1 is O (15.999 g/mol) by pair_coeff, but its mass is 1.008" in found[2]
    assert "full.data.gz labels LAMMPS type 1" in capsys.readouterr().out.replace("\n", " ")


@needs_deepmd
@pytest.mark.deepmd
@pytest.mark.slow
def test_a_molecular_file_against_deepmd(water_model: Path, tmp_path: Path) -> None:
    full, out = tmp_path / "full.data", tmp_path / "out.json"
    full.write_text(as_full().replace(MASSES, ""))
    arguments = [str(water_model), "--against", str(INPUTS / "models" / "water.pb")]
    arguments += ["--data", str(full), "--json", str(out)]
    assert cli.main(["check", *arguments, "--frames", "1", "--elements", "O", "H"]) == 0
    assert json.loads(out.read_text())["frames"][0]["largest_force"] > 0.1
    assert cli.main(["bench", *arguments, "--steps=1", "--warm-up=0", "--repeats=1"]) == 0
    energies = [run["energy_per_atom"] for run in json.loads(out.read_text())["runs"]]
    assert energies[0] == pytest.approx(energies[1], abs=1e-10)
