"""Python side of pair style dp: what the C++ plugin calls.

`connect` hands the plugin a table of functions. Each of them gets the address of the `Shared` block
of one pair style, which `plugin/bridge.h` describes, finds the `PairStyle` behind it, and turns a
Python exception into a message there. `PairStyle` maps types, units and flags; nothing else.

Axes: _a atoms (local, then ghosts), _n centres, _p pairs, _c Cartesian, _t LAMMPS types.
"""

from __future__ import annotations

import atexit
import ctypes
import itertools
import math
import os
import traceback
from collections.abc import Callable, Sequence
from ctypes import c_char_p, c_double, c_int, c_int32, c_int64, c_void_p
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lmp_dp import __version__
from lmp_dp.errors import InputError, LmpDpError
from lmp_dp.lammps import bad_atoms, timing, type_table
from lmp_dp.lammps.units import Units, units_of

if TYPE_CHECKING:
    from lmp_dp.engine import Potential, Result

#: What `Watch.totals` counts, as said at the end of a run.
REPORTS = (
    "neighbours were left out because the model's sel is too small",
    "pairs were closer than the model's tables were made for",
)
CALL_OK, CALL_FAILED, CALL_INTERRUPTED = 0, 1, 2


class Shared(ctypes.Structure):
    """What the plugin and one `PairStyle` tell each other: `struct Shared` of plugin/bridge.h."""

    _fields_ = (
        ("handle", c_int64),
        ("message", c_char_p),
        ("log", c_char_p),
        ("warning", c_char_p),
        ("cutoff", c_double),
        ("lammps_version", c_char_p),
        ("unit_style", c_char_p),
        ("boltz", c_double),
        ("angstrom", c_double),
        ("masses", c_void_p),
        ("model_types", c_void_p),
        ("n_types", c_int32),
        ("local_rank", c_int32),
        ("local_size", c_int32),
        ("node_cores", c_int32),
        ("step", c_int64),
        ("n_neighbours", c_int64),
        ("x", c_void_p),
        ("f", c_void_p),
        ("types", c_void_p),
        ("tags", c_void_p),
        ("centres", c_void_p),
        ("offsets", c_void_p),
        ("neighbours", c_void_p),
        ("energies", c_void_p),
        ("virials6", c_void_p),
        ("virials9", c_void_p),
        ("energy", c_double),
        ("virial", c_double * 6),
        ("scale", c_double),
        ("box_low", c_double * 3),
        ("box", c_double * 6),
        ("periodic", c_int32 * 3),
        ("n_local", c_int32),
        ("n_all", c_int32),
        ("n_centres", c_int32),
        ("rebuilt", c_int32),
        ("want_virial", c_int32),
        ("counts", c_int64 * 2),
        ("total_counts", c_int64 * 2),
    )


_Call = ctypes.CFUNCTYPE(c_int, c_void_p)
_CallWithArguments = ctypes.CFUNCTYPE(c_int, c_void_p, c_int, ctypes.POINTER(c_char_p))


class Bridge(ctypes.Structure):
    """The functions that the plugin calls: `struct Bridge` of plugin/bridge.h."""

    _fields_ = (
        ("bridge_size", c_int64),
        ("shared_size", c_int64),
        ("settings", _CallWithArguments),
        ("coeff", _CallWithArguments),
        ("init", _Call),
        ("compute", _Call),
        ("finish", _Call),
        ("close", _Call),
    )


# ---------------------------------------------------------------------------- arrays of the plugin


class View:
    """A NumPy array on memory of the plugin, made anew only when that memory moves or resizes."""

    def __init__(self, dtype: type[np.generic], *columns: int) -> None:
        self.dtype = dtype
        self.columns = columns
        self.address: int | None = -1
        self.array: NDArray[Any] = np.empty((0, *columns), dtype)

    def at(self, address: int | None, rows: int) -> NDArray[Any]:
        """The array of `rows` rows that starts at `address`; no copy."""
        if address != self.address or rows != len(self.array):
            self.address = address
            shape = (rows, *self.columns)
            if rows == 0 or address is None:  # a rank without atoms
                self.array = np.empty((0, *self.columns), self.dtype)
            else:
                size = math.prod(shape) * np.dtype(self.dtype).itemsize
                memory = (ctypes.c_char * size).from_address(address)
                self.array = np.ndarray(shape, self.dtype, buffer=memoryview(memory))
        return self.array


# ---------------------------------------------------------------------------- pair_style dp ...


def read_arguments(words: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """The model file and the keywords of `pair_style dp`.

    Raises
    ------
    InputError
        If the model is missing, or a keyword is unknown or has no value.
    """
    usage = (
        "pair_style dp MODEL.h5 [backend auto|cpu|reference|gpu-reference] "
        "[precision float64|float32] [threads N] [sel warn|error|ignore] "
        "[table warn|error|ignore] [timing yes|no]"
    )
    if not words:
        raise InputError(f"no model file is named: write {usage}")
    path, *rest = words
    options: dict[str, Any] = {}
    while rest:
        keyword, *rest = rest
        if keyword not in ("backend", "precision", "threads", "sel", "table", "timing"):
            raise InputError(f"unknown keyword {keyword}: write {usage}")
        if not rest:
            raise InputError(f"keyword {keyword} has no value: write {usage}")
        value, *rest = rest
        if keyword == "threads" and not (value.isdecimal() and int(value) > 0):
            raise InputError(f"threads {value} is not a positive whole number")
        if keyword == "timing" and value not in ("yes", "no"):
            raise InputError(f"timing {value} is unknown: write timing yes or timing no")
        options[keyword] = int(value) if keyword == "threads" else value
    return path, options


def threads_per_rank(local_size: int, node_cores: int) -> int:
    """Threads of one rank: OMP_NUM_THREADS, or a share of the cores that the node's ranks may use.

    `node_cores` counts the distinct cores of all `local_size` ranks of the node, so that the answer
    is right both where each rank is bound to its own cores and where all share the same ones.
    """
    wanted = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if wanted.isdecimal() and int(wanted) > 0:
        return int(wanted)
    own = len(os.sched_getaffinity(0))
    return max(1, min(own, node_cores // max(1, local_size)))


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

        self.path, options = read_arguments(words)
        options.setdefault("threads", threads_per_rank(shared.local_size, shared.node_cores))
        self.shared = shared
        self._timing = options.pop("timing", "no") == "yes"
        self._wall, self._atom_steps = 0.0, 0
        self.potential: Potential = Potential(self.path, **options)
        self.potential.on_warning = lambda text: self.say(None, f"pair_style dp: {text}")
        self.potential.warm_up()  # compiled kernels before the first step, not in it
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

    def coeff(self, names: Sequence[str]) -> None:
        """`pair_coeff * * names`: map LAMMPS types to model types."""
        shared = self.shared
        types_t = type_table.model_types(names, self.potential.type_map, shared.n_types)
        self.types_t = types_t
        self._map = np.concatenate([np.full(1, type_table.ABSENT, np.int32), types_t])
        View(np.int32).at(shared.model_types, shared.n_types + 1)[:] = self._map
        self._table_shown = False

    def init(self) -> None:
        """Before each run: units, and once per mapping the banner and the table of types."""
        shared = self.shared
        style = shared.unit_style.decode()
        try:
            self.units = units_of(style, shared.boltz, shared.angstrom)
        except ValueError as error:
            raise InputError(str(error)) from None
        shared.cutoff = self.potential.rcut * self.units.length
        if self.types_t is None:
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
            + f"\n  model {self.path}, cutoff {potential.rcut:g} A\n"
            + type_table.table(types_t, potential.type_map, masses_t)
        )
        warning = None
        if masses_t is not None:
            warning = type_table.doubtful_masses(types_t, potential.type_map, masses_t)
        self.say(log, f"pair_style dp: {warning}" if warning else None)

    def say(self, log: str | None, warning: str | None = None) -> None:
        """Leave text for LAMMPS's screen and log file, and for its warnings."""
        # ctypes keeps the bytes alive through `shared` until the fields are set again
        self.shared.log = log.encode() if log else None
        self.shared.warning = warning.encode() if warning else None

    def compute(self) -> None:
        """One step: call the engine on LAMMPS's arrays, and add what it gives."""
        start = perf_counter()
        shared, units = self.shared, self.units
        assert units is not None  # init() ran
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

        neighbourhood = self._neighbourhood(
            positions_ac=positions_ac,
            types_a=types_a,
            n_local=shared.n_local,
            centres_n=self._centres.at(shared.centres, n_centres),
            offsets_n=self._offsets.at(shared.offsets, n_centres + 1),
            neighbours_p=self._neighbours.at(shared.neighbours, shared.n_neighbours),
            build=self._build,
        )
        result = self.potential.compute(
            neighbourhood,
            self._outputs(
                virial=bool(shared.want_virial), atom_energies=energies, atom_virials=atom_virials
            ),
        )
        bad_atoms.check_result(result, neighbourhood, tags_a)
        self._add(result, units)
        shared.counts[:] = list(self.potential.watch.totals.values())
        self._wall += perf_counter() - start
        self._atom_steps += n_centres

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
            for count, text in zip(self.shared.total_counts, REPORTS, strict=True)
            if count
        ]
        if self._timing:
            seconds = self.potential.seconds
            lines.append(
                timing.table(seconds, self._wall, self.potential.threads, self._atom_steps)
            )
            seconds.update(dict.fromkeys(seconds, 0.0))
            self._wall, self._atom_steps = 0.0, 0
        self.say("".join(lines) or None)

    def close(self) -> None:
        """The pair style is gone; an engine that holds a device lets go of it."""
        close = getattr(self.potential, "close", None)
        if close is not None:
            close()


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
        if os.environ.get("LMP_DP_TRACEBACK"):
            text = "".join(traceback.format_exception(error))
        elif isinstance(error, LmpDpError):
            text = str(error)
        else:  # not raised on purpose
            hint = "LMP_DP_TRACEBACK=1 in the environment shows where"
            text = f"{type(error).__name__}: {error} ({hint})"
        _last_message = text.encode(errors="replace")
        shared.message = _last_message
        return CALL_FAILED
    return CALL_OK


def _words(count: int, words: Any) -> list[str]:
    return [os.fsdecode(words[number]) for number in range(count)]


def _settings(address: int, count: int, words: Any) -> int:
    shared = Shared.from_address(address)

    def action() -> None:
        style = PairStyle(shared, _words(count, words))
        shared.handle = shared.handle or next(_handles)
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
    bridge.settings, bridge.coeff = _CallWithArguments(_settings), _CallWithArguments(_coeff)
    bridge.init, bridge.compute = _Call(_init), _Call(_compute)
    bridge.finish, bridge.close = _Call(_finish), _Call(_close)
    # A LAMMPS that is never closed may outlive Python's modules, and then ask to be closed.
    atexit.register(_disconnect, bridge)


def _disconnect(bridge: Bridge) -> None:
    for name, function in Bridge._fields_[2:]:
        setattr(bridge, name, function())
