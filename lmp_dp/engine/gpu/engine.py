"""`GpuEngine`: a step of chunks on a device.

Positions go up and forces come down once per step; neighbour lists are built on the device when
LAMMPS builds its own. One chunk of centres is under way at a time, in memory that is reused.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any, NamedTuple

import numpy as np

from lmp_dp.engine import parameters
from lmp_dp.engine.forms import Element, Moment
from lmp_dp.engine.gpu import kernels, lists
from lmp_dp.engine.gpu.chunk import ChunkArrays, StepArrays
from lmp_dp.engine.gpu.device import CaptureRefused
from lmp_dp.engine.gpu.fitting import FittingStage
from lmp_dp.engine.gpu.lists import DeviceLists
from lmp_dp.engine.gpu.moment import MomentStage
from lmp_dp.engine.gpu.room import MomentRoom, Room, nbytes
from lmp_dp.engine.lowering import lower
from lmp_dp.engine.neighbourhood import Array, Neighbourhood, Outputs, Result
from lmp_dp.errors import BackendError
from lmp_dp.model.deep_potential import DeepPotential

#: Memory for one chunk of centres: some ten thousand atoms, enough to fill the largest devices.
CHUNK_BYTES = 2 * 2**30
#: Up to so many centres the launches of a step take longer than the kernels: they are recorded once
#: per neighbour list (CUDA graph). A guess, until it is measured.
GRAPH_CENTRES = 4096
#: Bytes per slot that stay from step to step: neighbour, centre, reverse list, gradient.
_KEPT_PER_SLOT = 4 + 4 + 8 + 24


class _Stages(NamedTuple):
    """The stages of centres of one element."""

    forms: list[MomentStage]
    fitting: FittingStage

    def bytes_per_centre(self, slots: int) -> int:
        """Working memory of one centre with `slots` neighbours."""
        of_forms = sum(stage.form.bytes_per_centre(slots) for stage in self.forms)
        return of_forms + self.fitting.net.bytes_per_centre


class GpuEngine:
    """Evaluates a model on one device, one evaluation at a time.

    Parameters
    ----------
    model : DeepPotential
    device
        `lmp_dp.engine.gpu.device.CudaDevice`, or something with its methods.

    Raises
    ------
    BackendError
        The model is lowered to something that the device cannot evaluate.
    """

    #: Neighbour lists of the caller are not needed.
    builds_lists = True

    def __init__(self, model: DeepPotential, device: Any) -> None:
        self.seconds: dict[str, float] = {}
        self.device = device
        self._fitting = model.fitting
        self._rcut = model.rcut
        elements = [lower(model, t) for t in range(len(model.type_map))]
        others = {type(form).__name__ for element in elements for form in element.forms}
        if others := others - {Moment.__name__}:
            raise BackendError(
                f"backend gpu cannot evaluate descriptor {model.descriptor.kind}, for which there "
                f"are no kernels (form {' and '.join(sorted(others))}): use backend cpu"
            )
        if model.pair_table is not None:
            raise BackendError("backend gpu cannot evaluate a pair table: use backend cpu")
        #: Left out of the lists: what no form of an element sees.
        self._excluded_tt = np.array(
            [
                np.all([form.selection.excluded_t for form in element.forms], axis=0)
                for element in elements
            ]
        )
        self._n_slots = max(form.selection.n_slots for form in elements[0].forms)
        compiled = {
            dtype: device.compile(REAL=kernels.real(dtype))
            for dtype in {model.descriptor.dtype, model.fitting.dtype}
        }
        self._kernels = compiled[model.descriptor.dtype]
        self._stages = [_stages(device, element, compiled) for element in elements]
        self._lists: DeviceLists | None = None
        self._build = self._longest = 0
        #: Steps since the lists were built, and from the second one on (small systems) a recording.
        self._steps = 0
        self._replay: Callable[[], None] | None = None
        #: Casts allocate, and a refusal stays.
        self._recordable = model.descriptor.dtype == model.fitting.dtype and all(
            stages.fitting.net.layers for stages in self._stages
        )
        self._chunk_bytes = CHUNK_BYTES
        self._room = Room()
        self._lock = Lock()  # one evaluation at a time

    def compute(self, nb: Neighbourhood, outputs: Outputs) -> Result:
        """Energy, forces and what `outputs` asks for.

        Raises
        ------
        BackendError
            The device's memory does not suffice even for small chunks.
        """
        with self._lock:
            return self._compute_in_memory(nb, outputs)

    def close(self) -> None:
        """Give the device's memory back; another evaluation takes it again."""
        with self._lock:
            self._let_go()

    def _let_go(self) -> None:
        self._lists = self._replay = None
        self._room = Room()
        self.device.release()

    def _compute_in_memory(self, nb: Neighbourhood, outputs: Outputs) -> Result:
        """With smaller chunks where the device's memory does not suffice."""
        while True:
            try:
                return self._compute(nb, outputs)
            except self.device.out_of_memory as error:
                self._let_go()
                if self._chunk_bytes < 2**20:
                    raise self._does_not_fit(nb) from error
                self._chunk_bytes //= 2

    def memory(self) -> str:
        """What the engine holds on the device, in words."""
        found = self._lists
        if found is None or not len(found.members_n):
            return ""
        gradients = self._room.step.gradients_pc.nbytes
        working = nbytes(self._room) - gradients
        return (
            f"{self.device.name} holds {(found.nbytes + gradients) // len(found.members_n)} bytes "
            f"per atom in lists and gradients, and {working / 2**20:.0f} MiB for chunks of up to "
            f"{max(chunk.n for chunk in found.chunks)} atoms"
        )

    def _does_not_fit(self, nb: Neighbourhood) -> BackendError:
        slots = self._longest or self._n_slots
        per_atom = slots * _KEPT_PER_SLOT + 200
        free = self.device.free_bytes()
        return BackendError(
            f"{len(nb.types_a)} atoms and ghosts do not fit on {self.device.name}: an atom takes "
            f"about {per_atom} bytes, {free // 2**20} MiB are free, so that about "
            f"{free // per_atom} atoms fit; use more devices, or a smaller skin"
        )

    def _compute(self, nb: Neighbourhood, outputs: Outputs) -> Result:
        device, xp = self.device, self.device.xp
        n_all = len(nb.positions_ac)
        uploaded_ac = device.upload(nb.positions_ac)
        if self._lists is None or nb.build == 0 or nb.build != self._build:
            self._lists = self._replay = None  # their memory may be used for the new ones
            self._lists = self._build_lists(uploaded_ac, nb)
            self._build, self._steps = nb.build, 0
        found, arrays = self._lists, self._arrays(n_all, self._lists)
        arrays.positions_ac[...] = uploaded_ac
        parameters_af = parameters.of_atoms(self._fitting, nb)
        self._steps += 1
        warning = ""
        if parameters_af.shape[1]:
            self._step(found, arrays, device.upload(parameters_af))
        else:
            small = len(found.members_n) <= GRAPH_CENTRES
            if self._replay is None and self._recordable and small and self._steps > 1:
                warning = self._record(found, arrays)
            if self._replay is None:
                self._step(found, arrays, None)
            else:
                self._replay()
        energies_a = arrays.energies_a
        self._subtract_vacuum(found, parameters_af, energies_a)
        atom_virials_acc = None
        if outputs.atom_virials:
            atom_virials_acc = device.download(self._virials_of_atoms(found, arrays))
        # one copy for all that is small
        virial_cc, totals = arrays.virials_ncc.sum(axis=0), arrays.totals.astype(xp.float64)
        sums = device.download(xp.concatenate([energies_a.sum()[None], virial_cc.ravel(), totals]))
        return Result(
            energy=float(sums[0]),
            forces_ac=device.download(arrays.forces_ac),
            virial_cc=sums[1:10].reshape(3, 3) if outputs.virial else None,
            atom_energies_a=device.download(energies_a) if outputs.atom_energies else None,
            atom_virials_acc=atom_virials_acc,
            dropped=int(sums[10]),
            beyond_table=int(sums[11]),
            warning=warning,
        )

    def _record(self, found: DeviceLists, arrays: StepArrays) -> str:
        """Record a step for later ones; if that cannot be, it is not tried again: a warning."""
        try:
            self._replay = self.device.record(lambda: self._step(found, arrays, None))
        except CaptureRefused as refusal:
            self._recordable = False
            return f"steps are not recorded in a CUDA graph, small systems are slower: {refusal}"
        return ""

    def _arrays(self, n_all: int, found: DeviceLists) -> StepArrays:
        """At the same places on every step, so that a recorded one can be replayed."""
        xp, of = self.device.xp, self._room.step
        return StepArrays(
            positions_ac=of.positions_ac.take(xp, (n_all, 3), np.float64),
            forces_ac=of.forces_ac.take(xp, (n_all, 3), np.float64),
            energies_a=of.energies_a.take(xp, (n_all,), np.float64),
            virials_ncc=of.virials_ncc.take(xp, (len(found.members_n), 3, 3), np.float64),
            gradients_pc=of.gradients_pc.take(xp, (len(found.neighbours_p), 3), np.float64),
            totals=of.totals.take(xp, (2,), np.uint64),
        )

    def _step(self, found: DeviceLists, arrays: StepArrays, parameters_af: Array | None) -> None:
        """Energies, forces and virials of the centres; on the device alone."""
        for array in (arrays.forces_ac, arrays.energies_a, arrays.virials_ncc, arrays.totals):
            array[...] = 0
        for part in found.chunks:
            stages = self._stages[part.element]
            chunk = ChunkArrays(part, found, arrays, len(self._stages))
            rooms = [
                self._room.moments.setdefault(k, MomentRoom()) for k in range(len(stages.forms))
            ]
            forward = [
                stage.forward(chunk, room) for stage, room in zip(stages.forms, rooms, strict=True)
            ]
            x_bi = self._side_by_side(forward)
            parameters_bf = None if parameters_af is None else parameters_af[chunk.members_b]
            dx_bi = stages.fitting.evaluate(chunk, x_bi, parameters_bf, self._room.layers)
            first = 0
            for stage, room, (of_form_bi, tape) in zip(stages.forms, rooms, forward, strict=True):
                end = first + of_form_bi.shape[1]
                stage.backward(chunk, room, self._own(dx_bi, first, end, room), tape)
                first = end
        n_all = len(arrays.forces_ac)
        self.device.launch(
            self._kernels, "forces_on_neighbours", kernels.warps(n_all), np.int32(n_all),
            found.reverse_offsets_a, found.reverse_p, arrays.gradients_pc, arrays.forces_ac,
        )  # fmt: skip

    def _side_by_side(self, forward: list[tuple[Array, Any]]) -> Array:
        """The features of all forms."""
        if len(forward) == 1:
            return forward[0][0]
        n, width = len(forward[0][0]), sum(x_bi.shape[1] for x_bi, _ in forward)
        all_bi = self._room.features_bi.take(self.device.xp, (n, width), self._fitting.dtype)
        first = 0
        for x_bi, _ in forward:
            all_bi[:, first : first + x_bi.shape[1]] = x_bi
            first += x_bi.shape[1]
        return all_bi

    def _own(self, dx_bi: Array, first: int, end: int, room: MomentRoom) -> Array:
        """A form's columns of dE/dx, in one piece."""
        if end - first == dx_bi.shape[1]:
            return dx_bi
        own_bi = room.dfeatures_bi.take(
            self.device.xp, (len(dx_bi), end - first), self._fitting.dtype
        )
        own_bi[...] = dx_bi[:, first:end]
        return own_bi

    def _virials_of_atoms(self, found: DeviceLists, arrays: StepArrays) -> Array:
        n_all = len(arrays.forces_ac)
        virials_acc = self.device.xp.empty((n_all, 3, 3))
        self.device.launch(
            self._kernels, "virials_of_neighbours", kernels.warps(n_all), np.int32(n_all),
            found.reverse_offsets_a, found.reverse_p, found.centres_p, arrays.positions_ac,
            arrays.gradients_pc, virials_acc,
        )  # fmt: skip
        return virials_acc

    def _subtract_vacuum(
        self, found: DeviceLists, parameters_af: np.ndarray, energies_a: Array
    ) -> None:
        """Models trained with ``atom_ener``: without the net's value at D = 0."""
        for t, stages in enumerate(self._stages):
            if not self._fitting.subtract_vacuum_t[t]:
                continue
            vacuum_a = stages.fitting.net.vacuum(parameters_af).astype(np.float64)
            uploaded_a = self.device.upload(vacuum_a)
            for chunk in found.chunks:
                if chunk.element == t:
                    members_b = found.members_n[chunk.first : chunk.first + chunk.n]
                    own = uploaded_a if len(uploaded_a) == 1 else uploaded_a[members_b]
                    energies_a[members_b] -= own

    def _build_lists(self, positions_ac: Array, nb: Neighbourhood) -> DeviceLists:
        self._longest = 0

        def chunk_size(t: int, longest: int) -> int:
            self._longest = max(self._longest, longest)
            budget = min(self._chunk_bytes, self.device.free_bytes() // 4)
            per_centre = self._stages[t].bytes_per_centre(longest)
            # what counts slots of a chunk has 32 bits
            return max(1, min(budget // per_centre, (2**31 - 1) // max(1, 4 * longest)))

        return lists.build(
            self.device, self._kernels, positions_ac, nb.types_a, nb.n_local,
            self._rcut + nb.skin, self._excluded_tt, chunk_size,
        )  # fmt: skip


def _stages(device: Any, element: Element, compiled: dict[np.dtype, Any]) -> _Stages:
    fitting = element.fitting
    return _Stages(
        [
            MomentStage(device, form, fitting.dtype, compiled, adds=k > 0)
            for k, form in enumerate(element.forms)
            if isinstance(form, Moment)
        ],
        FittingStage(device, fitting, compiled),
    )
