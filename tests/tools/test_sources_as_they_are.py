"""Commands that take a source as it is give what they give for its model file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from conftest import INPUTS, source_graph
from lmp_dp import cli
from lmp_dp.model import load, save
from lmp_dp.tools.check import run_check
from random_se_e3 import random_se_e3

Converted = Callable[[str], Path]


def test_info(converted: Converted, capsys: pytest.CaptureFixture[str]) -> None:
    found = []
    for path in (source_graph("oh_fparam"), converted("oh_fparam")):
        assert cli.main(["info", str(path), "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert found[0].pop("notes") == ["unproven: converted in memory, without deepmd-kit"]
    for content in found:
        for name in ("file", "reference_frame", "notes"):
            content.pop(name, None)
    assert found[0] == found[1]
    assert found[0]["source_file"] == "oh_fparam.pb"


def test_info_shows_the_parts_of_a_hybrid(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(random_se_e3(with_se_e2_a=True), tmp_path / "a.h5")
    assert cli.main(["info", str(tmp_path / "a.h5")]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["1.", "descriptor", "se_e2_a"] in rows
    assert ["2.", "descriptor", "se_e3"] in rows


def test_what_is_converted_in_memory_proves_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["info", str(source_graph("oh_fparam")), "--verify"]) == 2
    assert "unproven: converted in memory, without deepmd-kit" in capsys.readouterr().err


def test_compress(tmp_path: Path) -> None:
    for name in ("cu.pb", "cu.h5"):
        assert cli.main(["compress", str(INPUTS / "models" / name), str(tmp_path / name)]) == 0
    one, other = (load(tmp_path / name).tables[0] for name in ("cu.pb", "cu.h5"))
    assert np.array_equal(one.coefficients_veq, other.coefficients_veq)


def test_check(tmp_path: Path, water_model: Path, water_data: Path) -> None:
    graph = water_model.with_suffix(".pb")
    report = run_check([graph, water_model], "reference", water_data, frames=0, backend=["cpu"])
    assert report.passed
    first, second = report.comparisons
    assert np.array_equal(first.values.forces_zac, second.values.forces_zac)
