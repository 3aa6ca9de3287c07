"""``lmp-dp compress``: options, the file that it writes, what it warns of."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from lmp_dp import cli
from lmp_dp.errors import InputError
from lmp_dp.model import load, save
from lmp_dp.tools.compress import compress


def test_kinks_are_named(converted, tmp_path: Path, capsys) -> None:
    """oh_two_sided has relu; tanh nets give no warning."""
    for name, warned in (("oh_two_sided", True), ("cu_tiny", False)):
        arguments = [str(converted(name)), str(tmp_path / f"{name}.h5"), "--min-distance", "1.5"]
        assert cli.main(["compress", *arguments, "--tolerance", "1e-4"]) == 0
        assert ("relu has kinks" in capsys.readouterr().err) == warned


def test_command_and_file(cu_model: Path, tmp_path: Path, capsys) -> None:
    target = tmp_path / "small.h5"
    assert cli.main(["compress", str(cu_model), str(target), "--drop-networks"]) == 0
    assert "1 tables" in capsys.readouterr().out
    both = tmp_path / "both.h5"
    assert cli.main(["compress", str(cu_model), str(both)]) == 0
    capsys.readouterr()
    assert target.stat().st_size < both.stat().st_size
    assert cli.main(["info", str(target), "--verify", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["tables"]["count"] == 1
    assert content["tables"]["error_of_G"] < 2e-8
    assert content["embedding_net"] == []
    assert cli.main(["compress", str(target), str(tmp_path / "again.h5")]) == 2
    assert "keeps only tables" in capsys.readouterr().err
    one, two = load(target), tmp_path / "copy.h5"
    save(one, two)
    assert load(two).tables[0].rank == one.tables[0].rank


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_distance": 7.0}, "smallest distance is 7.0 Å, expected 0 < d < 6"),
        ({"tolerance": 2.0}, "tolerance is 2.0"),
        ({"step": 3.0}, "step is 3.0"),
    ],
)
def test_unusable_options(options, message: str, cu_model: Path) -> None:
    with pytest.raises(InputError, match=message):
        compress(load(cu_model), **options)


def test_unknown_smallest_distance(cu_model: Path) -> None:
    model = load(cu_model)
    model = dataclasses.replace(
        model, provenance=dataclasses.replace(model.provenance, min_nbor_dist=None)
    )
    with pytest.raises(InputError, match="give --min-distance"):
        compress(model)
