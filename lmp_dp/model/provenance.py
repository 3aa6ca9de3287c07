"""Where a model comes from, and what proves that it was read right."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from lmp_dp.errors import ModelFileError
from lmp_dp.model import bounds
from lmp_dp.model.arrays import Floats, Integers, Text


@dataclass(frozen=True)
class ReferenceFrame:
    """A configuration with the values that the source model itself gave for it (metal units).

    `fparam_f` and `aparam_af` are what the model was given, None if it takes no parameters.
    All arrays are float64 but `types_a`.
    """

    positions_ac: Floats
    cell_cc: Floats
    types_a: Integers
    energy: float
    forces_ac: Floats
    virial_cc: Floats
    evaluated_by: str
    fparam_f: Floats | None = None
    aparam_af: Floats | None = None

    def __post_init__(self) -> None:
        n = len(self.types_a)
        if n == 0 or self.types_a.ndim != 1 or self.types_a.dtype.kind != "i":
            raise ModelFileError("types must be one int for each atom")
        for name, shape in (
            ("positions_ac", (n, 3)),
            ("cell_cc", (3, 3)),
            ("forces_ac", (n, 3)),
            ("virial_cc", (3, 3)),
        ):
            bounds.check(name, getattr(self, name), shape, np.finfo("f8").max)
        if not np.isfinite(self.energy):
            raise ModelFileError(f"the energy is {self.energy}, expected a finite number (eV)")


#: How the note on a source begins that computes its nets in half precision.
MIXED_PRECISION = "trained in mixed precision"
#: How the note on a source begins that is compressed itself.
SOURCE_TABLES = "compressed by its source"


@dataclass(frozen=True)
class Provenance:
    """Where a model comes from; strings are empty and numbers None where the source is silent."""

    source_file: str = ""
    source_sha256: str = ""
    source_format: str = ""
    model_version: str = ""
    converted_by: str = ""
    min_nbor_dist: float | None = None
    training_script: Text = ""
    notes: tuple[str, ...] = field(default=())

    @property
    def half_precision(self) -> bool:
        """True if the source computes its nets in float16 or bfloat16 (a note says so)."""
        return any(note.startswith(MIXED_PRECISION) for note in self.notes)

    @property
    def source_tables(self) -> bool:
        """True if the source itself has the model's tables, and no nets (a note says so)."""
        return any(note.startswith(SOURCE_TABLES) for note in self.notes)

    def __post_init__(self) -> None:
        if self.min_nbor_dist is not None and not np.isfinite(self.min_nbor_dist):
            raise ModelFileError(f"min_nbor_dist is {self.min_nbor_dist}, expected a distance (Å)")
