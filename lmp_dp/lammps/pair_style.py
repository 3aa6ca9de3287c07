"""Python side of pair style dp: what the C++ plugin calls.

`connect` hands the plugin a table of functions. Each of them gets the address of the `Shared` block
of one pair style, which `bridge` describes, finds the `PairStyle` behind it, and turns a
Python exception into a message there. `PairStyle` maps types, units and flags; nothing else.

Axes: _a atoms (local, then ghosts), _n centres, _p pairs, _c Cartesian, _t LAMMPS types.
"""

from __future__ import annotations

import atexit
import ctypes
import itertools
import os
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lmp_dp import __version__
from lmp_dp.errors import InputError, LmpDpError, describe
from lmp_dp.lammps import bad_atoms, model_parameters, timing, type_table
from lmp_dp.lammps.arguments import read_arguments
from lmp_dp.lammps.bridge import (
    CALL_FAILED,
    CALL_INTERRUPTED,
    CALL_OK,
    Bridge,
    Call,
    CallWithArguments,
    Shared,
    View,
)
from lmp_dp.lammps.model_deviation import DeviationFile, force_deviation, virial_deviation
from lmp_dp.lammps.units import Units, units_of
from lmp_dp.text import printable
from lmp_dp.threads import omp_num_threads

if TYPE_CHECKING:
    from lmp_dp.engine import Neighbourhood, Potential, Result

#: What `Watch.totals` counts, as said at the end of a run.
REPORTS = (
    "neighbours were left out because the model's sel is too small",
    "pairs were closer than the model's tables were made for",
)


def threads_per_rank(local_size: int, node_cores: int) -> int:
    """Threads of one rank: OMP_NUM_THREADS, or a share of the cores that the node's ranks may use.

    `node_cores` counts the distinct cores of all `local_size` ranks of the node, so that the answer
    is right both where each rank is bound to its own cores and where all share the same ones.
    """
    own = len(os.sched_getaffinity(0))
    return omp_num_threads() or max(1, min(own, node_cores // max(1, local_size)))


class PairStyle:
    """One `pair_style dp` of one LAMMPS instance.

    Parameters
    ----------
    shared : Shared
        The block of the plugin, which outlives this object.
    words : sequence of str
        Arguments of the `pair_style` command.

    Raises
    ------
    LmpDpError
        If the model cannot be loaded, or not for the backend asked for.
    """

    def __init__(self, shared: Shared, words: Sequence[str]) -> None:
        # heavy: not before a model is used
        from lmp_dp.engine import Neighbourhood, Outputs, Potential

        self.arguments = read_arguments(words)
        options = self.arguments.engine
        options.setdefault("threads", threads_per_rank(shared.local_size, shared.node_cores))
        self.shared = shared
        self._wall, self._atom_steps = 0.0, 0
        if options.get("backend") == "gpu":
            self._choose_device(options)
        self.potentials: list[Potential] = []
        for path in self.arguments.models:
            potential = Potential(path, **options)
            potential.on_warning = None  # see `warn`
            potential.warm_up()  # compiled kernels before the first step, not in it
            self.potentials.append(potential)
        self.potential = self.potentials[0]
        shared.builds_lists = self.potential.builds_lists
        self._orders = [self._order(other) for other in self.potentials]
        self._neighbourhood = Neighbourhood
        self._outputs = Outputs
        self.units: Units | None = None
        self.types_t: NDArray[np.int32] | None = None
        self._table_shown = False

        # Model type per LAMMPS type with an entry in front, since LAMMPS counts types from 1.
        self._map = np.full(1, type_table.ABSENT, np.int32)
        self._types_a = np.empty(0, np.int32)
        self._build = 0
        self._positions_ac = np.empty((0, 3))
        self._x, self._f = View(np.float64, 3), View(np.float64, 3)
        self._lammps_types, self._tags = View(np.int32), View(np.int32)
        self._centres, self._neighbours = View(np.int32), View(np.int32)
        self._offsets = View(np.int64)
        self._energies = View(np.float64)
        self._virials6, self._virials9 = View(np.float64, 6), View(np.float64, 9)

        self._tell_where_parameters_come_from()

        n_models = shared.n_models = len(self.potentials)
        self._counts_mw = np.zeros((n_models, 2), np.int64)  # _w: what `Watch` counts
        shared.counts = self._counts_mw.ctypes.data
        shared.watching = not self._silent

        # Model deviation: buffers that the plugin sees, and the file last, when all else is fine.
        self._model_forces_amc = np.empty((1, n_models, 3))
        self._model_virials_mk = np.empty((n_models, 9))
        self._deviations_n = np.empty(0)
        self._file: DeviationFile | None = None
        if n_models > 1 and self.arguments.out_freq and shared.rank == 0:
            self._file = DeviationFile(
                self.arguments.out_file, bool(shared.restarted), self.arguments.atomic
            )

    def _choose_device(self, options: dict[str, Any]) -> None:
        """Ranks of a node take its devices in turn; none makes a context on another's."""
        from lmp_dp.engine import cuda_device

        shared, count = self.shared, cuda_device.device_count()
        index = options["device"] = shared.local_rank % count
        name = cuda_device.device_name(index)
        shared.device = f"{os.uname().nodename} -> GPU {index} ({name})".encode()
        if shared.local_size > count:
            self.say(
                None,
                f"pair_style dp: {shared.local_size} ranks of {os.uname().nodename} share {count} "
                "GPU(s): one rank per GPU is faster",
            )

    def _order(self, other: Potential) -> NDArray[np.int32]:
        """Types of another model by those of the first; the last one stands for type -1."""
        mine, theirs = self.potential.type_map, other.type_map
        if set(mine) != set(theirs):
            paths = self.arguments.models
            raise InputError(
                f"the models must have the same elements (in any order), but {paths[0]} has "
                f"{' '.join(mine)} and {paths[self.potentials.index(other)]} has {' '.join(theirs)}"
            )
        return np.array([*(theirs.index(name) for name in mine), type_table.ABSENT], np.int32)

    def _tell_where_parameters_come_from(self) -> None:
        """Check fparam and aparam, and name to the plugin what it is to fetch."""
        shared, arguments = self.shared, self.arguments
        counts = [
            (potential.model.fitting.n_fparam, potential.model.fitting.n_aparam)
            for potential in self.potentials
        ]
        if len(set(counts)) > 1:
            raise InputError(f"the models differ in their numbers of fparam and aparam: {counts}")
        shared.n_fparam, shared.n_aparam = counts[0]
        model_parameters.check(arguments, *counts[0])
        shared.fparam_compute = arguments.fparam_from_compute.encode() or None
        shared.fparam_fix = arguments.fparam_from_fix.encode() or None
        shared.fparam_index = arguments.fparam_index
        shared.aparam_compute = arguments.aparam_from_compute.encode() or None
        shared.ttm_fix = arguments.ttm.encode() or None

    def _add_parameters(self, neighbourhood: Neighbourhood) -> None:
        """This step's fparam and aparam, where the models take any."""
        shared, n_local = self.shared, self.shared.n_local
        n_fparam, n_aparam = shared.n_fparam, shared.n_aparam
        grid = None
        if shared.ttm:
            values = View(np.float64).at(shared.ttm, shared.n_ttm)
            grid = model_parameters.ElectronTemperatures(values)
        if n_fparam:
            if self.arguments.fparam:
                neighbourhood.fparam_f = np.array(self.arguments.fparam)
            elif shared.fparam:
                neighbourhood.fparam_f = View(np.float64).at(shared.fparam, n_fparam)
            else:
                assert grid is not None
                neighbourhood.fparam_f = np.array([grid.mean()])
        if n_aparam:
            if self.arguments.aparam:
                neighbourhood.aparam_af = np.tile(self.arguments.aparam, (n_local, 1))
            elif self.arguments.aparam_from_compute:
                neighbourhood.aparam_af = View(np.float64, n_aparam).at(shared.aparam, n_local)
            else:
                assert grid is not None
                in_group = View(np.int32).at(shared.groups, n_local) & shared.ttm_group
                x_nc = self._x.array[:n_local]
                fractions_nc = (x_nc - np.array(shared.box_low)) / np.array(shared.box[:3])
                temperatures_n = np.where(in_group, grid.at(fractions_nc), 0.0)
                neighbourhood.aparam_af = temperatures_n[:, None]

    def coeff(self, names: Sequence[str]) -> None:
        """`pair_coeff * * names`: map LAMMPS types to model types; the units are known now."""
        shared = self.shared
        try:
            units = units_of(shared.unit_style.decode(), shared.boltz, shared.angstrom)
        except ValueError as error:
            raise InputError(str(error)) from None
        self.units = units
        shared.cutoff = max(potential.rcut for potential in self.potentials) * units.length

        type_map = self.potential.type_map
        names, warning = type_table.complete(names, type_map, shared.n_types)
        if warning:
            self.say(None, f"pair_style dp: {warning}")
        types_t = type_table.model_types(names, type_map, shared.n_types)
        self.types_t = types_t
        self._map = np.concatenate([np.full(1, type_table.ABSENT, np.int32), types_t])
        View(np.int32).at(shared.model_types, shared.n_types + 1)[:] = self._map
        self._table_shown = False

    def init(self) -> None:
        """Before each run: once per mapping the banner and the table of types."""
        if self.types_t is None or self.units is None:
            raise InputError("pair_coeff is missing: write pair_coeff * * and the elements")
        if not self._table_shown:
            self._show_table(self.types_t, self.units)
            self._table_shown = True

    def _show_table(self, types_t: NDArray[np.int32], units: Units) -> None:
        shared, potential = self.shared, self.potential
        masses_t = None
        if shared.masses:
            masses_t = View(np.float64).at(shared.masses, shared.n_types + 1)[1:] / units.mass
        threads = getattr(potential, "threads", None)
        log = (
            f"pair_style dp: lmp_dp {__version__}, LAMMPS {shared.lammps_version.decode()}, "
            f"backend {potential.backend}, precision {potential.precision}"
            + (f", threads per rank {threads}" if threads else "")
            + "".join(
                f"\n  model {printable(path)}, cutoff {model.rcut:g} A"
                for path, model in zip(self.arguments.models, self.potentials, strict=True)
            )
            + f"\n{self._plan()}"
            + type_table.table(types_t, potential.type_map, masses_t)
        )
        warning = None
        if masses_t is not None:
            warning = type_table.doubtful_masses(types_t, potential.type_map, masses_t)
        self.say(log, f"pair_style dp: {warning}" if warning else None)

    def _plan(self) -> str:
        """What is done with several models."""
        every, file = self.arguments.out_freq, printable(self.arguments.out_file)
        if len(self.potentials) == 1:
            return ""
        if not every:
            return "  the first model drives the atoms, the others are not evaluated (out_freq 0)\n"
        return (
            f"  the first model drives the atoms, model deviation every {every} steps in {file}\n"
        )

    def say(self, log: str | None, warning: str | None = None) -> None:
        """Leave text for LAMMPS's screen and log file, and for its warnings."""
        # ctypes keeps the bytes alive through `shared` until the fields are set again
        self.shared.log = log.encode(errors="backslashreplace") if log else None
        self.shared.warning = printable(warning).encode() if warning else None

    @property
    def _silent(self) -> bool:
        return all(potential.watch.silent for potential in self.potentials)

    def count(self) -> None:
        """What the models could not represent on this rank, for the plugin to add up."""
        self._counts_mw[:] = [list(model.watch.totals.values()) for model in self.potentials]

    def warn(self) -> None:
        """Leave a warning about what any rank has met for the first time."""
        self.say(None, self._news())

    def _news(self) -> str | None:
        """The warning; counts are those of all ranks, so all of them know what has been said."""
        texts = []
        for path, potential, totals_w in zip(
            self.arguments.models, self.potentials, self._counts_mw.tolist(), strict=True
        ):
            if text := potential.watch.warning(totals_w):
                texts.append(text if len(self.potentials) == 1 else f"{path}: {text}")
        self.shared.watching = not self._silent
        step = self.shared.step
        return f"pair_style dp: {'; '.join(texts)} (up to step {step})" if texts else None

    def compute(self) -> None:
        """One step: call the engine on LAMMPS's arrays, and add what it gives."""
        start = perf_counter()
        shared, units = self.shared, self.units
        assert units is not None  # coeff() ran
        n_all, n_centres = shared.n_all, shared.n_centres
        energies = shared.energies is not None
        atom_virials = shared.virials6 is not None or shared.virials9 is not None

        x_ac = self._x.at(shared.x, n_all)
        if units.length == 1.0:
            positions_ac = x_ac
        else:
            if len(self._positions_ac) != n_all:
                self._positions_ac = np.empty((n_all, 3))
            positions_ac = np.multiply(x_ac, 1.0 / units.length, out=self._positions_ac)

        tags_a = self._tags.at(shared.tags, n_all)
        bad_atoms.check_positions(positions_ac, tags_a)

        # Types may change without a new neighbour list; what the engine derived from them must go.
        types_a = np.take(self._map, self._lammps_types.at(shared.types, n_all))
        if shared.rebuilt or not np.array_equal(types_a, self._types_a):
            self._build += 1
        self._types_a = types_a

        lists: tuple[Any, Any, Any] = (None, None, None)
        if not shared.builds_lists:
            lists = (
                self._centres.at(shared.centres, n_centres),
                self._offsets.at(shared.offsets, n_centres + 1),
                self._neighbours.at(shared.neighbours, shared.n_neighbours),
            )
        neighbourhood = self._neighbourhood(
            positions_ac,
            types_a,
            shared.n_local,
            *lists,
            build=self._build,
            skin=shared.skin / units.length,
        )
        self._add_parameters(neighbourhood)
        every = self.arguments.out_freq
        deviate = len(self.potentials) > 1 and every > 0 and shared.step % every == 0
        result = self.potential.compute(
            neighbourhood,
            self._outputs(
                virial=deviate or bool(shared.want_virial),
                atom_energies=energies,
                atom_virials=atom_virials,
            ),
        )
        bad_atoms.check_result(result, neighbourhood, tags_a)
        if result.warning:
            self.say(None, f"pair_style dp: {result.warning}")
        self._add(result, units)
        shared.model_forces = None
        if deviate:
            self._evaluate_all(neighbourhood, result)
        self._wall += perf_counter() - start
        self._atom_steps += shared.n_local

    def _evaluate_all(self, neighbourhood: Neighbourhood, first: Result) -> None:
        """Leave forces and virials of all models for the plugin; the first is evaluated already."""
        shared, n_all = self.shared, self.shared.n_all
        if len(self._model_forces_amc) < n_all:
            self._model_forces_amc = np.empty((n_all + n_all // 8, len(self.potentials), 3))
        results = [first]
        types_a = neighbourhood.types_a
        for potential, order in zip(self.potentials[1:], self._orders[1:], strict=True):
            neighbourhood.types_a = order[types_a]
            results.append(potential.compute(neighbourhood, self._outputs(virial=True)))
        for number, result in enumerate(results):
            assert result.virial_cc is not None
            self._model_forces_amc[:n_all, number] = result.forces_ac
            self._model_virials_mk[number] = result.virial_cc.ravel()
        shared.model_forces = self._model_forces_amc.ctypes.data
        shared.model_virials = self._model_virials_mk.ctypes.data

    def deviate(self) -> None:
        """Deviation of the forces on this rank's atoms, which are complete now."""
        shared, units = self.shared, self.units
        assert units is not None  # coeff() ran
        level = self.arguments.relative
        self._deviations_n = force_deviation(
            self._model_forces_amc[: shared.n_local],
            None if level is None else level / units.energy,
        )
        shared.deviations = self._deviations_n.ctypes.data

    def record(self) -> None:
        """A row of the file, on the first rank, from what the plugin has gathered."""
        shared, units = self.shared, self.units
        assert units is not None
        assert self._file is not None
        level, n_atoms = self.arguments.relative_v, shared.n_atoms
        virial_k = virial_deviation(
            self._model_virials_mk, n_atoms, None if level is None else level / units.energy
        )
        # As in pair style deepmd, relative deviations get the factors of the units as well.
        self._file.write(
            shared.step,
            virial_k * units.energy,
            View(np.float64).at(shared.all_deviations, n_atoms) * units.force,
            View(np.int32).at(shared.all_tags, n_atoms) if shared.all_tags else None,
        )

    def _add(self, result: Result, units: Units) -> None:
        """Add a result to LAMMPS's arrays, in LAMMPS's units."""
        shared, n_all = self.shared, self.shared.n_all
        energy = units.energy * shared.scale
        force = units.force * shared.scale

        f_ac = self._f.at(shared.f, n_all)
        forces_ac = result.forces_ac if force == 1.0 else result.forces_ac * force
        np.add(f_ac, forces_ac, out=f_ac)
        shared.energy = result.energy * energy
        if shared.want_virial:
            assert result.virial_cc is not None
            shared.virial[:] = (_symmetric6(result.virial_cc[None])[0] * energy).tolist()

        if shared.energies is not None:
            energies_a = self._energies.at(shared.energies, n_all)
            energies_a += result.atom_energies_a * energy
        virials_acc = result.atom_virials_acc
        if virials_acc is not None:
            if shared.virials6 is not None:
                virials6_a = self._virials6.at(shared.virials6, n_all)
                virials6_a += _symmetric6(virials_acc) * energy
            if shared.virials9 is not None:
                virials9_a = self._virials9.at(shared.virials9, n_all)
                virials9_a += _all9(virials_acc) * energy

    def finish(self) -> None:
        """After each run: totals of what the model could not represent, and the times."""
        lines = [
            f"pair_style dp: in total {count} {text}\n"
            for count, text in zip(self._counts_mw.sum(axis=0).tolist(), REPORTS, strict=True)
            if count
        ]
        if self.potential.memory:
            lines.append(f"pair_style dp: {self.potential.memory}\n")
        if self.arguments.timing:
            seconds = dict.fromkeys(self.potential.seconds, 0.0)
            for potential in self.potentials:
                for stage in seconds:
                    seconds[stage] += potential.seconds[stage]
                    potential.seconds[stage] = 0.0
            lines.append(
                timing.table(seconds, self._wall, self.potential.threads, self._atom_steps)
            )
            self._wall, self._atom_steps = 0.0, 0
        self.say("".join(lines) or None, self._news())

    def close(self) -> None:
        """The pair style is gone; engines end their threads and let go of a device."""
        if self._file is not None:
            self._file.close()
        for potential in self.potentials:
            potential.close()


def _symmetric6(virials_acc: NDArray[Any]) -> NDArray[Any]:
    """xx yy zz xy xz yz of (n, 3, 3) virials, symmetrised."""
    w = virials_acc
    return np.stack(
        [
            w[:, 0, 0],
            w[:, 1, 1],
            w[:, 2, 2],
            0.5 * (w[:, 0, 1] + w[:, 1, 0]),
            0.5 * (w[:, 0, 2] + w[:, 2, 0]),
            0.5 * (w[:, 1, 2] + w[:, 2, 1]),
        ],
        axis=1,
    )


# LAMMPS's centroid virial is r_a f_b in the order xx yy zz xy xz yz yx zx zy; ours is [f, r].
_CENTROID = [0, 4, 8, 3, 6, 7, 1, 2, 5]


def _all9(virials_acc: NDArray[Any]) -> NDArray[Any]:
    """Xx yy zz xy xz yz yx zx zy (component of r, then of f) of (n, 3, 3) virials [force, r]."""
    return virials_acc.reshape(-1, 9)[:, _CENTROID]


# ---------------------------------------------------------------------------- the calls

_styles: dict[int, PairStyle] = {}
_handles = itertools.count(1)
_last_message = b""  # the plugin holds a pointer to it


def _guarded(shared: Shared, action: Callable[[], None]) -> int:
    """Run `action`; an exception must not leave Python here, since C++ is above."""
    global _last_message
    try:
        action()
    except KeyboardInterrupt:
        return CALL_INTERRUPTED  # the plugin ends the run and has Python raise it again after that
    except BaseException as error:
        _last_message = describe(error).encode(errors="replace")
        shared.message = _last_message
        return CALL_FAILED
    return CALL_OK


def _words(count: int, words: Any) -> list[str]:
    return [os.fsdecode(words[number]) for number in range(count)]


def _settings(address: int, count: int, words: Any) -> int:
    shared = Shared.from_address(address)

    def action() -> None:
        # The old one first: it may hold the same file, and must not be used if this one fails.
        previous = _styles.pop(shared.handle, None)
        shared.handle = 0
        if previous is not None:
            previous.close()
        style = PairStyle(shared, _words(count, words))
        shared.handle = next(_handles)
        _styles[shared.handle] = style

    return _guarded(shared, action)


def _coeff(address: int, count: int, words: Any) -> int:
    shared = Shared.from_address(address)
    return _guarded(shared, lambda: _styles[shared.handle].coeff(_words(count, words)))


def _init(address: int) -> int:
    shared = Shared.from_address(address)
    return _guarded(shared, lambda: _styles[shared.handle].init())


def _compute(address: int) -> int:
    shared = Shared.from_address(address)
    return _guarded(shared, lambda: _styles[shared.handle].compute())


def _deviate(address: int) -> int:
    shared = Shared.from_address(address)
    return _guarded(shared, lambda: _styles[shared.handle].deviate())


def _record(address: int) -> int:
    shared = Shared.from_address(address)
    return _guarded(shared, lambda: _styles[shared.handle].record())


def _count(address: int) -> int:
    shared = Shared.from_address(address)
    return _guarded(shared, lambda: _styles[shared.handle].count())


def _warn(address: int) -> int:
    shared = Shared.from_address(address)
    return _guarded(shared, lambda: _styles[shared.handle].warn())


def _finish(address: int) -> int:
    shared = Shared.from_address(address)
    return _guarded(shared, lambda: _styles[shared.handle].finish())


def _close(address: int) -> int:
    shared = Shared.from_address(address)
    return _guarded(shared, lambda: _styles.pop(shared.handle).close())


def connect(address: int) -> None:
    """Fill the plugin's table of functions; called by the plugin, once per process.

    Parameters
    ----------
    address : int
        Address of the plugin's `struct Bridge`.

    Raises
    ------
    LmpDpError
        If the plugin was compiled from other sources than this module belongs to.
    """
    bridge = Bridge.from_address(address)
    sizes = (bridge.bridge_size, bridge.shared_size)
    expected = (ctypes.sizeof(Bridge), ctypes.sizeof(Shared))
    if sizes != expected:
        raise LmpDpError(
            f"the compiled plugin and {__file__} belong to different versions of lmp_dp (their "
            f"common structures have {sizes} and {expected} bytes): install lmp-dp again"
        )
    bridge.settings, bridge.coeff = CallWithArguments(_settings), CallWithArguments(_coeff)
    bridge.init, bridge.compute = Call(_init), Call(_compute)
    bridge.deviate, bridge.record = Call(_deviate), Call(_record)
    bridge.count, bridge.warn = Call(_count), Call(_warn)
    bridge.finish, bridge.close = Call(_finish), Call(_close)
    # A LAMMPS that is never closed may outlive Python's modules, and then ask to be closed.
    atexit.register(_disconnect, bridge)


def _disconnect(bridge: Bridge) -> None:
    for name, function in Bridge._fields_[2:]:
        setattr(bridge, name, function())
