"""The Python side of the plugin without LAMMPS: arguments, mapping, units, views, libraries."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest

from lammps_runs import PLUGIN
from lmp_dp.errors import InputError, LmpDpError
from lmp_dp.lammps import bridge, calls, libraries, type_table, virials
from lmp_dp.lammps.arguments import Arguments, read_arguments
from lmp_dp.lammps.bridge import View
from lmp_dp.lammps.units import units_of
from lmp_dp.threads import threads_per_rank


def test_arguments_of_pair_style() -> None:
    assert read_arguments(["m.h5"]) == Arguments(models=["m.h5"])
    text = "m.h5 ./n precision float32 threads 3 atomic backend cpu relative 0 timing yes"
    assert read_arguments(text.split()) == Arguments(
        models=["m.h5", "./n"],
        engine={"precision": "float32", "threads": 3, "backend": "cpu"},
        atomic=True,
        relative=0.0,
        timing=True,
    )
    words = ["m.h5", "fparam", "1", "-2e-3", "aparam_from_compute", "ke"]
    assert read_arguments(words) == Arguments(
        models=["m.h5"], fparam=[1.0, -0.002], aparam_from_compute="ke"
    )
    found = read_arguments(["m.h5", "fparam_from_fix", "a", "3", "ttm", "b"])
    assert (found.fparam_from_fix, found.fparam_index, found.ttm) == ("a", 2, "b")
    assert read_arguments(["m.h5", "fparam_from_fix", "a", "out_freq", "0"]).fparam_index == -1


@pytest.mark.parametrize(
    "words", [[], ["m.h5", "backend"], ["m.h5", "x", "y"], ["m.h5", "threads", "-1"]]
)
def test_bad_arguments_of_pair_style(words: list[str]) -> None:
    with pytest.raises(InputError):
        read_arguments(words)


@pytest.mark.parametrize(
    ("own", "local_size", "node_cores", "expected"),
    [
        (8, 1, 8, 8),  # alone
        (8, 2, 8, 4),  # two ranks share eight cores
        (4, 2, 8, 4),  # two ranks, each bound to four
        (1, 8, 8, 1),  # each bound to one
        (2, 4, 2, 1),  # more ranks than cores
    ],
)
def test_threads_per_rank(
    monkeypatch: pytest.MonkeyPatch, own: int, local_size: int, node_cores: int, expected: int
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(own)))
    assert threads_per_rank(local_size, node_cores) == expected
    monkeypatch.setenv("OMP_NUM_THREADS", "3,1")
    assert threads_per_rank(local_size, node_cores) == 3


def test_model_types() -> None:
    water = ("O", "H")
    assert type_table.model_types(["H", "O", "NULL", "H"], water, 4).tolist() == [1, 0, -1, 1]
    assert type_table.model_types([], water, 2).tolist() == [0, 1]
    assert type_table.model_types([], water, 1).tolist() == [0]
    with pytest.raises(InputError, match=r"as in pair_coeff \* \* O H O"):
        type_table.model_types([], water, 3)
    with pytest.raises(InputError, match=r"element C \(LAMMPS type 2\).*type map is: O H"):
        type_table.model_types(["O", "C"], water, 2)


def test_swapped_elements_are_pointed_out() -> None:
    types = np.array([0, 1], np.int32)
    assert type_table.doubtful_masses(types, ("O", "H"), [15.999, 1.008]) is None
    warning = type_table.doubtful_masses(types, ("O", "H"), [1.008, 15.999])
    assert warning is not None
    assert "type 1 is O (15.999 g/mol)" in warning
    assert type_table.doubtful_masses(types, ("foo", "H"), [1.0, 1.0]) is None
    assert type_table.doubtful_masses(-types, ("D", "H"), [2.014, 2.0]) is None


@pytest.mark.parametrize(
    ("element", "mass", "fits"),
    [
        ("H", 2.014, True),  # deuterium
        ("H", 3.016, True),  # tritium
        ("H", 4.003, False),
        ("Li", 6.015, True),
        ("B", 10.8, True),
        ("B", 12.011, False),
        ("C", 13.003, True),
        ("C", 14.007, False),  # nitrogen, not carbon-14
        ("N", 12.011, False),
        ("O", 18.0, True),
        ("O", 14.007, False),
        ("U", 235.0, True),
        ("Cu", 0.0, True),  # not set
    ],
)
def test_masses_that_fit_an_element(element: str, mass: float, fits: bool) -> None:
    doubt = type_table.doubtful_masses(np.zeros(1, np.int32), (element,), [mass])
    assert (doubt is None) == fits
    assert fits or f"its mass is {mass:g} g/mol" in str(doubt)


def test_masses_that_are_not_set() -> None:
    assert "not set\n" in type_table.table(np.zeros(1, np.int32), ("Cu",), [0.0])


def test_elements_by_position() -> None:
    names, warning = type_table.complete([], ("O", "H", "Na"), 1)
    assert names == ["O"]
    assert "by position: O for the LAMMPS types from 1 on, and no H, Na" in str(warning)
    assert "write pair_coeff * * O if" in str(warning)
    assert type_table.complete([], ("O", "H"), 2) == (["O", "H"], None)
    assert type_table.complete(["H"], ("O", "H"), 1) == (["H"], None)


def test_units() -> None:
    metal = units_of("metal", 8.617343e-5, 1.0)
    assert (metal.energy, metal.length, metal.force, metal.mass) == (1.0, 1.0, 1.0, 1.0)
    real = units_of("real", 0.0019872067, 1.0)
    assert real.energy == pytest.approx(23.0605, rel=1e-5)
    si = units_of("si", 1.3806504e-23, 1.0e-10)
    assert si.force == pytest.approx(1.602e-9, rel=1e-3)
    with pytest.raises(ValueError, match="units lj"):
        units_of("lj", 1.0, 1.0)


def test_a_view_follows_memory_without_copies() -> None:
    values = np.arange(12.0)
    view = View(np.float64, 3)
    array = view.at(values.ctypes.data, 4)
    assert view.at(values.ctypes.data, 4) is array
    array[1, 2] = -1.0
    assert values[5] == -1.0
    assert view.at(values.ctypes.data, 2).shape == (2, 3)
    assert view.at(None, 0).shape == (0, 3)


@pytest.mark.parametrize(("size", "tag"), [(4, 2**31 - 1), (8, 2**62 + 1)])
def test_atom_ids_have_the_size_that_the_plugin_says(size: int, tag: int) -> None:
    """Of 8 bytes in a LAMMPS that was compiled with BIGBIG."""
    tags = np.array([1, tag], f"i{size}")
    run = bridge.Run(tag_size=size)
    assert View(run.tag_type).at(tags.ctypes.data, 2).tolist() == [1, tag]


def test_per_atom_virials_in_lammps_order() -> None:
    force, r = np.array([1.0, 2.0, 3.0]), np.array([10.0, 200.0, 3000.0])
    virial = np.outer(force, r)[None]  # [force, r]
    xx, yy, zz, xy, xz, yz, yx, zx, zy = virials.centroid9(virial)[0]
    assert (xx, yy, zz) == (10.0, 400.0, 9000.0)
    assert (xy, xz, yz) == (r[0] * force[1], r[0] * force[2], r[1] * force[2])
    assert (yx, zx, zy) == (r[1] * force[0], r[2] * force[0], r[2] * force[1])
    expected = [xx, yy, zz, (xy + yx) / 2, (xz + zx) / 2, (yz + zy) / 2]
    assert virials.symmetric6(virial)[0].tolist() == expected


def plugin_with(fields: dict[str, bridge.Place]) -> bridge.Bridge:
    """The table that a plugin with these fields would hand over."""
    table = [bridge.Field(name.encode(), *place) for name, place in fields.items()]
    size = ctypes.sizeof(bridge.Bridge)
    return bridge.Bridge(size, len(table), (bridge.Field * len(table))(*table))


def with_two_swapped(fields: dict[str, bridge.Place]) -> None:
    fields["step.x"], fields["step.f"] = fields["step.f"], fields["step.x"]


def with_one_more(fields: dict[str, bridge.Place]) -> None:
    """In the middle: everything behind it moves."""
    start = fields["step.scale"][0]
    for name, (offset, size) in fields.items():
        fields[name] = (offset + 8 * (offset >= start), size)
    fields["step.pressure"] = (start, 8)


def with_one_less(fields: dict[str, bridge.Place]) -> None:
    del fields["parameters.groups"]


def with_a_wider_one(fields: dict[str, bridge.Place]) -> None:
    """In padding, so that nothing moves."""
    offset, size = fields["run.watching"]
    assert fields["step"][0] == offset + 2 * size
    fields["run.watching"] = (offset, 2 * size)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (with_two_swapped, "step.x is 8 bytes at {f} there, 8 bytes at {x} here"),
        (with_one_more, "step.pressure is 8 bytes at {scale} there, absent here"),
        (with_one_less, "parameters.groups is absent there, 8 bytes at"),
        (with_a_wider_one, "run.watching is 8 bytes at"),
    ],
)
def test_a_plugin_with_another_field_is_refused(change: Callable, message: str) -> None:
    fields = bridge.places(bridge.Shared)
    offsets = {name: fields[f"step.{name}"][0] for name in ("x", "f", "scale")}
    change(fields)
    table = plugin_with(fields)
    with pytest.raises(LmpDpError, match=re.escape(message.format(**offsets)) + ".*install lmp-dp"):
        calls.connect(ctypes.addressof(table))
    assert not table.settings


def test_a_plugin_with_another_table_is_refused() -> None:
    table = bridge.Bridge(96, 123, None)
    with pytest.raises(LmpDpError, match=r"Bridge is 96 bytes at 0 there.*install lmp-dp again"):
        calls.connect(ctypes.addressof(table))


def test_libraries_are_found() -> None:
    assert PLUGIN.is_file()
    for path in (libraries.libmpi(), libraries.liblammps()):
        assert path is not None
        assert path.is_file()


def test_the_hook_of_lammps_is_light() -> None:
    source = """
import sys
from lmp_dp.lammps.libraries import plugin_directory
directory = plugin_directory()
heavy = {"numpy", "numba", "h5py", "lammps", "rich"} & set(sys.modules)
assert not heavy, heavy
print(directory)
"""
    result = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == str(PLUGIN.parent)


def test_loading_lammps_binds_no_cores() -> None:
    """OMP_PROC_BIND would leave one core to this process, and to all threads of the engine."""
    program = (
        "import os; cores = os.sched_getaffinity(0);"
        "from lmp_dp.lammps import installations; installations.beside().load();"
        "assert os.sched_getaffinity(0) == cores"
    )
    subprocess.run(
        [sys.executable, "-c", program], check=True, env={**os.environ, "OMP_PROC_BIND": "true"}
    )
