"""``lmp-dp check``: does pair style dp give what it should?

The yardstick is DeePMD-kit's pair style deepmd, or the readable backend `reference` of this
package. Both sides run in real LAMMPS processes on the same frames: the configuration of a data
file, and copies of it with randomly displaced atoms and strained boxes. A model file passes if no
deviation exceeds its tolerance (`lmp_dp.tools.tolerances`) in any frame, and its run at
constant energy, if there is one, conserves energy as the other (`lmp_dp.tools.check_dynamics`).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lmp_dp import files
from lmp_dp.engine import backends
from lmp_dp.engine.model_cache import opened
from lmp_dp.errors import BackendError
from lmp_dp.lammps import type_table
from lmp_dp.lammps.virials import COLUMNS, ROWS
from lmp_dp.model import DeepPotential
from lmp_dp.tools import check_report, deep_pot, options, requirements
from lmp_dp.tools.check_dynamics import compare
from lmp_dp.tools.check_quantities import quantities
from lmp_dp.tools.check_report import REFERENCE, CheckReport, Comparison, FrameReport
from lmp_dp.tools.lammps_frames import Frames, Values, evaluate, quoted, read_data
from lmp_dp.tools.options import count
from lmp_dp.tools.requirements import ComparisonError
from lmp_dp.tools.terminal import Terminal
from lmp_dp.tools.tolerances import Tolerances, tolerances

DISPLACEMENTS = (0.01, 0.3)  # Å: largest shift of a coordinate, first and last copy
LARGEST_STRAIN = 0.03


def run_check(
    models: Sequence[str | Path],
    against: str | Path,
    data: str | Path,
    elements: Sequence[str] = (),
    frames: int = 5,
    seed: int = 1,
    backend: Sequence[str] = ("auto",),
    steps: int = 0,
) -> CheckReport:
    """Compare model files with a yardstick on a configuration and on changed copies of it.

    Parameters
    ----------
    models : sequence of paths
        Models of pair style dp (files of lmp-dp, or such as can be converted), all of the same
        potential (compressed, float32, ...).
    against : path
        The model that pair style deepmd is given (a frozen graph), or DeepPot (``.pth``, ``.dp``,
        ``.yaml``: where deepmd-kit has PyTorch); or "reference" for the first
        model file on the backend reference, which needs no deepmd-kit.
    data : path
        LAMMPS data file in metal units, periodic in all directions.
    elements : sequence of str
        Element of each LAMMPS type; default: the models' own order.
    frames : int
        Number of changed copies.
    seed : int
        Of the random displacements and strains.
    backend : sequence of str
        Backends of pair style dp; "all": those that can be used here.
    steps : int
        Length of a run at constant energy of the first model file and the yardstick; 0: none.

    Raises
    ------
    ComparisonError
        deepmd-kit or lammps is not installed, a file does not exist, models do not fit together,
        there is nothing to compare.
    LmpDpError
        A model cannot be read, elements do not fit, a LAMMPS run ends with an error.
    """
    alone = str(against) == REFERENCE
    versions = requirements.versions(not alone, ", or compare with --against reference")
    requirements.files_exist([data] if alone else [against, data])
    if not models or not backend:
        raise ComparisonError("there is nothing to compare: name a model file and a backend")
    loaded = _loaded(models)
    start, names, remarks = _start(Path(data), elements, loaded[0].type_map)
    everything, displacements, strains = _changed(start, frames, seed)

    chosen, unavailable = _usable(backend, loaded[0])
    runs = [(m, name) for m in range(len(models)) for name in chosen]
    yardstick, styles = _pair_styles(models, against, runs)
    if deep_pot.is_for(against):
        if steps:
            raise ComparisonError(
                f"{against} is compared with DeepPot, which makes no runs: leave out --md"
            )
        target = deep_pot.evaluate(everything, against, names)
    else:
        target = evaluate(everything, [yardstick], names)[0]
    comparisons = []
    for (m, name), found in zip(runs, evaluate(everything, styles, names), strict=True):
        allowed = tolerances(
            [loaded[m], loaded[0]] if alone else [loaded[m]], everything, alone and m == 0
        )
        comparisons.append(_comparison(models[m], loaded[m], name, found, target, allowed))
        if len(comparisons) == 1:
            first_allowed = allowed.energy_per_atom
    dynamics = None
    if steps:
        dynamics = compare(everything, styles[0], yardstick, names, steps, first_allowed)
    said = [target.warnings, *(one.values.warnings for one in comparisons)]
    if dynamics is not None:
        said += [dynamics.target.warnings, dynamics.found.warnings]
    remarks += [text for warnings in said for text in warnings]
    return CheckReport(
        against=str(against),
        data=str(data),
        elements=names,
        n_atoms=len(start.types_a),
        seed=seed,
        frames=_frame_reports(target, displacements, strains),
        comparisons=comparisons,
        unavailable=unavailable,
        remarks=list(dict.fromkeys(remarks)),
        dynamics=dynamics,
        versions=versions,
        target=target,
    )


def _loaded(models: Sequence[str | Path]) -> list[DeepPotential]:
    loaded = [opened(model) for model in models]
    type_map = loaded[0].type_map
    for model, one in zip(models, loaded, strict=True):
        if one.type_map != type_map:
            raise ComparisonError(
                f"{model} has the elements {' '.join(one.type_map)}, but {models[0]} has "
                f"{' '.join(type_map)}: compare files of the same model"
            )
    return loaded


def _pair_styles(
    models: Sequence[str | Path], against: str | Path, runs: Sequence[tuple[int, str]]
) -> tuple[str, list[str]]:
    """Arguments of the command pair_style: of the yardstick, and of each run (model, backend)."""
    paths = [quoted(Path(model).resolve()) for model in models]
    if str(against) == REFERENCE:
        yardstick = f"dp {paths[0]} backend {REFERENCE}"
    else:
        yardstick = f"deepmd {quoted(Path(against).resolve())}"
    styles = [f"dp {paths[m]} backend {name}" for m, name in runs]
    if set(styles) == {yardstick}:
        raise ComparisonError(
            "there is nothing to compare: the backend reference of the first model file is what "
            "--against reference compares with"
        )
    return yardstick, styles


def _comparison(
    path: str | Path,
    model: DeepPotential,
    backend: str,
    found: Values,
    target: Values,
    allowed: Tolerances,
) -> Comparison:
    difference_zac = abs(found.forces_zac - target.forces_zac)
    return Comparison(
        model=str(path),
        backend=backend,
        precision=model.precision,
        quantities=quantities(found, target, allowed),
        energies=found.energies_z.tolist(),
        largest_force_deviations=difference_zac.max(axis=(1, 2)).tolist(),
        values=found,
    )


def _frame_reports(
    target: Values, displacements: Sequence[float], strains: Sequence[list[float]]
) -> list[FrameReport]:
    return [
        FrameReport(
            displacement=displacement,
            strain=strain,
            energy=float(energy),
            largest_force=float(abs(forces_ac).max()),
        )
        for displacement, strain, energy, forces_ac in zip(
            displacements, strains, target.energies_z, target.forces_zac, strict=True
        )
    ]


def _start(
    data: Path, elements: Sequence[str], type_map: Sequence[str]
) -> tuple[Frames, list[str], list[str]]:
    """The configuration of a data file, the element of each type, and what is doubtful there."""
    start, described = read_data(data.resolve())
    types_y = type_table.model_types(elements, type_map, len(start.masses_y))
    names = ["NULL" if t == type_table.ABSENT else type_map[t] for t in types_y]
    if all(types_y[start.types_a - 1] == type_table.ABSENT):
        raise ComparisonError(
            f"there is nothing to compare: the model sees none of the {len(start.types_a)} atoms "
            f"of {data}, whose types are {' '.join(names)}"
        )
    return start.with_masses(names), names, described.notes(names)


def _usable(asked: Sequence[str], model: DeepPotential) -> tuple[list[str], dict[str, str]]:
    """The backends to run; with "all" also those that cannot be used, and why."""
    if "all" not in asked:
        return list(dict.fromkeys(asked)), {}
    usable, unavailable = [], {}
    for name in backends.NAMES:
        if name == "auto":
            continue
        try:
            backends.create(name, model, 1)
        except BackendError as error:
            unavailable[name] = str(error)
        else:
            usable.append(name)
    return usable, unavailable


def _changed(start: Frames, n: int, seed: int) -> tuple[Frames, list[float], list[list[float]]]:
    """The starting frame and `n` copies with growing displacements, each with all six strains."""
    random = np.random.default_rng(seed)
    displacements = np.concatenate([[0.0], np.geomspace(*DISPLACEMENTS, n) if n else []])
    positions, cells, strains = [], [], []
    for displacement in displacements:
        # xx yy zz xy xz yz; lower triangular, which keeps the lattice vectors in LAMMPS's form
        strain = random.uniform(-LARGEST_STRAIN, LARGEST_STRAIN, 6) * (displacement > 0.0)
        shift_ac = random.uniform(-1.0, 1.0, start.positions_zac[0].shape) * displacement
        deformation_cc = np.eye(3)
        deformation_cc[COLUMNS, ROWS] += strain
        positions.append(start.positions_zac[0] @ deformation_cc + shift_ac)
        cells.append(start.cells_zcc[0] @ deformation_cc)
        strains.append(strain.tolist())
    frames = Frames(start.types_a, start.masses_y, np.array(positions), np.array(cells))
    return frames, displacements.tolist(), strains


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``lmp-dp check``."""
    parser.add_argument(
        "models", nargs="+", metavar="MODEL",
        help="models of pair style dp (.h5, .pb, ...): one, or several of the same potential",
    )  # fmt: skip
    parser.add_argument(
        "--against", required=True, metavar="FILE",
        help="model for pair style deepmd (frozen .pb) or for DeepPot (.pth, .dp, .yaml), or the "
        "word reference: the first MODEL on the backend reference",
    )  # fmt: skip
    options.add_system(parser)
    parser.add_argument(
        "--frames", type=count, default=5, metavar="N",
        help="copies with displaced atoms and strained box, besides the file's frame (default 5)",
    )  # fmt: skip
    parser.add_argument("--seed", type=count, default=1, help="of the random changes (default 1)")
    parser.add_argument(
        "--backend", nargs="+", choices=(*backends.NAMES, "all"), default=["auto"], metavar="NAME",
        help="backends of pair style dp, or all that can be used here (default auto)",
    )  # fmt: skip
    parser.add_argument(
        "--md", type=count, default=0, metavar="STEPS",
        help="also run the first MODEL and what it is compared with at constant energy",
    )  # fmt: skip
    parser.add_argument("--plot", metavar="FILE", help="draw values and deviations (.png)")
    parser.add_argument("--report", metavar="FILE", help="tables and figures on a page (.html)")
    parser.add_argument("--json", metavar="FILE", help="write the numbers that were found")


def main(args: argparse.Namespace) -> int:
    """``lmp-dp check``: 0 if all is within tolerance, 1 if not; errors are raised (status 2)."""
    # before the long part: what would only fail after it
    files.check_destinations(
        [args.json, args.plot, args.report], [*args.models, args.against, args.data]
    )
    if args.plot or args.report:
        requirements.matplotlib_for("--plot", "--report")
    with Terminal(stderr=True).working("running LAMMPS"):
        report = run_check(
            args.models,
            args.against,
            args.data,
            args.elements,
            frames=args.frames,
            seed=args.seed,
            backend=args.backend,
            steps=args.md,
        )
    check_report.show(report, Terminal())
    if args.json:
        files.write(args.json, json.dumps(report.as_dict(), indent=1).encode() + b"\n")
    if args.plot:
        from lmp_dp.tools import check_plot

        files.write(args.plot, check_plot.png(check_plot.parity(report)))
    if args.report:
        from lmp_dp.tools import check_page

        files.write(args.report, check_page.html(report).encode())
    return 0 if report.passed else 1
