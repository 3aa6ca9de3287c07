"""lmp-dp check: both pair styles on a small random model, and on a spoilt copy of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from conftest import MODELS, needs_deepmd
from lmp_dp import cli
from lmp_dp.model import load, save
from lmp_dp.tools import check
from lmp_dp.tools.lammps_frames import LammpsRunError, atom_style_of

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
def test_passes_with_its_own_graph(
    converted: Converted, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "report.json"
    arguments = ["check", str(converted("oh_two_sided")), "--against", str(GRAPH)]
    arguments += ["--data", str(data)]
    assert cli.main([*arguments, "--elements", "O", "H", "--json", str(out)]) == 0
    assert "pair dp reproduces pair deepmd" in capsys.readouterr().out
    report = json.loads(out.read_text())
    assert report["passed"] is True
    assert report["n_atoms"] == 48
    assert len(report["frames"]) == 6
    assert report["versions"]["deepmd-kit"]
    assert [len(frame["strain"]) for frame in report["frames"]] == [6] * 6
    # a comparison of zeros would pass as well
    assert all(frame["largest_force"] > 1e-3 for frame in report["frames"])


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
    report = check.run_check(path, graph, data, frames=2)
    assert report.precision == "float32"
    assert report.passed, report.quantities
    # round-off is there, and the tolerances are not so wide that anything would pass
    assert all(quantity.ratio > 1e-5 for quantity in report.quantities), report.quantities


@against_deepmd
def test_a_style_that_fails_is_an_error(
    converted: Converted, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.pb").write_bytes(b"no graph")
    arguments = ["check", str(converted("oh_two_sided")), "--against", str(tmp_path / "broken.pb")]
    assert cli.main([*arguments, "--data", str(data), "--frames", "0"]) == 2
    assert "lmp-dp check: error: pair_style deepmd" in capsys.readouterr().err


@pytest.mark.parametrize(("what", "text"), [("against", "nowhere.pb"), ("data", "nowhere.data")])
@needs_deepmd
def test_missing_files(what: str, text: str, data: Path) -> None:
    paths = {"model": GRAPH, "against": GRAPH, "data": data} | {what: Path(text)}
    with pytest.raises(check.CheckError, match=f"{text} does not exist"):
        check.run_check(**paths)


def test_says_that_deepmd_is_missing(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = check.metadata.version

    def version(name: str) -> str:
        if name == "deepmd-kit":
            raise check.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(check.metadata, "version", version)
    with pytest.raises(check.CheckError, match="deepmd-kit is not installed in this environment"):
        check.run_check(GRAPH, GRAPH, data)


def test_values_that_are_no_numbers_fail() -> None:
    quantity = check._quantity("force", "eV/Å", np.array([[0.0], [np.nan]]), np.array([1.0, 1.0]))
    assert quantity.ratio == np.inf
    assert quantity.worst_frame == 1


def test_atom_style_of_a_data_file(tmp_path: Path) -> None:
    path = tmp_path / "some.data"
    path.write_text("title\n\n1 atoms\n\nAtoms  # full\n\n1 1 1 0.0 0 0 0\n")
    assert atom_style_of(path) == "full"
    path.write_text("title\n\n1 atoms\n\nAtoms\n\n1 1 0 0 0\n")
    assert atom_style_of(path) == "atomic"
    path.write_text("something else\n")
    with pytest.raises(LammpsRunError, match="is no LAMMPS data file"):
        atom_style_of(path)
