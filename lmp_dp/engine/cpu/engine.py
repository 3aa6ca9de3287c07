"""`CpuEngine`: chunks of centres in parallel, and the sum of what they give.

A chunk is a hundred or so centres of one element. A worker takes it through all stages in a room of
its own; the caller then adds the chunks' forces in the order of the chunks, so that the result does
not depend on the number of threads.

    rows -> form (B -> C -> features) -> fitting net, and back
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from concurrent.futures import TimeoutError as NotYet
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Lock
from time import perf_counter
from typing import Any, NamedTuple, Protocol

import numpy as np

from lmp_dp.engine import parameters, process
from lmp_dp.engine.cpu.angular import AngularStage
from lmp_dp.engine.cpu.attention import AttentionStage
from lmp_dp.engine.cpu.chunk import STAGES, Chunk, ChunkResult, Clock, Pairs
from lmp_dp.engine.cpu.fitting import FittingStage
from lmp_dp.engine.cpu.kernels import rows
from lmp_dp.engine.cpu.local_frame import LocalFrameStage
from lmp_dp.engine.cpu.moment import MomentStage
from lmp_dp.engine.cpu.packing import PackedFitting
from lmp_dp.engine.cpu.pair_term import PairTermRoom, PairTermStage
from lmp_dp.engine.cpu.radial import RadialStage
from lmp_dp.engine.cpu.room import LayerRoom
from lmp_dp.engine.forms import (
    Angular,
    Attention,
    Element,
    Form,
    LocalFrame,
    Moment,
    Radial,
)
from lmp_dp.engine.lowering import lower
from lmp_dp.engine.neighbourhood import Neighbourhood, Outputs, Result
from lmp_dp.model.deep_potential import DeepPotential

#: Centres per chunk. Tables: features and layers of a chunk fit the L2 cache. Embedding nets: G and
#: dG/ds of all rows should fit too.
CENTRES_WITH_TABLES, CENTRES_WITH_NETS = 192, 48
#: Seconds after which a caller that waits for a chunk looks again. Condition variables of glibc
#: before 2.41 can lose a wake-up (its bug 25847): a thread that hands over Python's lock (the GIL)
#: then sleeps until another one takes it, and for ever if all others wait for that thread.
LOOK_AGAIN = 1.0


class _FormStage(Protocol):
    """Takes chunks through a form. A tape is what the way back needs of the way forward."""

    def new_room(self) -> Any: ...
    def forward(self, chunk: Chunk, room: Any) -> tuple[np.ndarray, Any]: ...
    def backward(self, chunk: Chunk, room: Any, dx_bi: np.ndarray, tape: Any) -> Pairs: ...


#: Stages are made of a form and the fitting net's precision.
_STAGES: dict[type[Form], Callable[[Any, np.dtype], _FormStage]] = {
    Moment: MomentStage,
    Attention: AttentionStage,
    Angular: AngularStage,
    Radial: RadialStage,
    LocalFrame: LocalFrameStage,
}


class _Stages(NamedTuple):
    """The stages of centres of one element: one per form, and the fitting net."""

    forms: list[_FormStage]
    pair_term: PairTermStage | None
    fitting: FittingStage


@dataclass(frozen=True)
class _Lists:
    """What is derived from neighbour lists, for as long as they serve.

    Attributes
    ----------
    build : int
        Their number, see `Neighbourhood`.
    longest : int
        Length of the longest one.
    chunks : list of (int, array)
        Element and rows of the neighbour lists.
    """

    build: int
    longest: int
    chunks: list[tuple[int, np.ndarray]]


class CpuEngine:
    """Evaluates a model with `threads` worker threads; several threads may call it at a time."""

    builds_lists = checks_finite = False

    def __init__(self, model: DeepPotential, threads: int) -> None:
        self._fitting = model.fitting
        self._threads = threads
        #: Seconds of thread time per stage, over all evaluations.
        self.seconds = dict.fromkeys(STAGES, 0.0)
        elements = [lower(model, t) for t in range(len(model.type_map))]
        tabulated = any(form.tabulated for element in elements for form in element.forms)
        self._centres = CENTRES_WITH_TABLES if tabulated else CENTRES_WITH_NETS
        self._stages = [_stages_of(element) for element in elements]
        for stages in self._stages:
            for stage in stages.forms:
                if isinstance(stage, AttentionStage):
                    self._centres = min(self._centres, stage.centres)
        self._lists = _Lists(0, 0, [])
        self.renew()
        process.renew_in_children(self)

    def renew(self) -> None:
        """Threads, which start with the first evaluation, and workers that nobody uses."""
        self._pool = ThreadPoolExecutor(self._threads) if self._threads > 1 else None
        self._lock = Lock()
        #: Those that no evaluation is using.
        self._crews: list[SimpleQueue[_Worker]] = []

    def close(self) -> None:
        """End the threads and drop the workers' memory; another evaluation makes new ones."""
        pool = self._pool
        self.renew()
        if pool is not None:
            pool.shutdown()

    def memory(self) -> str:
        """Nothing is held on a device."""
        return ""

    def compute(self, nb: Neighbourhood, outputs: Outputs) -> Result:
        """Energy, forces and what `outputs` asks for."""
        n_all = len(nb.positions_ac)
        energies_a = np.zeros(n_all)
        forces_ac = np.zeros((n_all, 3))
        virial_cc = np.zeros((3, 3))
        atom_virials_acc = np.zeros((n_all if outputs.atom_virials else 0, 3, 3))
        parameters_af = parameters.of_atoms(self._fitting, nb)
        dropped = beyond_table = 0
        times = [0.0] * len(STAGES)
        crew = self._crew()
        with process.one_blas_thread:  # the chunks are the parallelism
            for worker, result in self._evaluated(crew, nb, parameters_af, energies_a):
                start = perf_counter()
                for pairs in result.pairs:
                    rows.scatter(
                        pairs.r_cp, pairs.g_cp, pairs.neighbour_p, pairs.first_tb, nb.centres_n,
                        result.members_b, pairs.share_of_centre, forces_ac, atom_virials_acc,
                    )  # fmt: skip
                    virial_cc += pairs.virial_cc
                    dropped += pairs.dropped
                    beyond_table += pairs.beyond_table
                for stage, seconds in enumerate(result.seconds):
                    times[stage] += seconds
                crew.put(worker)
                times[-1] += perf_counter() - start
        self._crews.append(crew)  # not after an error: some of its workers are lost then
        with self._lock:
            for name, total in zip(STAGES, times, strict=True):
                self.seconds[name] += total
        return Result(
            energy=float(energies_a.sum()),
            forces_ac=forces_ac,
            virial_cc=virial_cc if outputs.virial else None,
            atom_energies_a=energies_a if outputs.atom_energies else None,
            atom_virials_acc=atom_virials_acc if outputs.atom_virials else None,
            dropped=dropped,
            beyond_table=beyond_table,
        )

    def _crew(self) -> SimpleQueue[_Worker]:
        """Workers for one evaluation, so that another thread's neither waits nor writes there."""
        try:
            return self._crews.pop()
        except IndexError:
            crew: SimpleQueue[_Worker] = SimpleQueue()
            # one chunk per thread under way, one waiting, one being added to the forces
            for _ in range(1 if self._pool is None else self._threads + 2):
                crew.put(_Worker(self._stages))
            return crew

    def _lists_of(self, nb: Neighbourhood) -> _Lists:
        lists = self._lists
        if nb.build == 0 or nb.build != lists.build:
            longest = int(np.diff(nb.offsets_n).max(initial=0))
            lists = self._lists = _Lists(nb.build, longest, list(self._divide(nb)))
        return lists

    def _evaluated(
        self,
        crew: SimpleQueue[_Worker],
        nb: Neighbourhood,
        parameters_af: np.ndarray,
        energies_a: np.ndarray,
    ) -> Iterator[tuple[_Worker, ChunkResult]]:
        """Workers with what they have found, in the order of the chunks."""
        lists = self._lists_of(nb)

        def evaluate(t: int, members_b: np.ndarray) -> tuple[_Worker, ChunkResult]:
            worker = crew.get()
            chunk = Chunk(nb, members_b, lists.longest, Clock())
            return worker, worker.evaluate(t, chunk, parameters_af, energies_a)

        pool = self._pool
        if pool is None:
            for t, members_b in lists.chunks:
                yield evaluate(t, members_b)
            return
        pending: deque[Future[tuple[_Worker, ChunkResult]]] = deque()
        try:
            for t, members_b in lists.chunks:
                pending.append(pool.submit(evaluate, t, members_b))
                if len(pending) > self._threads:
                    yield _awaited(pending.popleft())
            while pending:
                yield _awaited(pending.popleft())
        finally:  # after an error: threads still under way read the caller's arrays
            for future in pending:
                future.cancel()
            while wait(pending, LOOK_AGAIN).not_done:
                pass

    def _divide(self, nb: Neighbourhood) -> Iterator[tuple[int, np.ndarray]]:
        """(element, rows of the neighbour list) of each chunk; independent of the threads."""
        centre_types_n = nb.types_a[nb.centres_n]
        size = min(self._centres, max(32, len(nb.centres_n) // 4))
        for t in range(len(self._stages)):
            members_n = np.flatnonzero(centre_types_n == t)
            for first in range(0, len(members_n), size):
                yield t, members_n[first : first + size]


def _awaited(future: Future[tuple[_Worker, ChunkResult]]) -> tuple[_Worker, ChunkResult]:
    while True:
        try:
            return future.result(LOOK_AGAIN)
        except NotYet:
            if future.done():  # an error of the chunk's own
                raise


def _stages_of(element: Element) -> _Stages:
    fitting = element.fitting
    forms = [_STAGES[type(form)](form, fitting.dtype) for form in element.forms]
    pair_term = None if element.pair_term is None else PairTermStage(element.pair_term)
    return _Stages(forms, pair_term, FittingStage(PackedFitting(fitting)))


class _Worker:
    """Takes one chunk at a time through all stages, in rooms that are reused."""

    def __init__(self, stages: list[_Stages]) -> None:
        self._stages = stages
        #: By place and kind of stage: elements share them.
        self._forms: dict[tuple[int, type], Any] = {}
        self._pair_term = PairTermRoom()
        self._layers = [LayerRoom() for _ in range(max(of.fitting.n_layers for of in stages))]

    def evaluate(
        self, t: int, chunk: Chunk, parameters_af: np.ndarray, energies_a: np.ndarray
    ) -> ChunkResult:
        """Energies of the centres (written to `energies_a`), and their pairs."""
        stages = self._stages[t]
        rooms = [(stage, self._room(n, stage)) for n, stage in enumerate(stages.forms)]
        forward = [stage.forward(chunk, room) for stage, room in rooms]
        x_bi = forward[0][0]
        if len(forward) > 1:
            x_bi = np.concatenate([of_form_bi for of_form_bi, _ in forward], axis=1)
        centres_b = chunk.centres_b
        energies_b, dx_bi = stages.fitting.evaluate(x_bi, parameters_af[centres_b], self._layers)
        pairs: list[Pairs] = []
        if stages.pair_term is not None:
            weight_b, pairs = stages.pair_term.evaluate(chunk, self._pair_term, energies_b)
            dx_bi *= weight_b[:, None].astype(dx_bi.dtype)
        energies_a[centres_b] = energies_b
        first = 0
        for (stage, room), (of_form_bi, tape) in zip(rooms, forward, strict=True):
            of_form = slice(first, first + of_form_bi.shape[1])
            first = of_form.stop
            # a form's own columns, in one piece
            pairs.append(stage.backward(chunk, room, np.ascontiguousarray(dx_bi[:, of_form]), tape))
        return ChunkResult(chunk.members_b, pairs, chunk.clock.seconds)

    def _room(self, n: int, stage: _FormStage) -> Any:
        key = (n, type(stage))
        if key not in self._forms:
            self._forms[key] = stage.new_room()
        return self._forms[key]
