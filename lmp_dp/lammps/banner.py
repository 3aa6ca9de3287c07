"""What is said of models before a run, by the pair style and by fix external."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lmp_dp import __version__
from lmp_dp.lammps import type_table
from lmp_dp.text import printable

if TYPE_CHECKING:
    from lmp_dp.engine import Potential


def banner(
    who: str,
    lammps_version: object,
    models: Sequence[tuple[str, Potential]],
    plan: str,
    types_y: NDArray[np.int32],
    masses_y: Any,
) -> tuple[str, str | None]:
    """Lines for the log, and a warning if masses do not fit the elements.

    Parameters
    ----------
    who : str
        What uses the models, as it is called in an input script.
    lammps_version : object
    models : sequence of (name, Potential)
        The first gives backend, precision, threads and elements.
    plan : str
        Line about the use of several models.
    types_y : (n_types,) int32
        Model type of each LAMMPS type.
    masses_y : sequence of n_types float, or None
        g/mol.
    """
    first = models[0][1]
    threads = getattr(first, "threads", None)
    log = (
        f"{who}: lmp_dp {__version__}, LAMMPS {lammps_version}, "
        f"backend {first.backend}, precision {first.precision}"
        + (f", threads per rank {threads}" if threads else "")
        + "".join(f"\n  model {printable(name)}, cutoff {model.rcut:g} A" for name, model in models)
        + f"\n{plan}"
        + type_table.table(types_y, first.type_map, masses_y)
    )
    doubts = None
    if masses_y is not None:
        doubts = type_table.doubtful_masses(types_y, first.type_map, masses_y)
    return log, f"{who}: {doubts}" if doubts else None
