"""What the engine is given (`Neighbourhood`), asked for (`Outputs`) and gives back (`Result`).

The letters at the end of an array's name are its axes: the table is in DATAFLOW.md, beside this
file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

#: An array of NumPy or CuPy.
Array = Any


@dataclass
class Neighbourhood:
    """Atoms and their neighbour lists, from LAMMPS or from `lmp_dp.engine.periodic`.

    Attributes
    ----------
    positions_ac : (n_all, 3) float64
        Positions (Å) of local atoms, then of ghost atoms.
    types_a : (n_all,) int32
        Model types; -1 marks an atom that the model does not see.
    n_local : int
        Number of local atoms.
    centres_n : (n_centres,) int32
        Indices of the atoms that have a neighbour list (all < n_local).
    offsets_n : (n_centres + 1,) int64
        Neighbours of centre ``n`` are ``neighbours_p[offsets_n[n]:offsets_n[n + 1]]``.
    neighbours_p : (n_pairs,) int32
        Indices into all atoms. A list may be longer than the cutoff (skin).
    build : int
        Number of the lists: types, centres and lists are those of earlier calls with the same
        number. 0 stands for new ones.
    skin : float
        How much longer than the cutoff the lists are (Å); those that an engine builds itself, from
        these positions.
    fparam_f : (n_fparam,) float64, optional
        Parameters of the frame, of models that take them.
    aparam_af : (n_local, n_aparam) float64, optional
        Parameters of each local atom, of models that take them.

    Where an engine `builds_lists`, `offsets_n` and `neighbours_p` are None, and the centres are
    all local atoms that the model sees.
    """

    positions_ac: Array
    types_a: Array
    n_local: int
    centres_n: Array
    offsets_n: Array
    neighbours_p: Array
    build: int = 0
    skin: float = 0.0
    fparam_f: np.ndarray | None = None
    aparam_af: np.ndarray | None = None


@dataclass(frozen=True)
class Outputs:
    """What is wanted besides energy and forces.

    If `borrowed`, arrays of the result may be the engine's, and change with its next evaluation.
    """

    virial: bool = True
    atom_energies: bool = False
    atom_virials: bool = False
    borrowed: bool = False


@dataclass
class Result:
    """What a model gives for a neighbourhood (eV, Å).

    Attributes
    ----------
    energy : float
        Sum of the centres' energies (eV).
    forces_ac : (n_all, 3) float64
        Forces on local and ghost atoms (eV/Å); a ghost's force belongs to its owner.
    virial_cc : (3, 3) float64 or None
        W = -sum_ij r_ij (x) dE/dr_ij (eV), [force component, r component]; W/V adds to pressure.
    atom_energies_a : (n_all,) float64 or None
        Energy of each centre (eV), zero elsewhere.
    atom_virials_acc : (n_all, 3, 3) float64 or None
        The virial's summands, each given wholly to the neighbour j (also a ghost), as DeePMD-kit.
    dropped : int
        Neighbours within the cutoff that found no slot because ``sel`` is too small.
    beyond_table : int
        Pairs (i, j) closer than a compressed model's tables were made for.
    warning : str
        What the user should know about the backend, said once; mostly empty.
    finite : bool
        Whether positions, forces and energy are finite, of an engine that `checks_finite`.
    """

    energy: float
    forces_ac: np.ndarray
    virial_cc: np.ndarray | None = None
    atom_energies_a: np.ndarray | None = None
    atom_virials_acc: np.ndarray | None = None
    dropped: int = 0
    beyond_table: int = 0
    warning: str = ""
    finite: bool = True
