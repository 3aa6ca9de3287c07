"""DeePMD-kit's DeepPot as the yardstick of ``lmp-dp check``: for formats that are not graphs."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lmp_dp.lammps.virials import symmetric6
from lmp_dp.model.sources.source_files import SUFFIXES
from lmp_dp.tools.lammps_frames import Frames, Values
from lmp_dp.tools.reference_frame import as_deepmd_takes_it
from lmp_dp.tools.requirements import ComparisonError


def is_for(source: str | Path) -> bool:
    """Whether DeepPot evaluates a model, rather than pair style deepmd: by its suffix."""
    return Path(source).suffix.lower() in {*SUFFIXES.values(), ".yml"}


def evaluate(frames: Frames, source: str | Path, elements: Sequence[str]) -> Values:
    """Energies, forces and virials of `frames` by DeepPot.

    Parameters
    ----------
    frames : Frames
    source : path
        A model of DeePMD-kit; one that gives energies only is evaluated as PyTorch's.
    elements : sequence of str
        The element of each LAMMPS type, or NULL for atoms that the model does not see.

    Raises
    ------
    ComparisonError
        DeePMD-kit cannot evaluate it here, or it lacks an element.
    """
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            from deepmd.infer import DeepPot

            potential = DeepPot(str(as_deepmd_takes_it(Path(source), "", Path(scratch))))
            type_map = potential.get_type_map()
        except Exception as error:
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise ComparisonError(
                f"deepmd-kit cannot evaluate {source} here: {reason}. For .pth, .dp and .yaml it "
                "needs PyTorch"
            ) from error
        missing = sorted({name for name in elements if name not in (*type_map, "NULL")})
        if missing:
            raise ComparisonError(f"{source} has no {', '.join(missing)}, only {type_map}")
        types_y = np.array([type_map.index(name) if name != "NULL" else -1 for name in elements])
        types_a = types_y[frames.types_a - 1]
        seen_a = types_a >= 0
        energies_z, forces_zic, virials_zi, atom_energies_zi = potential.eval(
            frames.positions_zac[:, seen_a], frames.cells_zcc, types_a[seen_a], atomic=True
        )[:4]
    n_frames, n = frames.positions_zac.shape[:2]
    forces_zac, atom_energies_za = np.zeros((n_frames, n, 3)), np.zeros((n_frames, n))
    forces_zac[:, seen_a] = forces_zic
    atom_energies_za[:, seen_a] = np.reshape(atom_energies_zi, (n_frames, -1))
    return Values(
        energies_z=np.ravel(energies_z).astype(np.float64),
        forces_zac=forces_zac,
        virials_zu=symmetric6(np.reshape(virials_zi, (n_frames, 3, 3))),
        atom_energies_za=atom_energies_za,
    )
