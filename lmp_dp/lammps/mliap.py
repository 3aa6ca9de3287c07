"""`DpMliap`: a Deep Potential as the Python object behind `pair_style mliap unified`.

For LAMMPS builds with the packages ML-IAP and PYTHON (and KOKKOS, also on GPUs), which need no
plugin of ours. LAMMPS hands over displacements r_ij = r_j - r_i of all pairs within the cutoff, and
applies what it gets for each pair, f_ij, as F_i += f_ij, F_j -= f_ij, W -= r_ij f_ij: that is
f_ij = dE/dr_ij. Energies are in eV and lengths in Å, so LAMMPS must use `units metal`.
"""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

from lmp_dp import files
from lmp_dp.engine import Potential
from lmp_dp.engine.namespace import namespace_of


class DpMliap:
    """A model file for `pair_style mliap unified`.

    The attributes `element_types`, `ndescriptors`, `nparams`, `rcutfac` and `interface`, and the
    methods `compute_*` are what LAMMPS asks for.

    Parameters
    ----------
    model : path
        A model file, or one that can be converted.
    **options
        Those of `lmp_dp.Potential`: backend, precision, threads, sel, table, compress. Backend
        "auto" is cpu: gpu takes positions, which LAMMPS does not hand over here.

    Raises
    ------
    lmp_dp.errors.LmpDpError
        As `lmp_dp.Potential`.
    """

    def __init__(self, model: str | os.PathLike[str], **options: Any) -> None:
        if options.get("backend", "auto") == "auto":
            options["backend"] = "cpu"
        self.potential = Potential(model, **options)
        self._made_of = (str(Path(model).resolve()), options)
        self.interface: Any = None  # set by LAMMPS
        self.element_types = list(self.potential.type_map)
        self.ndescriptors = self.nparams = 1  # LAMMPS allocates arrays of these sizes
        self.rcutfac = self.potential.rcut / 2  # LAMMPS's cutoff: rcutfac x sum of two radii of 1
        self._forces: Any = None

    def compute_descriptors(self, data: Any) -> None:
        """Nothing: everything is done in `compute_forces`."""

    def compute_gradients(self, data: Any) -> None:
        """Nothing: everything is done in `compute_forces`."""

    def compute_forces(self, data: Any) -> None:
        """Energies of atoms and forces of pairs, in NumPy or CuPy arrays as LAMMPS's are."""
        n = data.nlistatoms
        if n == 0:  # a rank without atoms; its arrays may not exist
            data.energy = 0.0
            return
        types_a, atom_n = data.elems, data.iatoms[:n]
        xp = namespace_of(types_a)
        r_pc = data.rij if data.npairs else xp.zeros((0, 3))
        i_p = data.pair_i if data.npairs else xp.zeros(0, dtype=xp.int32)
        j_p = data.jatoms if data.npairs else i_p
        centre_a = xp.full(len(types_a), -1, dtype=xp.int64)
        centre_a[atom_n] = xp.arange(n)
        centre_p = centre_a[i_p]
        own_p = centre_p >= 0  # with `ghostneigh` there are pairs of ghosts
        energies_n, g_pc = self.potential.pair_gradients(
            r_pc[own_p], centre_p[own_p], types_a[atom_n], types_a[j_p[own_p]]
        )
        # LAMMPS may still read the array when this method has returned: it is kept
        self._forces = forces_pc = xp.zeros((len(r_pc), 3))
        forces_pc[own_p] = g_pc
        written = getattr(data, "eatoms", None)
        if written is None:  # can only be set, without KOKKOS
            data.eatoms = energies_n
        else:  # can only be written into, with KOKKOS
            written[:] = energies_n
        data.energy = float(energies_n.sum())
        if data.npairs:
            if hasattr(xp, "cuda"):  # LAMMPS works in another stream
                xp.cuda.get_current_stream().synchronize()
            data.update_pair_forces(forces_pc)

    def pickle(self, path: str | os.PathLike[str]) -> None:
        """Write a file for `pair_style mliap unified FILE`, which LAMMPS reads with pickle.

        It holds the absolute path of the model file and the options; nothing of the model. Whoever
        loads a pickle runs what it says: give LAMMPS only files that you wrote yourself.
        """
        files.write(path, pickle.dumps(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, self._made_of


def _restored(model: str, options: dict[str, Any]) -> DpMliap:
    """What a pickle calls."""
    return DpMliap(model, **options)
