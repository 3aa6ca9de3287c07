"""Each kernel on a small system, compared with backend cpu: for sanitizers, and a first look.

`exercise.py cuda|emulated COPPER WATER`, with two compressed models. Each array has memory of its
own there (no pool), so that a sanitizer sees what leaves it.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from devices import Timed, let_gpu_open, opened
from lmp_dp import Potential
from lmp_dp.engine.gpu import engine, kernels
from lmp_dp.engine.neighbourhood import Outputs
from lmp_dp.engine.potential import Evaluation
from systems import ROOT, System, system

#: Å
SKIN = 1.0
EVERYTHING = Outputs(virial=True, atom_energies=True, atom_virials=True)


def tolerances(precision: str, expected: Evaluation) -> tuple[float, float]:
    """Of energies of atoms (eV) and forces (eV/Å)."""
    if precision == "float64":
        return 1e-10, 1e-9
    # sums of a hundred terms rounded to 6e-8 each
    size = float(np.abs(expected.atom_energies).max())
    return 1e-5 * size, 1e-5 * float(np.linalg.norm(expected.forces)) + 1e-6


class Case(NamedTuple):
    """A model with a system, and the memory for a chunk of centres (bytes)."""

    model: Path
    precision: str
    of: System
    chunk_bytes: int
    compress: bool = False


def compared(case: Case) -> bool:
    """Whether gpu gives what cpu does, in a frame and in steps with kept lists; prints it."""
    model, precision, of, chunk_bytes, compress = case
    engine.CHUNK_BYTES = chunk_bytes
    cpu, gpu = (
        Potential(
            model,
            backend=backend,
            precision=precision,
            sel="ignore",
            table="ignore",
            compress=compress,
        )
        for backend in ("cpu", "gpu")
    )
    configuration = (of.positions_ac, of.types_a, of.edges_c)
    expected, found = cpu.evaluate(*configuration), gpu.evaluate(*configuration)
    energy = float(np.abs(found.atom_energies - expected.atom_energies).max())
    force = float(np.abs(found.forces - expected.forces).max())
    nb = of.neighbourhood(gpu.rcut, SKIN)
    # the third step is a recorded one where steps are recorded
    steps = [gpu.compute(nb, EVERYTHING) for _ in range(3)]
    drift = max(abs(step.energy - expected.energy) / len(of.types_a) for step in steps)
    same = all(np.array_equal(step.forces_ac, steps[0].forces_ac) for step in steps)
    of_energy, of_force = tolerances(precision, expected)
    good = energy <= of_energy and drift <= of_energy and force <= of_force and same
    print(
        f"{'ok' if good else 'WRONG'}: {model.name} {precision}, {len(of.types_a)} atoms, "
        f"chunks of {chunk_bytes >> 10} KiB: {energy:.1e} eV, {force:.1e} eV/Å off, "
        f"steps {drift:.1e} eV/atom{'' if same else ', and not the same bits'}",
        flush=True,
    )
    gpu.close()
    return good


def main(arguments: Sequence[str] | None = None) -> int:
    """0 if all agrees and each kernel was launched."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("device", choices=("cuda", "emulated"))
    parser.add_argument("copper", type=Path, help="compressed model")
    parser.add_argument("water", type=Path, help="compressed model")
    args = parser.parse_args(arguments)
    device, _ = opened(args.device)
    if args.device == "cuda":
        device.xp.cuda.set_allocator(None)
    let_gpu_open(lambda: device)
    copper, water = system("copper", ("Cu",), 2), system("water", ("O", "H"), 1)
    with_nets = ROOT / "lammps_inputs" / "models" / "water.h5"
    that_fades = ROOT / "tests" / "models" / "atten_v2_exclude.pb"
    cases = (
        Case(args.copper, "float64", copper, 2**31),
        Case(args.copper, "float32", copper, 2**19),
        Case(args.water, "float64", water, 2**21),
        Case(args.water, "float32", water, 2**31),
        Case(with_nets, "float64", water, 2**23),
        Case(that_fades, "float64", water, 2**31, True),
    )
    good = [compared(case) for case in cases]
    missed = not_launched(device)
    print("every kernel was launched" if not missed else f"not launched: {', '.join(missed)}")
    return 0 if all(good) and not missed else 1


def not_launched(device: Timed) -> list[str]:
    """Kernels that were not."""
    names = set(re.findall(r"^KERNEL\([^()]*\)\s+(\w+)\(", kernels.source(), re.M))
    assert device.launched <= names
    return sorted(names - device.launched)


if __name__ == "__main__":
    sys.exit(main())
