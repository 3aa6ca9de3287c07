"""The package is built in floors, without cycles, of short modules and short functions."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import lmp_dp

ROOT = Path(lmp_dp.__file__).parent
#: Each imports only from itself and from those before it.
FLOORS = (
    ("__init__", "child", "errors", "files", "text", "threads"),
    ("model",),
    ("engine",),
    ("ase", "lammps"),
    ("tools",),
    ("cli",),
)
#: `lmp_dp.Potential` and `lmp_dp.load` are found when they are asked for.
LAZY = {("lmp_dp", "lmp_dp.engine"), ("lmp_dp", "lmp_dp.model")}
LONGEST_MODULE, LONGEST_FUNCTION = 400, 60
#: Lines of code, and why one function is right.
LONGER = {
    "engine.cpu.kernels.embedding.embed": (72, "a numba kernel: what is split is not fused"),
    "engine.cpu.kernels.rows.gather": (75, "a numba kernel: one pass over the neighbours"),
}
#: What may know of a descriptor by name, besides documentation: where each kind has its module.
KNOW_SE_E2_A = (
    "model/descriptors/",
    "engine/reference/",
    "engine/lowering/",
    "engine/tabulation/",
    "model/file/version_1.py",
    "model/sources/",
    "model/exports/",
    "engine/gpu/self_test.py",  # a model that devices prove themselves on
)


@functools.cache
def modules() -> dict[str, ast.Module]:
    """The syntax tree of each module of the package, by its full name."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text(), str(path))
    return found


def imports(tree: ast.AST, everywhere: bool) -> Iterator[str]:
    """Modules of the package that are imported; in functions and for types only if `everywhere`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules())
        elif isinstance(node, ast.ImportFrom):
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            yield from (name for name in names if name in modules())
        else:
            later = isinstance(node, ast.FunctionDef) or (
                isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
            )
            if everywhere or not later:
                yield from imports(node, everywhere)


def floor(name: str) -> int:
    part = [*name.split("."), "__init__"][1]
    return next(n for n, parts in enumerate(FLOORS) if part in parts)


def functions(tree: ast.AST, prefix: str) -> Iterator[tuple[str, ast.FunctionDef]]:
    """Functions and methods, with those inside of them, by name."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            name = f"{prefix}.{node.name}"
            if isinstance(node, ast.FunctionDef):
                yield name, node
            yield from functions(node, name)
        else:
            yield from functions(node, prefix)


def lines_of_code(function: ast.FunctionDef) -> int:
    """Lines from `def` to the end without the docstring."""
    assert function.end_lineno is not None
    first = function.body[0]
    docstring = 0
    if ast.get_docstring(function) is not None:
        assert first.end_lineno is not None
        docstring = first.end_lineno - first.lineno + 1
    return function.end_lineno - function.lineno + 1 - docstring


def test_floors_import_from_those_below() -> None:
    found = [
        (name, other)
        for name, tree in modules().items()
        for other in imports(tree, everywhere=True)
        if floor(other) > floor(name) and (name, other) not in LAZY
    ]
    assert not found


def test_no_import_cycle() -> None:
    """Of what is imported when a module is loaded; a package's own file counts as a module."""
    graph = {
        name: {other for other in imports(tree, everywhere=False) if other != name}
        for name, tree in modules().items()
    }
    for name, others in graph.items():  # `from package import module` in the package itself
        others -= {one for one in others if name.startswith(f"{one}.")}
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_modules_are_short() -> None:
    lines = {str(path): len(path.read_text().splitlines()) for path in ROOT.rglob("*.py")}
    assert not {path: count for path, count in lines.items() if count > LONGEST_MODULE}


def test_functions_are_short() -> None:
    found = {
        name.removeprefix("lmp_dp."): lines_of_code(function)
        for module, tree in modules().items()
        for name, function in functions(tree, module)
    }
    allowed = {name: lines for name, (lines, _) in LONGER.items()}
    assert not set(allowed) - set(found)
    longer = {name: n for name, n in found.items() if n > allowed.get(name, LONGEST_FUNCTION)}
    assert not longer
    assert not [name for name in allowed if found[name] <= LONGEST_FUNCTION], "no exceptions now"


def test_only_its_own_files_know_a_descriptor() -> None:
    found = [
        place
        for path in sorted(ROOT.rglob("*"))
        if path.is_file() and path.suffix in (".py", ".cu", ".cuh", ".h", ".cpp")
        if "se_e2_a" in path.read_text().lower()
        if not (place := str(path.relative_to(ROOT))).startswith(KNOW_SE_E2_A)
    ]
    assert not found


def test_there_is_one_version() -> None:
    """In the metadata, the package, and what is cited."""
    source = Path(__file__).parents[1]
    written = re.findall(
        r'^version(?: =|:) "?([^"\n]*)',
        (source / "pyproject.toml").read_text() + (source / "CITATION.cff").read_text(),
        re.MULTILINE,
    )
    assert written == [lmp_dp.__version__] * 2
