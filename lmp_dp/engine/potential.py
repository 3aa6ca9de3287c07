"""`Potential`: a model file, a backend, and the two ways to evaluate it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np

from lmp_dp.engine import backends, inputs, model_cache, pairs, periodic, process
from lmp_dp.engine.compression import doubts_of_tables
from lmp_dp.engine.namespace import namespace_of, to_numpy
from lmp_dp.engine.neighbourhood import Neighbourhood, Outputs, Result
from lmp_dp.engine.watch import Watch
from lmp_dp.errors import BackendError, InputError, RangeError
from lmp_dp.model import DeepPotential
from lmp_dp.model.descriptors.loc_frame import LocFrame
from lmp_dp.model.precision import cast
from lmp_dp.threads import thread_count


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
    """A Deep Potential that can be evaluated, by several threads at a time if need be.

    It can be copied and pickled: the copy opens the same file again (or holds the model that was
    given in memory), counts from zero, and has the same `on_warning`, which must be picklable then.
    Children of a fork use it as their parent does, but not on a GPU.

    Parameters
    ----------
    model : path or DeepPotential
        A model file, any other file that ``lmp-dp convert`` reads (a frozen DeePMD-kit graph, say),
        or a model in memory.
    backend : str
        "auto", "cpu", "gpu", "reference" or "gpu-reference". "auto" is gpu where there is a device
        that passes a self-test, and kernels for the model; otherwise cpu.
    precision : {"float64", "float32"}, optional
        Precision of the networks; default is the model's own. Geometry, energies and sums of
        forces are always float64.
    threads : int, optional
        Threads of the cpu backend, of each evaluation; default is OMP_NUM_THREADS, else the cores
        at hand.
    sel, table : {"warn", "error", "ignore"}
        What to do when an atom has more neighbours of an element than the model's ``sel``, and
        when atoms are closer than a compressed model's tables were made for
        (`lmp_dp.engine.watch`). A warning is given once, through `on_warning`; where that is None,
        the caller asks `watch`, and reads `Result.warning`.
    device : int, optional
        CUDA device of the gpu backend; the first one that CUDA shows is 0, the default.
    compress : bool
        Tabulate the embedding nets first, as ``lmp-dp compress`` does: several times faster, and
        other numbers within its tolerance. A model that has tables is used as it is. Default is the
        model as it is.

    Attributes
    ----------
    on_warning : callable or None
        Gets the text of each warning; gives it to Python's `warnings` unless something else is set.
        None: nobody is told.

    Raises
    ------
    lmp_dp.errors.ModelFileError
        The file cannot be read.
    lmp_dp.errors.UnsupportedModelError
        The file is of a kind, or its model has something, that is not supported.
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
        compress: bool = False,
    ) -> None:
        self.watch = Watch(sel, table)
        self.on_warning: Callable[[str], None] | None = _python_warning
        self.threads = thread_count(threads)
        device = inputs.device_index(device)
        if not isinstance(model, DeepPotential):
            model = inputs.path_of(model)
        compress = inputs.flag("compress", compress)
        loaded = model_cache.opened(model, compress)
        if compress and (doubts := doubts_of_tables(loaded)):
            warnings.warn(doubts, stacklevel=2)
        if precision is not None:
            loaded = cast(loaded, precision)
        self.model = loaded
        self.backend, self._engine = backends.create(backend, loaded, self.threads, device)
        self._lock, self._forked = Lock(), False
        process.renew_in_children(self)
        self._made_of = {
            # the working directory may change
            "model": os.path.abspath(model) if isinstance(model, str) else model,
            "backend": backend,
            "precision": precision,
            "threads": threads,
            "sel": sel,
            "table": table,
            "device": device,
            "compress": compress,
        }

    def __reduce__(self) -> tuple[Any, ...]:
        return _remade, (self._made_of,), {"on_warning": self.on_warning}

    def renew(self) -> None:
        """This is a forked child now (`lmp_dp.engine.process`)."""
        self._lock, self._forked = Lock(), True

    def close(self) -> None:
        """End the threads and let go of memory; another evaluation takes them again."""
        self._engine.close()

    @property
    def type_map(self) -> tuple[str, ...]:
        """Element names in the order of the model's types."""
        return self.model.type_map

    @property
    def rcut(self) -> float:
        """Cutoff (Å)."""
        return self.model.rcut

    @property
    def builds_lists(self) -> bool:
        """True if the backend finds neighbours itself; `compute` needs no lists then."""
        return self._engine.builds_lists

    @property
    def checks_finite(self) -> bool:
        """True if `compute` says whether positions and its result are finite."""
        return self._engine.checks_finite

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
        if self._forked and self.backend in ("gpu", "gpu-reference"):
            raise BackendError(
                f"backend {self.backend} cannot be used in a child of the process that opened the "
                f"device: make the Potential in the child, or start children by spawn or forkserver"
            )
        result = self._engine.compute(neighbourhood, outputs or Outputs())
        warn = self.on_warning
        if warn and result.warning:
            warn(result.warning)
        with self._lock:
            self.watch.note(result)
            text = self.watch.warning(self.watch.totals.values()) if warn else None
        if warn and text:
            warn(text)
        return result

    @property
    def seconds(self) -> dict[str, float]:
        """Thread time per stage over all evaluations (s); empty if the backend does not measure."""
        return self._engine.seconds

    def warm_up(self) -> None:
        """Load or compile what a first evaluation needs, so that later ones are even."""
        if any(isinstance(part, LocFrame) for part in self.model.descriptor.parts):
            return  # which two atoms do not have
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
            Something is not what it should be (ragged, masked, complex, text), shapes do not fit,
            numbers are not finite, a type is unknown, the cell is singular; two atoms are in one
            place, one is more than 1 cm from the origin, or the cell is so small that too many
            images are within the cutoff.
        lmp_dp.errors.RangeError
            ``sel`` or the tables are exceeded, and that is to be an error; or energy or forces
            are not finite.
        """
        positions_ac, types_a, cell_cc, pbc_c = inputs.configuration(
            positions, types, cell, pbc, self.type_map
        )
        lists = self._images(positions_ac, types_a, cell_cc, pbc_c)
        inputs.refuse_coinciding(lists)
        n_f, n_a = self.model.fitting.n_fparam, self.model.fitting.n_aparam
        lists.neighbourhood.fparam_f = inputs.parameters("fparam", fparam, n_f, (n_f,))
        lists.neighbourhood.aparam_af = inputs.parameters(
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
            Shapes do not fit, numbers are not finite, or an index or type does not exist; two atoms
            are in one place; or the model takes parameters.
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
            raise InputError(
                "the model needs fparam or aparam, which pairs do not have: use Potential.evaluate"
            )
        xp = namespace_of(displacements)
        given = [displacements, centres, centre_types, neighbour_types]
        names = ("displacements", "centres", "centre_types", "neighbour_types")
        if self.backend != "gpu-reference":
            given = [
                to_numpy(array) if xp is not np else inputs.as_array(name, array)
                for name, array in zip(names, given, strict=True)
            ]
        r_pc, centre_p, centre_types_n, neighbour_types_p = given
        inputs.pairs(r_pc, centre_p, centre_types_n, neighbour_types_p, len(self.type_map))
        nb, order_p = pairs.neighbourhood(r_pc, centre_p, centre_types_n, neighbour_types_p)
        result = self.compute(nb, Outputs(virial=False, atom_energies=True))
        _refuse_overflow(result)
        assert result.atom_energies_a is not None
        n = len(centre_types_n)
        g_pc = xp.empty((len(order_p), 3))
        g_pc[xp.asarray(order_p)] = xp.asarray(-result.forces_ac[n:])
        return xp.asarray(result.atom_energies_a[:n]), g_pc


def _refuse_overflow(result: Result) -> None:
    if not (np.isfinite(result.energy) and np.isfinite(result.forces_ac).all()):
        raise RangeError(
            f"energy ({result.energy} eV) or forces are not finite: atoms in one place, or a model "
            "that overflows where it was not trained"
        )


def _python_warning(text: str) -> None:
    warnings.warn(text, stacklevel=4)


def _remade(arguments: dict[str, Any]) -> Potential:
    """What a copy or a pickle of a `Potential` calls."""
    return Potential(**arguments)
