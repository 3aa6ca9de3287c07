"""`Potential`: a model file, a backend, and the two ways to evaluate it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lmp_dp.engine import backends, pairs, periodic
from lmp_dp.engine.namespace import namespace_of, to_numpy
from lmp_dp.engine.neighbourhood import Neighbourhood, Outputs, Result
from lmp_dp.engine.watch import Watch
from lmp_dp.errors import BackendError, InputError, RangeError
from lmp_dp.model import DeepPotential, load
from lmp_dp.model.precision import cast


@dataclass
class Evaluation:
    """Result of `Potential.evaluate` (eV, Å; n atoms in the order of the input).

    Attributes
    ----------
    energy : float
        eV.
    forces : (n, 3) array
        eV/Å.
    virial : (3, 3) array
        -dE/d(strain) in eV, [force component, position component]; virial/volume is the
        potential's part of the pressure.
    atom_energies : (n,) array
        eV; they sum to `energy`.
    atom_virials : (n, 3, 3) array
        eV; they sum to `virial`. As in DeePMD-kit each pair's part belongs to the neighbour.
    """

    energy: float
    forces: np.ndarray
    virial: np.ndarray
    atom_energies: np.ndarray
    atom_virials: np.ndarray


class Potential:
    """A Deep Potential that can be evaluated.

    Parameters
    ----------
    model : path or DeepPotential
        A model file (``lmp-dp convert`` makes one) or a model in memory.
    backend : str
        "auto" (cpu), "cpu", "gpu", "reference" or "gpu-reference".
    precision : {"float64", "float32"}, optional
        Precision of the networks; default is the model's own. Geometry, energies and sums of
        forces are always float64.
    threads : int, optional
        Threads of the cpu backend; default is OMP_NUM_THREADS, else the cores at hand.
    sel, table : {"warn", "error", "ignore"}
        What to do when an atom has more neighbours of an element than the model's ``sel``, and
        when atoms are closer than a compressed model's tables were made for
        (`lmp_dp.engine.watch`). A warning is given once, through `on_warning`; where that is None,
        the caller asks `watch`.
    device : int, optional
        CUDA device of the gpu backend; the first one that CUDA shows is 0, the default.

    Raises
    ------
    lmp_dp.errors.ModelFileError
        The file cannot be read.
    lmp_dp.errors.BackendError
        The backend does not exist or cannot be used here.
    lmp_dp.errors.InputError
        Another argument is unusable.

    Examples
    --------
    >>> potential = Potential("water.h5")                                   # doctest: +SKIP
    >>> potential.evaluate(positions, types, cell).energy                   # doctest: +SKIP
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | DeepPotential,
        backend: str = "auto",
        precision: str | None = None,
        threads: int | None = None,
        sel: str = "warn",
        table: str = "warn",
        device: int | None = None,
    ) -> None:
        self.watch = Watch(sel, table)
        self.on_warning: Callable[[str], None] | None = _python_warning
        loaded = model if isinstance(model, DeepPotential) else load(model)
        if precision is not None:
            loaded = cast(loaded, precision)
        self.model = loaded
        self.threads = backends.thread_count(threads)
        self.backend, self._engine = backends.create(backend, loaded, self.threads, device)

    @property
    def type_map(self) -> tuple[str, ...]:
        """Element names in the order of the model's types."""
        return self.model.type_map

    @property
    def rcut(self) -> float:
        """Cutoff (Å)."""
        return self.model.descriptor.rcut

    @property
    def builds_lists(self) -> bool:
        """True if the backend finds neighbours itself; `compute` needs no lists then."""
        return self._engine.builds_lists

    @property
    def memory(self) -> str:
        """What the backend holds on a device, in words; empty without one."""
        return self._engine.memory()

    @property
    def precision(self) -> str:
        """Precision of the networks: "float64", "float32" or "descriptor/fitting"."""
        return self.model.precision

    def compute(self, neighbourhood: Neighbourhood, outputs: Outputs | None = None) -> Result:
        """Evaluate given neighbour lists (the way LAMMPS calls); nothing is validated here."""
        result = self._engine.compute(neighbourhood, outputs or Outputs())
        self.watch.note(result)
        if self.on_warning and (text := self.watch.warning(self.watch.totals.values())):
            self.on_warning(text)
        return result

    @property
    def seconds(self) -> dict[str, float]:
        """Thread time per stage over all evaluations (s); empty if the backend does not measure."""
        return self._engine.seconds

    def warm_up(self) -> None:
        """Load or compile what a first evaluation needs, so that later ones are even."""
        pair = np.array([[0.0, 0.0, 0.0], [0.5 * self.rcut, 0.0, 0.0]])
        for t in range(len(self.type_map)):
            lists = self._images(pair, np.full(2, t, np.int32))
            fitting = self.model.fitting
            lists.neighbourhood.fparam_f = fitting.fparam_avg_f
            lists.neighbourhood.aparam_af = np.tile(fitting.aparam_avg_f, (2, 1))
            self._engine.compute(lists.neighbourhood, Outputs())
        for stage in self.seconds:
            self.seconds[stage] = 0.0

    def _images(
        self,
        positions_ac: np.ndarray,
        types_a: np.ndarray,
        cell_cc: np.ndarray | None = None,
        pbc_c: tuple[bool, bool, bool] = (True, True, True),
    ) -> periodic.PeriodicNeighbourhood:
        lists = not self.builds_lists
        return periodic.build(positions_ac, types_a, cell_cc, self.rcut, pbc_c, lists)

    def evaluate(
        self,
        positions: Any,
        types: Any,
        cell: Any = None,
        pbc: bool | tuple[bool, bool, bool] = True,
        fparam: Any = None,
        aparam: Any = None,
    ) -> Evaluation:
        """Evaluate a configuration; neighbours are found here.

        Parameters
        ----------
        positions : (n, 3) array_like
            Positions (Å); atoms may lie outside of the cell.
        types : (n,) array_like
            Model types (ints, order of `type_map`; -1 for an atom that the model does not see)
            or element names.
        cell : (3, 3) array_like, (3,) array_like or None
            Lattice vectors as rows, or three edges (Å). None means open boundaries. The cell
            may be smaller than the cutoff and of any shape.
        pbc : bool or three bools
            Which lattice vectors are periodic.
        fparam : float or (n_fparam,) array_like
            Parameters of the frame, for models that take them, in the unit of their training data.
        aparam : float, (n_aparam,) or (n, n_aparam) array_like
            Parameters of all atoms, or of each.

        Raises
        ------
        lmp_dp.errors.InputError
            Shapes do not fit, numbers are not finite, a type is unknown, the cell is singular.
        lmp_dp.errors.RangeError
            ``sel`` or the tables are exceeded, and that is to be an error; or energy or forces
            are not finite.
        """
        positions_ac, types_a, cell_cc, pbc_c = _checked(positions, types, cell, pbc, self.type_map)
        lists = self._images(positions_ac, types_a, cell_cc, pbc_c)
        n_f, n_a = self.model.fitting.n_fparam, self.model.fitting.n_aparam
        lists.neighbourhood.fparam_f = _checked_parameters("fparam", fparam, n_f, (n_f,))
        lists.neighbourhood.aparam_af = _checked_parameters(
            "aparam", aparam, n_a, (len(positions_ac), n_a)
        )
        result = self.compute(
            lists.neighbourhood, Outputs(virial=True, atom_energies=True, atom_virials=True)
        )
        _refuse_overflow(result)
        assert result.virial_cc is not None
        assert result.atom_energies_a is not None
        assert result.atom_virials_acc is not None
        return Evaluation(
            energy=result.energy,
            forces=lists.fold(result.forces_ac),
            virial=result.virial_cc,
            atom_energies=result.atom_energies_a[: len(positions_ac)],
            atom_virials=lists.fold(result.atom_virials_acc),
        )

    def pair_gradients(
        self, displacements: Any, centres: Any, centre_types: Any, neighbour_types: Any
    ) -> tuple[Any, Any]:
        """Energies and dE/dr_ij from displacements, for codes that bring pairs and no positions.

        With g_ij = dE/dr_ij the forces are F_i += g_ij, F_j -= g_ij. Pairs beyond the cutoff, or
        without a slot (`sel`), get zero.

        Parameters
        ----------
        displacements : (n_pairs, 3) array
            r_ij = r_j - r_i (Å), of NumPy or CuPy; every centre needs all of its neighbours.
        centres : (n_pairs,) array
            Which centre a pair belongs to, 0..n - 1, in any order.
        centre_types : (n,) array
            Model types of the centres; -1 for one that the model does not see.
        neighbour_types : (n_pairs,) array
            Model types of the neighbours j.

        Returns
        -------
        energies : (n,) float64 array
            eV.
        gradients : (n_pairs, 3) float64 array
            eV/Å, in the order of the displacements. Both live where the displacements do.

        Raises
        ------
        lmp_dp.errors.InputError
            Shapes do not fit, numbers are not finite, or an index or type does not exist; or the
            model takes parameters.
        lmp_dp.errors.RangeError
            As `evaluate`.
        lmp_dp.errors.BackendError
            The backend finds neighbours by their positions, which pairs do not have.
        """
        if self.builds_lists:
            raise BackendError(
                f"backend {self.backend} takes positions, not pairs: use gpu-reference or cpu"
            )
        if self.model.fitting.n_fparam or self.model.fitting.n_aparam:
            raise InputError("the model needs fparam or aparam, which pairs do not have")
        xp = namespace_of(displacements)
        given = [displacements, centres, centre_types, neighbour_types]
        if self.backend != "gpu-reference":
            given = [to_numpy(array) if xp is not np else np.asarray(array) for array in given]
        r_pc, centre_p, centre_types_n, neighbour_types_p = given
        _refuse_pairs(r_pc, centre_p, centre_types_n, neighbour_types_p, len(self.type_map))
        nb, order_p = pairs.neighbourhood(r_pc, centre_p, centre_types_n, neighbour_types_p)
        result = self.compute(nb, Outputs(virial=False, atom_energies=True))
        _refuse_overflow(result)
        assert result.atom_energies_a is not None
        n = len(centre_types_n)
        g_pc = xp.empty((len(order_p), 3))
        g_pc[xp.asarray(order_p)] = xp.asarray(-result.forces_ac[n:])
        return xp.asarray(result.atom_energies_a[:n]), g_pc


def _refuse_pairs(
    r_pc: Any, centre_p: Any, centre_types_n: Any, neighbour_types_p: Any, n_types: int
) -> None:
    """Arguments of `pair_gradients` that would lead outside of arrays, or to NaN, are errors."""
    n_pairs = len(r_pc)
    if r_pc.shape != (n_pairs, 3):
        raise InputError(f"displacements have shape {r_pc.shape}, expected (n_pairs, 3)")
    for name, array, shape, end in (
        ("centres", centre_p, (n_pairs,), len(centre_types_n)),
        ("centre_types", centre_types_n, (len(centre_types_n),), n_types),
        ("neighbour_types", neighbour_types_p, (n_pairs,), n_types),
    ):
        if array.shape != shape or (array.size and array.dtype.kind not in "iu"):
            raise InputError(
                f"{name} has shape {array.shape} and type {array.dtype}, expected {shape} of ints"
            )
        start = 0 if name == "centres" else -1
        if array.size and not (array.min() >= start and array.max() < end):
            raise InputError(
                f"{name} lie in {array.min()}..{array.max()}, expected {start}..{end - 1}"
            )
    if not namespace_of(r_pc).isfinite(r_pc).all():
        raise InputError("displacements are not all finite")


def _refuse_overflow(result: Result) -> None:
    if not (np.isfinite(result.energy) and np.isfinite(result.forces_ac).all()):
        raise RangeError(
            f"energy ({result.energy} eV) or forces are not finite: atoms in one place, or a model "
            "that overflows where it was not trained"
        )


def _python_warning(text: str) -> None:
    warnings.warn(text, stacklevel=4)


def _checked(
    positions: Any, types: Any, cell: Any, pbc: Any, type_map: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, tuple[bool, bool, bool]]:
    """Arguments of `evaluate` as arrays, or an InputError."""
    positions_ac = np.array(positions, dtype=np.float64)
    if positions_ac.ndim != 2 or positions_ac.shape[1] != 3:
        raise InputError(f"positions have shape {positions_ac.shape}, expected (n, 3)")
    _refuse_not_finite(positions_ac, "position")
    types_a = _type_indices(types, type_map)
    if types_a.shape != (len(positions_ac),):
        raise InputError(f"{len(positions_ac)} positions, but types of shape {types_a.shape}")
    flags = (pbc,) * 3 if isinstance(pbc, (bool, np.bool_)) else tuple(pbc)
    if len(flags) != 3:
        raise InputError(f"pbc must be one or three bools, found {pbc!r}")
    pbc_c = (bool(flags[0]), bool(flags[1]), bool(flags[2]))
    if cell is None:
        return positions_ac, types_a, None, pbc_c
    cell_cc = np.array(cell, dtype=np.float64)
    if cell_cc.shape == (3,):
        cell_cc = np.diag(cell_cc)
    if cell_cc.shape != (3, 3):
        raise InputError(f"cell has shape {cell_cc.shape}, expected (3, 3) or (3,)")
    lengths = np.linalg.norm(cell_cc, axis=1)
    if not np.isfinite(cell_cc).all() or abs(np.linalg.det(cell_cc)) <= 1e-9 * lengths.prod():
        raise InputError(f"the cell's vectors span no volume: {cell_cc.tolist()}")
    return positions_ac, types_a, cell_cc, pbc_c


def _checked_parameters(
    name: str, values: Any, count: int, shape: tuple[int, ...]
) -> np.ndarray | None:
    """`fparam` or `aparam` of `evaluate`, broadcast to `shape`, or an InputError."""
    if values is None and not count:
        return None
    if values is None:
        raise InputError(f"the model needs {name}: {count} values")
    if not count:
        raise InputError(f"{name} is given, but the model takes none")
    array = np.asarray(values, dtype=np.float64)
    allowed = {(count,): None, shape: None} | ({(): None} if count == 1 else {})
    if array.shape not in allowed:
        raise InputError(
            f"{name} has shape {array.shape}, expected {' or '.join(map(str, allowed))}"
        )
    if not np.isfinite(array).all():
        raise InputError(f"{name} is not finite: {array.tolist()}")
    return np.broadcast_to(array, shape)


def _refuse_not_finite(values_ac: np.ndarray, what: str) -> None:
    bad_a = ~np.isfinite(values_ac).all(axis=1)
    if bad_a.any():
        atom = int(np.argmax(bad_a))
        raise InputError(f"{what} of atom {atom} is not finite: {values_ac[atom].tolist()}")


def _type_indices(types: Any, type_map: tuple[str, ...]) -> np.ndarray:
    array = np.asarray(types)
    if array.dtype.kind in "US":
        index = {name: t for t, name in enumerate(type_map)}
        unknown = sorted(set(array.tolist()) - set(index))
        if unknown:
            raise InputError(f"the model has no element {unknown}; it has {' '.join(type_map)}")
        array = np.array([index[name] for name in array.tolist()])
    if array.size and array.dtype.kind not in "iu":
        raise InputError(f"types must be ints or element names, found {array.dtype}")
    if array.size and not (array.min() >= -1 and array.max() < len(type_map)):
        raise InputError(
            f"types lie in {array.min()}..{array.max()}, the model has 0..{len(type_map) - 1}"
        )
    return array.astype(np.int32)
