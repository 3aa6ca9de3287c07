"""`GpuEngine`: a step of chunks on a device.

Positions go up and forces come down once per step, in one copy each (`transfer`); neighbour lists
are built on the device when LAMMPS builds its own. One chunk of centres is under way at a time, in
memory that is reused.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable
from threading import Lock

import numpy as np

from lmp_dp.engine import parameters
from lmp_dp.engine.forms import Element, Moment
from lmp_dp.engine.gpu import kernels, lists
from lmp_dp.engine.gpu.chunk import ChunkArrays, Packed, Sent, StepArrays
from lmp_dp.engine.gpu.device import CaptureRefused, Device
from lmp_dp.engine.gpu.lists import DeviceLists, NotFiniteError
from lmp_dp.engine.gpu.memory import System
from lmp_dp.engine.gpu.room import Room, nbytes
from lmp_dp.engine.gpu.stages import Stages
from lmp_dp.engine.gpu.transfer import Transfer
from lmp_dp.engine.lowering import lower
from lmp_dp.engine.neighbourhood import Array, Neighbourhood, Outputs, Result
from lmp_dp.errors import BackendError
from lmp_dp.model.deep_potential import DeepPotential

#: Memory for one chunk of centres: ten thousands of atoms, so that the last wave of blocks of each
#: kernel is a small part. Predicted (LOG.md), not measured.
CHUNK_BYTES = 2 * 2**30
#: Up to so many centres the launches of a step take longer than the kernels: they are recorded once
#: per neighbour list (CUDA graph). A guess, until it is measured.
GRAPH_CENTRES = 4096
#: Smaller chunks are not tried.
_SMALLEST_CHUNK_BYTES = 2**20


class UnsuitedModelError(BackendError):
    """There are no kernels for something in the model."""


class GpuEngine:
    """Evaluates a model on one device, one evaluation at a time.

    Parameters
    ----------
    model : DeepPotential
    device : Device

    Raises
    ------
    UnsuitedModelError
        The model is lowered to something that there are no kernels for.
    """

    #: Neighbour lists of the caller are not needed, nor its looking for what is not finite.
    builds_lists = checks_finite = True

    def __init__(self, model: DeepPotential, device: Device) -> None:
        self.seconds: dict[str, float] = {}
        self.device = device
        device.use()
        self._fitting = model.fitting
        self._rcut = model.rcut
        elements = [lower(model, t) for t in range(len(model.type_map))]
        if reason := _refusal(model, elements):
            raise UnsuitedModelError(f"backend gpu cannot evaluate {reason}: use backend cpu")
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
        self._stages = [Stages(device, element, compiled) for element in elements]
        #: The lists, where atoms were when this number of them was new, and the skin from there.
        self._lists: DeviceLists | None = None
        self._build, self._listed_ac, self._skin = 0, None, 0.0
        self._system: System | None = None
        #: Steps since the lists were built, and from the second one on (small systems) a recording.
        self._steps = 0
        self._replay: Callable[[], None] | None = None
        self._recordable = True  # until that is refused
        #: For a chunk at most, and what the largest one takes that can be divided.
        self._chunk_bytes, self._largest_chunk_bytes = CHUNK_BYTES, 0
        self._room, self._transfer = Room(), Transfer(device)
        self._lock = Lock()  # one evaluation at a time

    def compute(self, nb: Neighbourhood, outputs: Outputs) -> Result:
        """Energy, forces and what `outputs` asks for.

        Raises
        ------
        BackendError
            The device's memory does not suffice even for small chunks.
        """
        with self._lock:
            self.device.use()
            return self._compute(nb, outputs)

    def close(self) -> None:
        """Give the device's memory back; another evaluation takes it again."""
        with self._lock:
            self.device.use()
            self._transfer.close()
            self._let_go()
            self._build, self._listed_ac = 0, None

    def _let_go(self) -> None:
        self._lists = self._replay = None
        self._room = Room()
        self.device.release()

    def _compute(self, nb: Neighbourhood, outputs: Outputs) -> Result:
        """Where memory does not suffice: once more with all of it free, or with smaller chunks."""
        was_freed = False
        while True:
            try:
                return self._result(self._prepare(nb), outputs)
            except NotFiniteError:
                return _of_no_place(len(nb.types_a), outputs)
            except Exception as error:
                if not self.device.ran_out_of_memory(error):
                    raise
                traceback.clear_frames(error.__traceback__)  # they hold arrays
                shortage = error
            in_chunks = self._lists is not None
            self._let_go()
            too_small = self._largest_chunk_bytes <= _SMALLEST_CHUNK_BYTES
            if too_small if in_chunks else was_freed:
                # counted, unless lists did not get so far
                system = self._system or self._sized(nb, self._n_slots * nb.n_local)
                raise system.does_not_fit(self.device, _SMALLEST_CHUNK_BYTES) from shortage
            was_freed = True
            if in_chunks:
                # other chunks are other lists: slots lie by chunk
                self._chunk_bytes = max(self._largest_chunk_bytes // 2, _SMALLEST_CHUNK_BYTES)

    def _prepare(self, nb: Neighbourhood) -> StepArrays:
        """All that a step has besides chunks; new lists if the caller has new ones."""
        if nb.build == 0 or nb.build != self._build:
            self._build, self._listed_ac = 0, None
            self._lists = self._replay = None  # their memory may be used for the new ones
        sent = self._send(nb)
        if self._lists is not None:
            return self._arrays(sent, self._lists)
        if self._listed_ac is None:
            self._listed_ac, self._skin = sent.positions_ac.copy(), nb.skin
        # from the same positions if they were lost since: the skin counts from these
        found = self._build_lists(self._listed_ac, nb)
        arrays = self._arrays(sent, found)
        self._lists, self._build, self._steps = found, nb.build, 0
        return arrays

    def memory(self) -> str:
        """What the engine holds on the device, in words."""
        found, system = self._lists, self._system
        if found is None or system is None or not system.n_centres:
            return ""
        of_chunks = sum(
            map(nbytes, (self._room.moments, self._room.features_bi, self._room.layers))
        )
        return (
            f"{self.device.name} holds {system.kept // system.n_centres} bytes per atom in lists "
            f"and gradients, and {of_chunks / 2**20:.0f} MiB for chunks of up to "
            f"{max(chunk.n for chunk in found.chunks)} atoms"
        )

    def _sized(self, nb: Neighbourhood, n_slots: int) -> System:
        return System(len(nb.types_a), nb.n_local, len(self._stages), n_slots)

    def _result(self, arrays: StepArrays, outputs: Outputs) -> Result:
        found = self._lists
        assert found is not None
        self._steps += 1
        warning = self._evaluate(found, arrays)
        result = self._fetch(found, arrays, outputs)
        result.warning = warning
        return result

    def _send(self, nb: Neighbourhood) -> Sent:
        """Positions, and what the fitting nets take of each atom, in one copy."""
        parts = [nb.positions_ac]
        parameters_af = parameters.of_atoms(self._fitting, nb)
        takes_parameters = parameters_af.shape[1] > 0
        if takes_parameters:
            parts += [self._vacuum(nb, parameters_af), parameters_af]
        return Sent(*self._transfer.send(parts, self._room.step.up))

    def _vacuum(self, nb: Neighbourhood, parameters_af: np.ndarray) -> np.ndarray:
        """Models trained with ``atom_ener``: the net's value at D = 0, of each local atom."""
        vacuum_a = np.zeros(nb.n_local)
        for t in np.flatnonzero(self._fitting.subtract_vacuum_t):
            if vacuum := self._stages[t].fitting.net.vacuum:
                of_t = nb.types_a[: nb.n_local] == t
                vacuum_a[of_t] = vacuum(parameters_af[of_t])
        return vacuum_a

    def _fetch(self, found: DeviceLists, arrays: StepArrays, outputs: Outputs) -> Result:
        """All that is wanted, in one copy; virials of atoms in another."""
        packed = arrays.packed
        n_all = len(packed.forces_ac)
        size = Packed.size(n_all, energies=outputs.atom_energies)
        wanted = [packed.whole[:size]]
        if outputs.atom_virials:
            wanted.append(self._virials_of_atoms(found, arrays))
        fetched = self._transfer.fetch(wanted)
        if not outputs.borrowed:
            fetched = [array.copy() for array in fetched]
        host = Packed(fetched[0], n_all)
        energy, *_, not_finite, dropped, beyond_table = host.sums_u.tolist()
        return Result(
            energy=energy,
            forces_ac=host.forces_ac,
            virial_cc=host.sums_u[1:10].reshape(3, 3) if outputs.virial else None,
            atom_energies_a=host.energies_a if outputs.atom_energies else None,
            atom_virials_acc=fetched[1] if outputs.atom_virials else None,
            dropped=int(dropped),
            beyond_table=int(beyond_table),
            finite=not_finite == 0 and math.isfinite(energy),
        )

    def _evaluate(self, found: DeviceLists, arrays: StepArrays) -> str:
        """A step, recorded where that pays; if it cannot be, that is not tried again: a warning."""
        small = len(found.members_n) <= GRAPH_CENTRES and arrays.sent.parameters_af is None
        warning = ""
        if self._recordable and small and self._steps > 1:
            try:
                if self._replay is None:
                    self._replay = self.device.record(lambda: self._step(found, arrays))
                self._replay()
                return ""
            except CaptureRefused as refusal:
                self._recordable, self._replay = False, None
                warning = (
                    f"steps are not recorded in a CUDA graph, small systems are slower: {refusal}"
                )
        self._step(found, arrays)
        return warning

    def _arrays(self, sent: Sent, found: DeviceLists) -> StepArrays:
        """At the same places on every step, so that a recorded one can be replayed."""
        xp, of = self.device.xp, self._room.step
        n_all = len(sent.positions_ac)
        return StepArrays(
            sent=sent,
            packed=Packed(of.down.take(xp, (Packed.size(n_all),), np.float64), n_all),
            gradients_pc=of.gradients_pc.take(xp, (len(found.neighbours_p), 3), np.float64),
            totals=of.totals.take(xp, (2,), np.uint64),
            partial=of.partial.take(xp, (kernels.SUM_BLOCKS * kernels.SUMMED,), np.float64),
        )

    def _step(self, found: DeviceLists, arrays: StepArrays) -> None:
        """Energies, forces and their sums; on the device alone."""
        sent, packed = arrays.sent, arrays.packed
        for array in (packed.whole, arrays.totals):
            array[...] = 0
        for part in found.chunks:
            chunk = ChunkArrays(part, found, arrays, len(self._stages))
            self._stages[part.element].evaluate(chunk, self._room, sent.parameters_af)
        if sent.vacuum_a is not None:
            packed.energies_a[: len(sent.vacuum_a)] -= sent.vacuum_a
        n_all = len(packed.forces_ac)
        self.device.launch(
            self._kernels, "forces_on_neighbours", kernels.warps(n_all), np.int32(n_all),
            found.reverse_offsets_a, found.reverse_p, arrays.gradients_pc, packed.forces_ac,
        )  # fmt: skip
        self._sum(arrays)

    def _sum(self, arrays: StepArrays) -> None:
        packed = arrays.packed
        n_all = len(packed.forces_ac)
        blocks = min(kernels.SUM_BLOCKS, kernels.blocks(n_all))
        self.device.launch(
            self._kernels, "sums_of_blocks", blocks, np.int32(n_all), packed.energies_a,
            arrays.sent.positions_ac, packed.forces_ac, arrays.partial,
        )  # fmt: skip
        self.device.launch(
            self._kernels, "total_sums", 1, np.int32(blocks), arrays.partial, arrays.totals,
            packed.sums_u,
        )  # fmt: skip

    def _virials_of_atoms(self, found: DeviceLists, arrays: StepArrays) -> Array:
        n_all, xp = len(arrays.packed.forces_ac), self.device.xp
        centres_p = xp.empty(found.neighbours_p.shape, np.int32)
        for part in found.chunks:
            chunk = ChunkArrays(part, found, arrays, len(self._stages))
            self.device.launch(
                self._kernels, "centres_of_slots", kernels.warps(chunk.n), chunk.members_b,
                *chunk.sizes[:2], chunk.offsets_g, centres_p,
            )  # fmt: skip
        virials_acc = xp.empty((n_all, 3, 3))
        self.device.launch(
            self._kernels, "virials_of_neighbours", kernels.warps(n_all), np.int32(n_all),
            found.reverse_offsets_a, found.reverse_p, centres_p, arrays.sent.positions_ac,
            arrays.gradients_pc, virials_acc,
        )  # fmt: skip
        return virials_acc

    def _build_lists(self, positions_ac: Array, nb: Neighbourhood) -> DeviceLists:
        def chunk_sizes(longest_t: list[int], n_slots: int) -> list[int]:
            self._system = self._sized(nb, n_slots)
            left = self.device.free_bytes() + nbytes(self._room) - self._system.nbytes
            budget = min(self._chunk_bytes, max(left // 2, _SMALLEST_CHUNK_BYTES))
            per_centre_t[:] = map(Stages.bytes_per_centre, self._stages, longest_t)
            return [
                # what counts slots of a chunk has 32 bits
                max(1, min(budget // per_centre, (2**31 - 1) // max(1, 4 * longest)))
                for per_centre, longest in zip(per_centre_t, longest_t, strict=True)
            ]

        self._system = None
        per_centre_t: list[int] = []
        found = lists.build(
            self.device, self._kernels, self._room.lists, positions_ac, nb.types_a, nb.n_local,
            self._rcut + self._skin, self._excluded_tt, chunk_sizes,
        )  # fmt: skip
        sizes = (chunk.n * per_centre_t[chunk.element] for chunk in found.chunks if chunk.n > 1)
        self._largest_chunk_bytes = max(sizes, default=0)
        return found


def _of_no_place(n_all: int, outputs: Outputs) -> Result:
    """What atoms give whose positions are not finite."""
    return Result(
        energy=math.nan,
        forces_ac=np.full((n_all, 3), np.nan),
        virial_cc=np.full((3, 3), np.nan) if outputs.virial else None,
        atom_energies_a=np.full(n_all, np.nan) if outputs.atom_energies else None,
        atom_virials_acc=np.full((n_all, 3, 3), np.nan) if outputs.atom_virials else None,
        finite=False,
    )


def _refusal(model: DeepPotential, elements: list[Element]) -> str:
    """What there are no kernels for, in words."""
    forms = {type(form).__name__ for element in elements for form in element.forms}
    if others := forms - {Moment.__name__}:
        return (
            f"descriptor {model.descriptor.kind}, for which there are no kernels "
            f"(form {' and '.join(sorted(others))})"
        )
    return "" if model.pair_table is None else "a pair table"
