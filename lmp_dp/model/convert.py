"""``lmp-dp convert``: a DeePMD-kit model file in, an lmp_dp model file out.

Where deepmd-kit is installed, the source itself evaluates one small frame, which goes into the
file as its proof (`lmp_dp.tools.verify`). TensorFlow alone cannot run DeePMD-kit's graphs.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import os
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

import lmp_dp
from lmp_dp import files
from lmp_dp.errors import ModelFileError, UnsupportedModelError
from lmp_dp.model import hdf5, training_input
from lmp_dp.model.deep_potential import DeepPotential, ReferenceFrame

_FOREIGN_SUFFIXES = {
    ".pth": "a PyTorch model",
    ".pt": "a PyTorch checkpoint",
    ".pt2": "a PyTorch model",
    ".dp": "a DP (NumPy) model",
    ".yaml": "a DP (NumPy) model",
    ".savedmodel": "a JAX model",
    ".meta": "a TensorFlow checkpoint; freeze it with 'dp freeze'",
}


def convert(
    source: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    *,
    input_json: str | os.PathLike[str] | None = None,
    progress: Callable[[str], None] = lambda stage: None,
) -> DeepPotential:
    """Convert a frozen DeePMD-kit model (TensorFlow, ``.pb`` or ``.pbtxt``) to an HDF5 file.

    Parameters
    ----------
    source, destination : path
    input_json : path, optional
        The training input, for graphs that do not carry it.
    progress : callable
        Called with a line at the start of each stage.

    Returns
    -------
    DeepPotential
        The model as written.

    Raises
    ------
    UnsupportedModelError
        The model uses something that lmp_dp cannot evaluate; nothing is written.
    ModelFileError
        The source is missing or broken.
    OutputError
        The destination cannot be written, is the source, or is no plain file.
    """
    source = Path(source)
    files.check_destinations(
        [destination], [source, *([input_json] if input_json is not None else [])]
    )
    if source.suffix in _FOREIGN_SUFFIXES:
        raise UnsupportedModelError(
            f"{source.name} is {_FOREIGN_SUFFIXES[source.suffix]}; only frozen TensorFlow graphs "
            "(.pb, .pbtxt) are converted"
        )
    from lmp_dp.model.deepmd_tensorflow import read_graph
    from lmp_dp.model.tensorflow_graph import Graph

    script = None
    if input_json is not None:
        try:
            text = Path(input_json).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise ModelFileError(
                f"the training input {input_json} cannot be used: {error}"
            ) from error
        script = training_input.read(text, f"the training input {input_json}")
    progress("reading the graph")
    model = read_graph(Graph.read(source), script)
    progress("evaluating a reference frame with deepmd-kit")
    frame, note = _reference_frame(source, model)
    provenance = dataclasses.replace(
        model.provenance,
        source_file=source.name,
        source_sha256=hashlib.sha256(source.read_bytes()).hexdigest(),
        converted_by=f"lmp_dp {lmp_dp.__version__}",
        notes=(*model.provenance.notes, *([note] if note else [])),
    )
    model = dataclasses.replace(model, provenance=provenance, reference_frame=frame)
    progress("writing")
    hdf5.save(model, destination)
    return model


def _reference_frame(source: Path, model: DeepPotential) -> tuple[ReferenceFrame | None, str]:
    """A frame evaluated by deepmd-kit, or None and the reason why there is none."""
    if importlib.util.find_spec("deepmd") is None:
        return None, "unproven: deepmd-kit was not installed at conversion"
    positions_ac, cell_cc, types_a = _example_configuration(model)
    fparam_f, aparam_af = _example_parameters(model, len(types_a))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # TensorFlow's own deprecations
            import deepmd
            from deepmd.infer import DeepPot

            energy, forces, virial = DeepPot(str(source)).eval(
                positions_ac[None], cell_cc[None], types_a, fparam=fparam_f, aparam=aparam_af
            )[:3]
    except Exception as error:
        return None, f"unproven: deepmd-kit could not evaluate the source ({error})"
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


def _example_parameters(
    model: DeepPotential, n_atoms: int
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Parameters of the frame and of its atoms within one standard deviation of the mean."""
    fitting, rng = model.fitting, np.random.default_rng(20240301)
    scatter_f = rng.uniform(-1.0, 1.0, fitting.n_fparam)
    scatter_af = rng.uniform(-1.0, 1.0, (n_atoms, fitting.n_aparam))
    return (
        fitting.fparam_avg_f + scatter_f / fitting.fparam_istd_f if fitting.n_fparam else None,
        fitting.aparam_avg_f + scatter_af / fitting.aparam_istd_f if fitting.n_aparam else None,
    )


def _example_configuration(model: DeepPotential) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A jittered lattice in a tilted cell with every element in it (at least 16 atoms)."""
    rng = np.random.default_rng(20240229)
    spacing = max(1.3 * (model.provenance.min_nbor_dist or 0.0), 1.8)
    n_types = len(model.type_map)
    edge = max(3, int(np.ceil((4 * n_types) ** (1 / 3))))
    grid = np.stack(np.meshgrid(*[np.arange(edge)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    cell_cc = spacing * edge * np.array([[1.0, 0.0, 0.0], [0.15, 1.05, 0.0], [-0.1, 0.2, 0.95]])
    positions_ac = (grid / edge) @ cell_cc + rng.uniform(-0.12, 0.12, (len(grid), 3)) * spacing
    types_a = rng.permutation(np.arange(len(grid)) % n_types).astype(np.int32)
    return positions_ac, cell_cc, types_a
