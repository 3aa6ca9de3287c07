"""A model's proof: a small configuration that the source itself evaluated, and the comparison.

`evaluate_source` has deepmd-kit evaluate the source at conversion; `verify` evaluates the same
configuration here and compares (``lmp-dp convert``, ``lmp-dp info --verify``).
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lmp_dp.engine import Potential, periodic
from lmp_dp.errors import LmpDpError
from lmp_dp.model import DeepPotential, Environment, ReferenceFrame
from lmp_dp.model.sources.source_files import GRAPH, SUFFIXES, TORCHSCRIPT, format_of
from lmp_dp.tools.tolerances import FLOAT32_PROOF, Limits, limits

#: `model_version` of graphs that today's deepmd-kit runs only after its own convert-from: those
#: of DeePMD-kit 0.x and 1.x, which carry none, and of 2.0.
_OLD_VERSIONS = ("", "0.0", "1.0")
_SEED = 20240229
#: Configurations that are tried in a cell before the next larger one, and larger cells.
_ATTEMPTS, _LARGER_CELLS = 8, 10


def verify(model: DeepPotential, backend: str = "reference") -> dict[str, Any]:
    """Evaluate the reference frame and compare with what the source gave.

    Returns
    -------
    dict
        ``passed``, and per quantity ``deviation`` and ``tolerance`` (eV per atom, eV/Å, eV).

    Raises
    ------
    LmpDpError
        The file has no reference frame: it is unproven.
    """
    frame = model.reference_frame
    if frame is None:
        reason = next((note for note in model.provenance.notes if note.startswith("unproven")), "")
        raise LmpDpError(
            f"this file has no reference frame ({reason or 'unproven'}); convert it again where "
            "deepmd-kit is installed, or compare with 'lmp-dp check'"
        )
    # the frame is denser than matter: leaving out neighbours is part of what is compared
    potential = Potential(model, backend=backend, sel="ignore", table="ignore")
    result = potential.evaluate(
        frame.positions_ac,
        frame.types_a,
        frame.cell_cc,
        fparam=frame.fparam_f,
        aparam=frame.aparam_af,
    )
    deviations = {
        "energy_per_atom": abs(result.energy - frame.energy) / max(1, len(frame.types_a)),
        "force": float(np.abs(result.forces - frame.forces_ac).max(initial=0.0)),
        "virial": float(np.abs(result.virial - frame.virial_cc).max()),
    }
    allowed = _limits(model, frame)
    tolerances = {name: getattr(allowed, name) for name in deviations}
    return {
        "passed": all(deviations[name] <= tolerances[name] for name in tolerances),
        "backend": backend,
        "source": frame.evaluated_by,
        "deviation": deviations,
        "tolerance": tolerances,
    }


def _limits(model: DeepPotential, frame: ReferenceFrame) -> Limits:
    if model.provenance.half_precision:
        kind = "half"
    elif model.precision != "float64":
        kind = "float32"
    else:
        tabulated = model.tables and not model.provenance.source_tables
        kind = "compressed" if tabulated else "exact"
    found = limits(kind, model.rcut, frame.forces_ac, frame.virial_cc)
    return Limits(*map(min, found, FLOAT32_PROOF)) if kind == "float32" else found


# --------------------------------------------------------------------------- the source
def evaluate_source(source: Path, model: DeepPotential) -> tuple[ReferenceFrame | None, str]:
    """A frame evaluated by deepmd-kit, or None and the reason why there is none.

    Parameters
    ----------
    source : path
        The file that `model` was read from; it is only copied.
    model : DeepPotential
        Says what the frame must contain: elements, distances, parameters.
    """
    if importlib.util.find_spec("deepmd") is None:
        return None, "unproven: deepmd-kit was not installed at conversion"
    positions_ac, cell_cc, types_a = _example_configuration(model)
    fparam_f, aparam_af = _example_parameters(model, len(types_a))
    try:
        with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # TensorFlow's own deprecations
            import deepmd
            from deepmd.infer import DeepPot

            taken = as_deepmd_takes_it(source, model.provenance.model_version, Path(scratch))
            energy, forces, virial = DeepPot(str(taken)).eval(
                positions_ac[None], cell_cc[None], types_a, fparam=fparam_f, aparam=aparam_af
            )[:3]
    except Exception as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        return None, f"unproven: deepmd-kit could not evaluate the source ({reason})"
    return ReferenceFrame(
        positions_ac=positions_ac,
        cell_cc=cell_cc,
        types_a=types_a,
        energy=float(np.ravel(energy)[0]),
        forces_ac=np.asarray(forces, dtype=np.float64).reshape(-1, 3),
        virial_cc=np.asarray(virial, dtype=np.float64).reshape(3, 3),
        evaluated_by=f"deepmd-kit {deepmd.__version__}",
        fparam_f=fparam_f,
        aparam_af=aparam_af,
    ), ""


def as_deepmd_takes_it(source: Path, model_version: str, scratch: Path) -> Path:
    """A copy of the source in `scratch` of which today's deepmd-kit gives forces."""
    kind = format_of(source)
    if kind == GRAPH:
        return _current_graph(source, model_version, scratch)
    copy = scratch / f"source{SUFFIXES[kind]}"
    shutil.copyfile(source, copy)
    if kind == TORCHSCRIPT:
        return copy
    # its NumPy backend gives energies only
    from deepmd.entrypoints.convert_backend import convert_backend

    made = scratch / "source.pth"
    convert_backend(INPUT=str(copy), OUTPUT=str(made))
    return made


def _current_graph(source: Path, model_version: str, scratch: Path) -> Path:
    """A copy of a graph in `scratch` as today's deepmd-kit takes it: binary, version 1.1."""
    from deepmd.tf.env import tf
    from deepmd.tf.utils.convert import convert_pbtxt_to_pb, convert_to_21

    copy, current = scratch / "source.pb", scratch / "current.pb"
    if source.suffix == ".pbtxt":
        convert_pbtxt_to_pb(str(source.absolute()), str(copy))
    else:
        shutil.copyfile(source, copy)
    if model_version not in _OLD_VERSIONS:
        return copy
    # it leaves a file where it works, and imports the graph into TensorFlow's current one
    with _working_in(scratch), tf.Graph().as_default():
        convert_to_21(copy.name, current.name)
    return current


@contextlib.contextmanager
def _working_in(folder: Path) -> Iterator[None]:
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


# --------------------------------------------------------------------------- the configuration
def _example_parameters(
    model: DeepPotential, n_atoms: int
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Parameters of the frame and of its atoms within one standard deviation of the mean."""
    fitting, rng = model.fitting, np.random.default_rng(_SEED + 1)
    scatter_f = rng.uniform(-1.0, 1.0, fitting.n_fparam)
    scatter_af = rng.uniform(-1.0, 1.0, (n_atoms, fitting.n_aparam))
    return (
        fitting.fparam_avg_f + scatter_f / fitting.fparam_istd_f if fitting.n_fparam else None,
        fitting.aparam_avg_f + scatter_af / fitting.aparam_istd_f if fitting.n_aparam else None,
    )


def _example_configuration(model: DeepPotential) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A jittered lattice in a tilted cell with every element in it (at least 27 atoms).

    Where `sel` leaves out one of two neighbours at one distance (two images of one atom, say),
    DeePMD-kit's choice goes by an order of its own: such configurations prove nothing.
    """
    rng = np.random.default_rng(_SEED)
    spacing = max(1.3 * (model.provenance.min_nbor_dist or 0.0), 1.8)
    n_types = len(model.type_map)
    smallest = max(3, int(np.ceil((4 * n_types) ** (1 / 3))))
    for attempt in range(_ATTEMPTS * _LARGER_CELLS):
        edge = smallest + attempt // _ATTEMPTS
        grid = np.stack(np.meshgrid(*[np.arange(edge)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
        shape_cc = np.array([[1.0, 0.0, 0.0], [0.15, 1.05, 0.0], [-0.1, 0.2, 0.95]])
        cell_cc = spacing * edge * shape_cc
        jitter_ac = rng.uniform(-0.12, 0.12, (len(grid), 3)) * spacing
        positions_ac = (grid / edge) @ cell_cc + jitter_ac
        types_a = rng.permutation(np.arange(len(grid)) % n_types).astype(np.int32)
        if all(
            _selection_is_unique(positions_ac, cell_cc, types_a, part.environment)
            for part in model.descriptor.parts
        ):
            break
    return positions_ac, cell_cc, types_a


def _selection_is_unique(
    positions_ac: np.ndarray, cell_cc: np.ndarray, types_a: np.ndarray, environment: Environment
) -> bool:
    """Whether the nearest `sel` neighbours of each element are told apart from the next one."""
    sel_t = environment.sel_t
    lists = periodic.build(positions_ac, types_a, cell_cc, environment.rcut).neighbourhood
    assert lists.offsets_n is not None
    assert lists.neighbours_p is not None
    centre_p = np.repeat(np.arange(len(types_a)), np.diff(lists.offsets_n))
    r_pc = lists.positions_ac[lists.neighbours_p] - lists.positions_ac[centre_p]
    r2_p = (r_pc * r_pc).sum(axis=1)
    block_p = 0 if environment.one_block else lists.types_a[lists.neighbours_p]
    group_p = centre_p * len(sel_t) + block_p
    order_p = np.lexsort((r2_p, group_p))
    r2_p, group_p = r2_p[order_p], group_p[order_p]
    rank_p = np.arange(len(group_p)) - np.searchsorted(group_p, group_p)
    cut_p = (rank_p[1:] == sel_t[group_p[1:] % len(sel_t)]) & (group_p[1:] == group_p[:-1])
    # DeePMD-kit sorts by float32: 16 units in its last place
    return bool((np.diff(r2_p)[cut_p] > 2e-6 * r2_p[1:][cut_p]).all())
