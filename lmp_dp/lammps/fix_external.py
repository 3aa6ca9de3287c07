"""`FixExternal`: the engine behind LAMMPS's `fix external`, where pair style dp cannot be had.

The pair style needs a compiled plugin that fits the LAMMPS at hand; `fix external` with a Python
callback is in every LAMMPS library. The price: LAMMPS hands over owned atoms only, no neighbour
list, and takes forces back on owned atoms only. So ghost atoms are read through the library, lists
are made here, and ghost forces go back to their owners here (`ghost_owners`).

An exception inside of a callback would be printed and forgotten by Python, and LAMMPS would go on
with the old forces. Here all ranks learn of it, the run is told to stop, and the Python method that
ran it (`lmp.command` and its like) raises a `RunError`.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lmp_dp.engine import Neighbourhood, Outputs, Potential, Result
from lmp_dp.errors import InputError, describe
from lmp_dp.lammps import bad_atoms, type_table
from lmp_dp.lammps.banner import banner
from lmp_dp.lammps.communicator import communicator, node
from lmp_dp.lammps.ghost_lists import SKIN, GhostLists, near_a_face
from lmp_dp.lammps.ghost_owners import GhostOwners
from lmp_dp.lammps.prepared import from_first_rank
from lmp_dp.lammps.run_errors import RunError, raise_after_commands
from lmp_dp.lammps.units import units_of
from lmp_dp.lammps.virials import symmetric6
from lmp_dp.threads import threads_per_rank

if TYPE_CHECKING:
    from lammps import lammps

OLDEST_LAMMPS = 20210929  # tried; its set_virial_global takes the sum of all ranks, as today's
ERROR_ONE, ERROR_ALL = 1, 2  # LAMMPS's LMP_ERROR_ONE and LMP_ERROR_ALL

_borrowed: dict[tuple[int | None, str], FixExternal] = {}
"""Keeps the callbacks of LAMMPS instances that belong to a LAMMPS program, not to Python, alive."""


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
        A model file, a file that can be converted, or a model in memory.
    fix_id : str
        ID of the fix. If there is none, `fix ID all external pf/callback 1 1` and
        `fix_modify ID energy yes virial yes` are issued; a fix of that name must be of this form.
    elements : sequence of str
        Element of each LAMMPS type, as after `pair_coeff * *`; "NULL" for a type that the model
        does not see. Default: the model's own order.
    backend, precision, threads
        As for `lmp_dp.Potential`, but "auto" is cpu on several ranks; default of `threads` is
        OMP_NUM_THREADS, else this rank's share of the cores of its node.
    compress : bool
        As for `lmp_dp.Potential`.

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
        compress: bool = False,
    ) -> None:
        if lmp.version() < OLDEST_LAMMPS:
            raise InputError(
                f"this LAMMPS is of {lmp.version()}; fix external is usable from {OLDEST_LAMMPS} on"
            )
        if not lmp.extract_setting("box_exist"):
            raise InputError("LAMMPS has no box yet: read the data or create the box first")
        self._lmp = lmp
        self.fix_id = fix_id
        self._comm = communicator(lmp)
        try:
            self.units = units_of(
                lmp.extract_global("units"),
                lmp.extract_global("boltz"),
                lmp.extract_global("angstrom"),
            )
        except ValueError as error:
            raise InputError(str(error)) from None
        if threads is None:
            threads = threads_per_rank(*node(self._comm))
        if backend == "auto" and self._comm is not None:
            backend = "cpu"  # all ranks would take the first device
        source = from_first_rank(model, compress, self._comm)
        self.potential = Potential(source, backend, precision, threads, compress=compress)
        if self.potential.model.fitting.n_fparam or self.potential.model.fitting.n_aparam:
            raise InputError(
                f"{model} takes fparam or aparam, which only pair_style dp can give it"
            )
        types_y = type_table.model_types(
            elements, self.potential.type_map, lmp.extract_setting("ntypes")
        )
        self._map = np.concatenate([np.full(1, type_table.ABSENT, np.int32), types_y])
        self._lists: GhostLists | None = None
        self._n_builds = 0

        if not lmp.has_id("fix", fix_id):
            lmp.command(f"fix {fix_id} all external pf/callback 1 1")
            lmp.command(f"fix_modify {fix_id} energy yes virial yes")
        lmp.set_fix_external_callback(fix_id, FixExternal._callback, self)
        if lmp.opened:
            self._failures: list[RunError] = raise_after_commands(lmp, _let_go)
        else:
            key = getattr(lmp.lmp, "value", None), fix_id
            earlier = _borrowed.pop(key, None)  # of a fix that was cleared
            if earlier is not None:
                earlier.let_go()
            _borrowed[key] = self
        self._announce(model, types_y)

    def _announce(self, model: Any, types_y: NDArray[np.int32]) -> None:
        """Print the banner and the table of types on the screen and in the log file of LAMMPS."""
        lmp = self._lmp
        masses = lmp.extract_atom("mass")
        masses_y = (
            [masses[t + 1] / self.units.mass for t in range(len(types_y))] if masses else None
        )
        name = os.fspath(model) if isinstance(model, (str, os.PathLike)) else "in memory"
        models = [(name, self.potential)]
        text, doubts = banner(
            f"fix external {self.fix_id}", lmp.version(), models, "", types_y, masses_y
        )
        if doubts:
            text += f"WARNING: {doubts}\n"
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
                lists, asymmetry = GhostLists.build(
                    positions_ac, tags_a, types_a, owners, self.potential.rcut
                )
                self._lists = lists
                self._n_builds += 1
            except Exception as error:
                failure = error
        result = None
        if failure is None:
            assert lists is not None
            try:
                result = self._evaluate(lists, positions_ac, types_a)
            except (Exception, KeyboardInterrupt) as error:
                failure = error

        # energy, virial, and what all ranks must know: one message
        mine = np.zeros(10)
        mine[7] = failure is not None
        if result is not None:
            assert result.virial_cc is not None
            mine[0], mine[1:7] = result.energy, symmetric6(result.virial_cc)
        if rebuild and failure is None:
            mine[8] = asymmetry
            if n_all == n_local:
                mine[9] = near_a_face(lmp, positions_ac, self.potential.rcut, units.length)
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
        return self._hand_over(result, lists, total[:7])

    def _evaluate(
        self, lists: GhostLists, positions_ac: NDArray[Any], types_a: NDArray[Any]
    ) -> Result:
        neighbourhood = Neighbourhood(
            positions_ac=positions_ac,
            types_a=types_a,
            n_local=lists.n_local,
            centres_n=np.arange(lists.n_local, dtype=np.int32),
            offsets_n=lists.offsets_n,
            neighbours_p=lists.neighbours_p,
            build=self._n_builds,
            skin=SKIN,
        )
        outputs = Outputs(virial=True, atom_energies=True, atom_virials=True)
        result = self.potential.compute(neighbourhood, outputs)
        bad_atoms.check_result(result, neighbourhood, lists.tags_a)
        return result

    def _hand_over(self, result: Result, lists: GhostLists, total: NDArray[Any]) -> NDArray[Any]:
        """Give LAMMPS energies and virials (`total`: of all ranks); forces on local atoms."""
        lmp, units, n_local = self._lmp, self.units, lists.n_local
        assert result.atom_energies_a is not None
        assert result.atom_virials_acc is not None
        folded = lists.owners.fold(
            np.hstack([result.forces_ac, symmetric6(result.atom_virials_acc)])
        )
        lmp.fix_external_set_energy_global(self.fix_id, total[0] * units.energy)
        lmp.fix_external_set_virial_global(self.fix_id, (total[1:7] * units.energy).tolist())
        if n_local:
            energies_n = result.atom_energies_a[:n_local] * units.energy
            virials_nu = np.ascontiguousarray(folded[:, 3:] * units.energy)
            lmp.numpy.fix_external_set_energy_peratom(self.fix_id, energies_n)
            lmp.numpy.fix_external_set_virial_peratom(self.fix_id, virials_nu)
        return folded[:, :3] * units.force

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


def _let_go(lmp: lammps) -> None:
    """Have the fixes that LAMMPS no longer knows let go of their engines."""
    for fix_id, callback in list(lmp.callback.items()):
        known = lmp.lmp is not None and lmp.has_id("fix", fix_id)
        if isinstance(callback["caller"], FixExternal) and not known:
            callback["caller"].let_go()


def _array(lmp: lammps, name: str, rows: int, columns: int = 1) -> NDArray[Any]:
    """Per-atom data of LAMMPS, ghosts included; no copy."""
    if rows == 0:  # a rank without atoms has no arrays
        return np.empty((0, columns) if columns > 1 else 0, np.float64 if name == "x" else np.int32)
    return np.asarray(lmp.numpy.extract_atom(name, nelem=rows, dim=columns))
