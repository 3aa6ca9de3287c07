"""lmp-dp check on a small random model: its files, its backends, and spoilt copies."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

pytest.importorskip("matplotlib")
from conftest import HOSTILE, MODELS, assert_nothing_steers, needs_deepmd
from lmp_dp import cli
from lmp_dp.engine import backends
from lmp_dp.model import load, save
from lmp_dp.model.precision import cast
from lmp_dp.tools import check, check_page, check_quantities, check_report
from lmp_dp.tools.check_dynamics import Dynamics
from lmp_dp.tools.check_report import CheckReport, Comparison, FrameReport
from lmp_dp.tools.compress import compress
from lmp_dp.tools.lammps_frames import Trajectory, Values
from lmp_dp.tools.terminal import Terminal

GRAPH = MODELS / "oh_two_sided.pb"

Converted = Callable[[str], Path]


def against_deepmd(test: Callable[..., None]) -> Callable[..., None]:
    """Mark a test that runs pair style deepmd."""
    return needs_deepmd(pytest.mark.deepmd(pytest.mark.slow(test)))


def write_data(path: Path) -> Path:
    """48 atoms of types O and H in a tilted box, not nearer to each other than about 1 Å."""
    random = np.random.default_rng(5)
    cell_cc = np.array([[9.6, 0.0, 0.0], [1.0, 9.2, 0.0], [-0.8, 0.7, 8.8]])
    grid = np.stack(np.meshgrid(range(4), range(4), range(3), indexing="ij"), -1).reshape(-1, 3)
    positions = (grid + 0.3) / (4, 4, 3) @ cell_cc + random.uniform(-0.4, 0.4, (48, 3))
    atoms = "\n".join(
        f"{i} {1 + (i % 3 > 0)} {x:.6f} {y:.6f} {z:.6f}"
        for i, (x, y, z) in enumerate(positions, start=1)
    )
    path.write_text(
        "48 atoms, for the tests of lmp-dp check\n\n48 atoms\n2 atom types\n0 9.6 xlo xhi\n"
        "0 9.2 ylo yhi\n0 8.8 zlo zhi\n1.0 -0.8 0.7 xy xz yz\n\nMasses\n\n1 15.999\n2 1.008\n\n"
        f"Atoms # atomic\n\n{atoms}\n"
    )
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("check") / "oh.data")


@against_deepmd
def test_files_of_one_model_against_its_graph(
    converted: Converted, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As converted, compressed and in float32; with a short run, figures and a page."""
    graph, original = MODELS / "oh_one_sided.pb", converted("oh_one_sided")
    save(compress(load(original)), tmp_path / "c.h5")
    save(cast(load(original), "float32"), tmp_path / "f.h5")
    out = tmp_path / "report.json"
    arguments = ["check", str(original), str(tmp_path / "c.h5"), str(tmp_path / "f.h5")]
    arguments += ["--against", str(graph), "--data", str(data), "--elements", "O", "H"]
    arguments += ["--md", "20", "--plot", str(tmp_path / "a.png"), "--json", str(out)]
    assert cli.main([*arguments, "--report", str(tmp_path / "a.html")]) == 0
    assert "pair dp reproduces pair deepmd" in capsys.readouterr().out
    report = json.loads(out.read_text())
    assert report["passed"] is True
    assert report["n_atoms"] == 48
    assert len(report["frames"]) == 6
    assert report["versions"]["deepmd-kit"]
    assert [len(frame["strain"]) for frame in report["frames"]] == [6] * 6
    # a comparison of zeros would pass as well
    assert all(frame["largest_force"] > 1e-3 for frame in report["frames"])
    assert [one["precision"] for one in report["comparisons"]] == ["float64", "float64", "float32"]
    force = [one["quantities"][1]["maximum"] for one in report["comparisons"]]
    assert force[0] < 1e-12 < force[1] < 1e-6, force
    assert 1e-9 < force[2] < 1e-5, force

    # 20 steps from the same start with forces equal to round-off: the same run
    run = report["dynamics"]
    assert run["passed"] is True
    assert run["picoseconds"] == pytest.approx(20 * 0.00025)
    assert run["energy_departure"] == pytest.approx(run["energy_departure_of_target"], rel=1e-3)
    assert 0.0 < run["energy_departure"] < 1e-3
    assert run["pairs"] == ["O-O", "O-H", "H-H"]
    assert run["largest_rdf_difference"] < 1e-6 < max(map(max, run["rdf"]))

    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "a.html").read_text()
    ElementTree.fromstring(page.removeprefix("<!doctype html>"))  # every tag is closed
    assert page.count("<img alt") == 2
    assert "http" not in page
    assert page.count('<td class="passed">passed</td>') == 12


def test_backends_against_the_reference(
    converted: Converted, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without deepmd-kit: every backend that works here, and the file of another model."""
    original, other = converted("oh_two_sided"), converted("oh_one_sided")
    out = tmp_path / "report.json"
    arguments = ["--against", "reference", "--data", str(data), "--frames", "1"]
    arguments += ["--backend", "all", "--json", str(out)]
    assert cli.main(["check", str(original), *arguments]) == 0
    report = json.loads(out.read_text())
    usable = {one["backend"]: one for one in report["comparisons"]}
    assert set(usable) | set(report["unavailable"]) == set(backends.NAMES) - {"auto"}
    assert {"cpu", "reference"} <= set(usable)
    assert [q["maximum"] for q in usable["reference"]["quantities"]] == [0.0] * 4
    assert 0.0 < usable["cpu"]["quantities"][1]["maximum"] < 1e-9
    assert "pair dp reproduces backend reference" in capsys.readouterr().out

    assert cli.main(["check", str(original), str(other), *arguments, "--backend", "cpu"]) == 1
    report = json.loads(out.read_text())
    assert [one["passed"] for one in report["comparisons"]] == [True, False]
    assert all(quantity["ratio"] > 1.0 for quantity in report["comparisons"][1]["quantities"])
    assert "FAILED: pair dp deviates from backend reference" in capsys.readouterr().out


def test_files_of_different_elements(converted: Converted, data: Path) -> None:
    models = [converted("oh_two_sided"), converted("hco_atom_ener")]
    with pytest.raises(check.ComparisonError, match="compare files of the same model"):
        check.run_check(models, "reference", data)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--elements", "NULL", "NULL"], "the model sees none of the 48 atoms"),
        (["--backend", "reference"], "the backend reference of the first model"),
    ],
)
def test_nothing_compared_is_not_a_pass(
    options: list[str],
    text: str,
    converted: Converted,
    data: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["check", str(converted("oh_two_sided")), "--against", "reference"]
    assert cli.main([*arguments, "--data", str(data), "--frames", "0", *options]) == 2
    said = capsys.readouterr()
    assert f"there is nothing to compare: {text}" in said.err.replace("\n", " ")
    assert "passed" not in said.out


def test_no_atoms_of_the_model_no_model_and_no_backend(
    converted: Converted, data: Path, tmp_path: Path
) -> None:
    model = converted("oh_two_sided")
    water_only = data.read_text().replace("2 atom types", "3 atom types")
    water_only = water_only.replace("2 1.008\n", "2 1.008\n3 12.011\n")
    third = tmp_path / "third.data"
    third.write_text(water_only)
    with pytest.raises(check.ComparisonError, match="sees none of the 48 atoms"):
        check.run_check([model], "reference", third, ["NULL", "NULL", "O"])
    for models, backend in (([], ["auto"]), ([model], [])):
        with pytest.raises(
            check.ComparisonError, match="nothing to compare: name a model file and a"
        ):
            check.run_check(models, "reference", data, backend=backend)
    report = check.run_check([model], "reference", data, frames=0)
    assert report.passed
    assert not replace(report, comparisons=[]).passed
    assert not replace(report.comparisons[0], quantities=[]).passed


def test_what_pair_dp_warns_of_is_shown(
    converted: Converted, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Swapped elements: the style's doubt about masses, in the terminal and in the JSON."""
    out = tmp_path / "report.json"
    arguments = ["check", str(converted("oh_two_sided")), "--against", "reference", "--frames=0"]
    arguments += ["--data", str(data), "--json", str(out)]
    assert cli.main([*arguments, "--elements", "O", "H"]) == 0
    assert "its mass is" not in capsys.readouterr().out
    assert json.loads(out.read_text())["remarks"] == []
    assert cli.main([*arguments, "--elements", "H", "O"]) == 0
    said = capsys.readouterr().out.replace("\n", " ")
    assert "note: pair_style dp: LAMMPS type 1 is H (1.008 g/mol) by pair_coeff, but its" in said
    (remark,) = json.loads(out.read_text())["remarks"]
    assert "mass is 15.999 g/mol" in remark
    assert ".cpp" not in remark


def test_the_row_is_that_of_the_frame_that_decides() -> None:
    """The largest deviation is in a frame that is allowed more: figures of issue 9, item 21."""
    zero = Values(np.zeros(2), np.zeros((2, 1, 3)), np.zeros((2, 6)), np.zeros((2, 1)))
    found = replace(zero, forces_zac=np.array([[[7e-7, 0, 0]], [[0, 9.5e-6, 0]]]))
    allowed = check_quantities.Tolerances("compressed", 6.0, np.array([1.4, 100.0]))
    force = check_quantities.quantities(found, zero, allowed)[1]
    assert (force.worst_frame, force.deviation, force.maximum) == (0, 7e-7, 9.5e-6)
    assert force.tolerance == pytest.approx(1.4e-6)
    assert force.ratio == pytest.approx(force.deviation / force.tolerance)
    row = dict(zip(check_report.HEADINGS, check_report.rows([force])[0], strict=True))
    assert (row["frame"], row["largest"], row["tolerance"], row["share"], row[""]) == (
        *("0", "7.00e-07", "1.4e-06", "0.5", "passed"),
    )
    one = Comparison("m.h5", "cpu", "float64", [force], [0.0] * 2, [0.0] * 2, found)
    frames = [FrameReport(0.0, [0.0] * 6, 0.0, 0.0)] * 2
    report = CheckReport("a.pb", "d", ["O"], 1, 1, frames, [one], {}, [], None, {}, zero)
    (note,) = check_report.notes(report)
    assert "force of m.h5 (backend cpu) 9.50e-06 eV/Å" in note


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("--seed=-1", "argument --seed: -1 is not from 0 to 2147483647"),
        ("--frames=many", "argument --frames: 'many' is no whole number"),
        ("--md=1e3", "argument --md: '1e3' is no whole number"),
        ("--backend=cpus", "argument --backend: invalid choice: 'cpus'"),
    ],
)
def test_options_out_of_range(option: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["check", "a.h5", "--against", "reference", "--data", "d", option]
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert text in capsys.readouterr().err


def test_paths_with_blanks(converted: Converted, data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "a folder's $x #1"
    folder.mkdir()
    model, copy = folder / "the model.h5", folder / "the data"
    model.write_bytes(converted("oh_two_sided").read_bytes())
    copy.write_bytes(data.read_bytes())
    assert check.run_check([model], "reference", copy, frames=0).passed


@against_deepmd
def test_fails_if_an_energy_is_shifted(
    converted: Converted, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    right = load(converted("oh_two_sided"))
    bias = right.fitting.bias_atom_e_t + 1e-6
    wrong = replace(right, fitting=replace(right.fitting, bias_atom_e_t=bias))
    save(wrong, tmp_path / "wrong.h5")
    arguments = ["check", str(tmp_path / "wrong.h5"), "--against", str(GRAPH)]
    assert cli.main([*arguments, "--data", str(data), "--frames", "1"]) == 1
    assert "FAILED: pair dp deviates" in capsys.readouterr().out


@against_deepmd
def test_float32_model_passes_with_its_own_tolerances(converted: Converted, data: Path) -> None:
    graph, path = MODELS / "oh_float32.pb", converted("oh_float32")
    report = check.run_check([path], graph, data, frames=2)
    (one,) = report.comparisons
    assert one.precision == "float32"
    assert report.passed, one.quantities
    # round-off is there, and the tolerances are not so wide that anything would pass
    assert all(quantity.ratio > 1e-5 for quantity in one.quantities), one.quantities


@against_deepmd
def test_a_style_that_fails_is_an_error(
    converted: Converted, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.pb").write_bytes(b"no graph")
    arguments = ["check", str(converted("oh_two_sided")), "--against", str(tmp_path / "broken.pb")]
    assert cli.main([*arguments, "--data", str(data), "--frames", "0"]) == 2
    assert "lmp-dp check: error: pair_style deepmd" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("what", "text"),
    [("against", "nowhere.pb"), ("data", "nowhere.data"), ("data", 999 * "long/" + "path")],
)
@needs_deepmd
def test_missing_files(what: str, text: str, data: Path) -> None:
    paths = {"models": [GRAPH], "against": GRAPH, "data": data} | {what: Path(text)}
    with pytest.raises(check.ComparisonError, match=f"{text} does not exist"):
        check.run_check(**paths)


def test_values_that_are_no_numbers_fail() -> None:
    nan = np.array([[0.0], [np.nan]])
    quantity = check_quantities._quantity("force", "eV/Å", nan, np.array([1.0, 1.0]))
    assert quantity.ratio == np.inf
    assert quantity.worst_frame == 1


@pytest.mark.parametrize("kind", ["exact", "compressed", "float32"])
@pytest.mark.parametrize("sides", ["found", "target", "both"])
def test_no_number_on_either_side_passes(kind: str, sides: str) -> None:
    right = Values(np.ones(2), np.ones((2, 3, 3)), np.ones((2, 6)), np.ones((2, 3)))
    wrong = Values(*(np.full_like(array, np.nan) for array in list(vars(right).values())[:4]))
    found = right if sides == "target" else wrong
    target = right if sides == "found" else wrong
    allowed = check_quantities.Tolerances(kind, 6.0, np.ones(2))
    assert all(one.ratio == 0.0 for one in check_quantities.quantities(right, right, allowed))
    assert all(one.ratio > 1.0 for one in check_quantities.quantities(found, target, allowed))


@pytest.mark.parametrize(
    ("energies", "passed"),
    [
        ([5.0, 5.0, 5.39], True),  # twice the departure of the other
        ([5.0, 4.59, 5.0], False),
        ([5.0, 5.0, np.nan], False),
    ],
)
def test_energy_must_be_conserved_as_by_the_other(energies: list[float], passed: bool) -> None:
    def run(energies_z: list[float]) -> Trajectory:
        nothing = np.zeros(3)
        return Trajectory(nothing, np.array(energies_z), nothing, nothing, np.zeros((1, 3)))

    runs = Dynamics(3, run(energies), run([5.0, 5.2, 5.0]), ["O-O"], n_atoms=2, allowed=1e-10)
    assert runs.passed is passed
    assert runs.tolerance == pytest.approx(0.2)


def test_outputs_that_cannot_be_written_are_named_first(tmp_path: Path, capsys) -> None:
    arguments = ["check", "no.h5", "--against", "reference", "--data", "no.data"]
    for option in ("--json", "--plot", "--report"):
        assert cli.main([*arguments, option, str(tmp_path / "nowhere" / "file")]) == 2
        assert "there is no such folder" in capsys.readouterr().err


def test_names_of_files_steer_nothing(
    converted: Converted, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In tables, on the page, and as labels of figures, where $ would begin a formula."""
    found = check.run_check([converted("oh_two_sided")], "reference", data, frames=0)
    report = replace(
        found,
        against=HOSTILE,
        data=HOSTILE,
        unavailable={"gpu": HOSTILE},
        comparisons=[replace(one, model=f"{HOSTILE}$\\x{{$") for one in found.comparisons],
    )
    check_report.show(report, Terminal())
    shown = capsys.readouterr().out
    assert_nothing_steers(shown)
    assert "[bold]x[/]y[/nothing]" in shown
    page = check_page.html(report)
    assert_nothing_steers(page)
    text = "".join(ElementTree.fromstring(page.removeprefix("<!doctype html>")).itertext())
    assert text.count(r"\x1b[2J\u202etxt\r\n[bold]x[/]y[/nothing] $x {%d} <b>") == 4
