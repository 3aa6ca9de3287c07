"""lmp-dp bench: its figures, its plot and its errors, on runs of a few steps."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from conftest import HOSTILE, INPUTS, assert_nothing_steers, needs_deepmd
from lmp_dp import cli
from lmp_dp.tools import bench, bench_series, requirements
from lmp_dp.tools.bench_figures import figures_of, ratios_of
from lmp_dp.tools.bench_report import DEEPMD, DP, BenchReport, Layout, Run, Spread, table
from lmp_dp.tools.terminal import Terminal

needs_matplotlib = pytest.mark.skipif(
    find_spec("matplotlib") is None, reason="matplotlib is not installed"
)
FEW = ["--steps", "5", "--warm-up", "2", "--repeats", "1"]


def against_deepmd(test: Callable[..., None]) -> Callable[..., None]:
    """Mark a test that runs pair style deepmd."""
    return needs_deepmd(pytest.mark.deepmd(pytest.mark.slow(test)))


def run(style: str, time: float, *, threads: int = 1, ranks: int = 2, repeat: int = 0) -> Run:
    """A made-up run of 100 atoms."""
    return Run(
        style=style,
        replicate=[1, 1, 1],
        n_atoms=100,
        ranks=ranks,
        threads=threads,
        repeat=repeat,
        us_per_atom_step=time,
        loop_time_s=1.0,
        startup_s=2.0 + repeat,
        peak_memory_mib=[10.0] * ranks,
        lammps_memory_mib=1.0,
        sections_s={},
        energy_per_atom=-1.0,
    )


@needs_matplotlib
def test_pair_dp_alone(water_model: Path, water_data: Path, tmp_path: Path) -> None:
    out, plot = tmp_path / "report.json", tmp_path / "plot.png"
    arguments = ["bench", str(water_model), "--data", str(water_data), *FEW, "--ranks", "1,2"]
    arguments += ["--replicate", "1", "1", "1", "--replicate", "2", "1", "1"]
    assert cli.main([*arguments, "--json", str(out), "--plot", str(plot)]) == 0
    report = json.loads(out.read_text())
    assert [(f["n_atoms"], f["ranks"]) for f in report["figures"]] == [
        (192, 1),
        (192, 2),
        (384, 1),
        (384, 2),
    ]
    for one, figures in zip(report["runs"], report["figures"], strict=True):
        assert one["us_per_atom_step"] == figures["us_per_atom_step"]["median"]
        assert one["us_per_atom_step"] == pytest.approx(
            one["loop_time_s"] * 1e6 / (5 * one["n_atoms"])
        )
        assert 0.05 < one["startup_s"] < 120.0
        # at least the numerical libraries, and not kB for MiB
        assert len(one["peak_memory_mib"]) == one["ranks"]
        assert all(30.0 < peak < 5000.0 for peak in one["peak_memory_mib"])
        assert one["peak_memory_mib"][0] > one["lammps_memory_mib"] > 0.1
        assert one["sections_s"]["Pair"] <= 1.01 * one["loop_time_s"]
        assert one["backend"] == "cpu"
    energies = [one["energy_per_atom"] for one in report["runs"]]
    assert energies == pytest.approx([energies[0]] * 4, abs=1e-9)
    assert report["ratios"] == []
    assert report["versions"]["lammps"]
    assert plot.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    # nothing tells on which host, by whom or where it was measured
    text = out.read_text()
    assert f'"{os.uname().nodename}"' not in text
    assert str(tmp_path) not in text
    assert str(INPUTS) not in text
    assert BenchReport.from_json(text).to_json() == text


@against_deepmd
def test_beside_pair_deepmd(
    water_model: Path, water_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["bench", str(water_model), "--against", str(INPUTS / "models" / "water.pb")]
    arguments += ["--data", str(water_data), *FEW, "--elements", "O", "H", "--json", "report.json"]
    assert cli.main(arguments) == 0
    assert "deepmd / dp" in capsys.readouterr().out
    report = json.loads(Path("report.json").read_text())
    dp, deepmd = report["figures"]
    assert (dp["style"], deepmd["style"]) == ("dp", "deepmd")
    (ratio,) = report["ratios"]
    assert ratio["ratio"] == deepmd["us_per_atom_step"]["median"] / dp["us_per_atom_step"]["median"]
    assert ratio["best"] is True
    assert report["versions"]["deepmd-kit"]
    energies = {one["style"]: one["energy_per_atom"] for one in report["runs"]}
    assert energies["dp"] == pytest.approx(energies["deepmd"], abs=1e-9)
    assert not [note for note in report["notes"] if "not the same model" in note]


def test_ratios_are_quotients_of_medians() -> None:
    runs = [
        run(style, time, repeat=repeat, ranks=ranks, threads=threads)
        for style, ranks, threads, times in (
            (DP, 2, 1, (10.0, 12.0, 11.0)),
            (DP, 1, 2, (9.0, 8.0, 30.0)),
            (DEEPMD, 2, 1, (44.0, 40.0, 66.0)),
            (DEEPMD, 1, 2, (80.0, 80.0, 80.0)),
            (DP, 1, 1, (20.0, 20.0, 20.0)),  # no deepmd on one core
        )
        for repeat, time in enumerate(times)
    ]
    figures = figures_of(runs)
    assert [str(one.layout) for one in figures] == ["2x1", "1x2", "2x1", "1x2", "1x1"]
    assert figures[0].us_per_atom_step == Spread(11.0, 10.0, 12.0)
    assert figures[0].startup_s == Spread(3.0, 2.0, 4.0)
    assert figures[0].peak_memory_mib.median == 20.0
    two, one = ratios_of(figures, runs)
    assert (two.dp, two.deepmd, two.best, two.ratio) == ("2x1", "2x1", False, 4.0)
    assert (two.min, two.max) == (40.0 / 12.0, 6.0)
    assert (one.dp, one.deepmd, one.best, one.ratio) == ("1x2", "2x1", True, 44.0 / 9.0)


def test_styles_alternate() -> None:
    groups = bench_series._groups([Layout(1), Layout(2), Layout(1, 2)], [Layout(1), Layout(2)])
    assert groups == [
        [(DP, Layout(1)), (DEEPMD, Layout(1))],
        [(DP, Layout(2)), (DEEPMD, Layout(2)), (DP, Layout(1, 2))],
    ]


def test_layouts() -> None:
    assert bench._layouts("1,2, 1x2,2x1") == [Layout(1), Layout(2), Layout(1, 2)]
    with pytest.raises(argparse.ArgumentTypeError, match="'0' is neither R nor RxT"):
        bench._layouts("1,0")


@pytest.mark.parametrize("ranks", ["1", "2"])
def test_shows_the_error_of_lammps(
    ranks: str, water_model: Path, water_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["bench", str(water_model), "--data", str(water_data), *FEW, "--ranks", ranks]
    assert cli.main([*arguments, "--elements", "O", "Xx"]) == 2
    said = capsys.readouterr().err
    assert f"lmp-dp bench: error: pair dp, {ranks}x1" in said
    assert "Xx" in said


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--data", "nowhere.data"], "nowhere.data does not exist"),
        (["--against", "nowhere.pb"], "nowhere.pb does not exist"),
        (["--json", "nowhere/report.json"], "there is no such folder"),
    ],
)
def test_refuses_before_it_runs(
    options: list[str],
    text: str,
    water_model: Path,
    water_data: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(requirements, "versions", lambda with_deepmd: {})
    arguments = ["bench", str(water_model), "--data", str(water_data), *FEW, *options]
    assert cli.main(arguments) == 2
    assert text in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("--steps=0", "argument --steps: 0 is not from 1 to 2147483647"),
        ("--warm-up=-1", "argument --warm-up: -1 is not from 0 to 2147483647"),
        ("--repeats=x", "argument --repeats: 'x' is no whole number"),
        ("--timestep=0", "argument --timestep: 0 is no finite number above 0"),
        ("--timestep=nan", "argument --timestep: nan is no finite number above 0"),
        ("--timestep=1fs", "argument --timestep: '1fs' is no number"),
        ("--skin=-0.1", "argument --skin: -0.1 is no finite number of at least 0"),
        ("--skin=inf", "argument --skin: inf is no finite number of at least 0"),
        ("--backend=cpus", "argument --backend: invalid choice: 'cpus'"),
    ],
)
def test_options_out_of_range(option: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["bench", "a.h5", "--data", "d", option])
    assert ended.value.code == 2
    assert text in capsys.readouterr().err


@needs_matplotlib
def test_names_of_files_steer_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In tables, and as titles of figures, where $ would begin a formula."""
    from lmp_dp.tools import bench_plot

    runs = [run(style, time) for style, time in ((DP, 10.0), (DEEPMD, 40.0))]
    figures = figures_of(runs)
    report = BenchReport(
        model=f"{HOSTILE}$\\x{{$",
        against=HOSTILE,
        data=HOSTILE,
        elements=["O"],
        precision="float64",
        compressed=False,
        steps=1,
        warm_up=0,
        repeats=1,
        timestep_ps=0.0005,
        skin=2.0,
        neigh_every=10,
        date="",
        machine={},
        versions={},
        figures=figures,
        ratios=ratios_of(figures, runs),
        runs=runs,
    )
    Terminal().print(table(report))
    shown = capsys.readouterr().out
    assert_nothing_steers(shown)
    assert "[bold]x" in shown
    assert "4.00" in shown
    bench_plot.draw([report], tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
