"""The cpu backend: numba kernels and BLAS on chunks that stay in cache, chunks in parallel.

A chunk is a hundred or so centres of one element. A worker takes it through all stages on
buffers of its own; the caller then adds the chunks' forces in the order of the chunks, so that
the result does not depend on the number of threads.

    rows -> B (tables, or embedding nets) -> C = B K -> features -> fitting net, and back

(`lmp_dp.engine.reduction` has the algebra.) Padded slots are never stored: what they add to B
is a constant per pair of elements.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import pairwise
from queue import SimpleQueue
from threading import Lock
from time import perf_counter

import numpy as np

from lmp_dp.engine import environment, jet, parameters, process
from lmp_dp.engine.activation import value_and_slope
from lmp_dp.engine.kernels import embedding, features, nets, rows, tables
from lmp_dp.engine.kernels.simd import WIDTH, aligned
from lmp_dp.engine.layout import Layout, NetworkBlock, TableBlock
from lmp_dp.engine.neighbourhood import Neighbourhood, Outputs, Result
from lmp_dp.model.deep_potential import DeepPotential

#: Centres per chunk. Tables: features and layers of a chunk fit the L2 cache, GEMMs are long
#: enough (192 rows are one block of OpenBLAS's kernels for AVX-512). Embedding nets: G and dG/ds of
#: all rows should fit too.
CENTRES_WITH_TABLES, CENTRES_WITH_NETS = 192, 48
_F64, _F32, _I64, _I32 = map(np.dtype, ("float64", "float32", "int64", "int32"))
#: Stages that are timed; the last one is done by the caller, the others by the workers.
STAGES = ("neighbours", "embedding forward", "fitting net", "embedding backward", "forces")


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

    builds_lists = False

    def __init__(self, model: DeepPotential, threads: int) -> None:
        self._model = model
        self._n_types = len(model.type_map)
        self._centres = CENTRES_WITH_TABLES if model.descriptor.tables else CENTRES_WITH_NETS
        self._threads = threads
        #: Seconds of thread time per stage, over all evaluations.
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self._layouts = [Layout(model, t) for t in range(self._n_types)]
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
        parameters_af = parameters.of_atoms(self._model.fitting, nb)
        dropped = beyond_table = 0
        times = [0.0] * len(STAGES)
        crew = self._crew()
        with process.one_blas_thread:  # the chunks are the parallelism
            for worker in self._evaluated(crew, nb, parameters_af, energies_a):
                start = perf_counter()
                worker.add_to(nb, forces_ac, atom_virials_acc)
                virial_cc += worker.virial_cc
                dropped += worker.dropped
                beyond_table += worker.beyond_table
                for stage, seconds in enumerate(worker.seconds):
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
                crew.put(_Worker(self._model, self._layouts))
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
    ) -> Iterator[_Worker]:
        """The workers that have finished a chunk, in the order of the chunks."""
        lists = self._lists_of(nb)

        def evaluate(t: int, members_b: np.ndarray) -> _Worker:
            worker = crew.get()
            worker.evaluate(t, members_b, nb, lists.longest, parameters_af, energies_a)
            return worker

        pool = self._pool
        if pool is None:
            for t, members_b in lists.chunks:
                yield evaluate(t, members_b)
            return
        pending: deque[Future[_Worker]] = deque()
        try:
            for t, members_b in lists.chunks:
                pending.append(pool.submit(evaluate, t, members_b))
                if len(pending) > self._threads:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:  # after an error: threads still under way read the caller's arrays
            for future in pending:
                future.cancel()
            wait(pending)

    def _divide(self, nb: Neighbourhood) -> Iterator[tuple[int, np.ndarray]]:
        """(element, rows of the neighbour list) of each chunk; independent of the threads."""
        centre_types_n = nb.types_a[nb.centres_n]
        size = min(self._centres, max(32, len(nb.centres_n) // 4))
        for t in range(self._n_types):
            members_n = np.flatnonzero(centre_types_n == t)
            for first in range(0, len(members_n), size):
                yield t, members_n[first : first + size]


# --------------------------------------------------------------------------- one chunk
class _Worker:
    """Takes one chunk at a time through all stages, on buffers that grow and are reused."""

    def __init__(self, model: DeepPotential, layouts: list[Layout]) -> None:
        d = model.descriptor
        self._layouts = layouts
        self._dtype = d.dtype
        self._n_norm = d.dtype.type(d.n_norm)
        self._sel_t = d.sel_t.astype(np.int64)
        self._rcut = d.rcut
        self._switch = (d.rcut, d.rcut_smth, environment.switch_width(d.rcut, d.rcut_smth))
        self._buffers: dict[str, np.ndarray] = {}
        self._arrays: dict[str, np.ndarray] = {}  # on the buffers, of the shapes used last
        # of the chunk that was evaluated last
        self.virial_cc = np.zeros((3, 3))
        self.dropped = self.beyond_table = 0
        self.seconds: list[float] = []

    def _take(self, name: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """An uninitialised array of `shape` in the buffer called `name`, with a vector of slack."""
        last = self._arrays.get(name)
        if last is not None and last.shape == shape and last.dtype == dtype:
            return last
        size = math.prod(shape)
        buffer = self._buffers.get(name)
        if buffer is None or buffer.size < size + WIDTH or buffer.dtype != dtype:
            buffer = self._buffers[name] = aligned(size + WIDTH, dtype)
        self._arrays[name] = buffer[:size].reshape(shape)
        return self._arrays[name]

    def evaluate(
        self,
        t: int,
        members_b: np.ndarray,
        nb: Neighbourhood,
        longest: int,
        parameters_af: np.ndarray,
        energies_a: np.ndarray,
    ) -> None:
        """Energies of the centres (written to `energies_a`), pair gradients and virial (kept)."""
        times = [perf_counter()]
        c = self._layouts[t]
        n_b = len(members_b)
        self._members_b = members_b
        self.beyond_table = 0
        n_rows = self._gather(c, members_b, nb, longest)
        capacity = self._r_cp.shape[1]
        s_p = self._take("s", (capacity,), _F64)
        ds_p = self._take("ds", (capacity,), _F64)
        rows_kp = self._take("rows", (4, capacity), self._dtype)
        rows.environment(self._r_cp, n_rows, *self._switch, c.davg_k, c.dstd_k, s_p, ds_p, rows_kp)

        times.append(perf_counter())

        b_bkq = self._take("B", (n_b, 4, c.n_columns), self._dtype)
        drows_kp = self._take("drows", (4, capacity), self._dtype)
        embedded = self._embed_all(c, rows_kp, b_bkq)
        c_bkr = b_bkq
        if c.k_qr is not None:
            c_bkr = self._take("C", (n_b, 4, c.rank), self._dtype)
            np.matmul(b_bkq.reshape(n_b * 4, -1), c.k_qr, out=c_bkr.reshape(n_b * 4, c.rank))
        times.append(perf_counter())

        centres_b = nb.centres_n[members_b]
        parameters_bf = parameters_af[centres_b]
        energies_b, dc_bkr = self._fit(c, c_bkr, parameters_bf)
        energies_b -= c.vacuum(parameters_bf)
        energies_a[centres_b] = energies_b.astype(np.float64) + c.bias

        times.append(perf_counter())

        db_bkq = dc_bkr
        if not c.tabulated:
            db_bkq /= self._n_norm
        elif c.k_qr is not None:
            db_bkq = self._take("dB", b_bkq.shape, self._dtype)
            np.matmul(dc_bkr.reshape(n_b * 4, c.rank), c.k_qr.T, out=db_bkq.reshape(n_b * 4, -1))
        for block, arrays in embedded:
            first_b = self._first_tb[block.neighbour]
            if isinstance(block, TableBlock):
                tables.gradients(
                    rows_kp, *arrays, block.coefficients_pkr, block.slope_p, first_b, db_bkq,
                    block.start, c.lanes, drows_kp,
                )  # fmt: skip
            else:
                nets.gradients(rows_kp, *arrays, first_b, db_bkq, drows_kp)
        self._g_cp = self._take("g", (3, capacity), _F64)
        rows.pair_gradients(self._r_cp, n_rows, c.dstd_k, s_p, ds_p, drows_kp, self._g_cp)
        rows.virial_of_rows(self._r_cp, self._g_cp, n_rows, self.virial_cc)
        times.append(perf_counter())
        self.seconds = [end - begin for begin, end in pairwise(times)]

    def add_to(
        self, nb: Neighbourhood, forces_ac: np.ndarray, atom_virials_acc: np.ndarray
    ) -> None:
        """Add the chunk's forces and (where wanted) per-atom virials."""
        rows.scatter(
            self._r_cp,
            self._g_cp,
            self._neighbour_p,
            self._first_tb,
            nb.centres_n,
            self._members_b,
            forces_ac,
            atom_virials_acc,
        )

    def _gather(self, c: Layout, members_b: np.ndarray, nb: Neighbourhood, longest: int) -> int:
        """Choose neighbours and lay out the chunk's rows; returns their number."""
        n_b, n_slots = len(members_b), int(self._sel_t.sum())
        self._first_tb = self._take("first", (len(self._sel_t), n_b + 1), _I64)
        capacity = n_b * min(n_slots, longest)
        self._neighbour_p = self._take("neighbour", (capacity,), _I32)
        self._r_cp = self._take("r", (3, capacity), _F64)
        n_rows, self.dropped = rows.gather(
            nb.positions_ac,
            nb.types_a,
            nb.centres_n,
            members_b,
            nb.offsets_n,
            nb.neighbours_p,
            self._sel_t,
            c.excluded_t,
            self._rcut,
            self._take("candidate", (longest,), _I32),
            self._take("candidate_r2", (longest,), _F32),
            self._take("candidate_type", (longest,), _I32),
            self._take("slot", (n_b, n_slots), _I32),
            self._first_tb,
            self._neighbour_p,
            self._r_cp,
        )
        return n_rows

    def _embed_all(
        self, c: Layout, rows_kp: np.ndarray, b_bkq: np.ndarray
    ) -> list[tuple[TableBlock | NetworkBlock, tuple[np.ndarray, np.ndarray]]]:
        """Fill B; returns per block what its gradients need."""
        embedded: list[tuple[TableBlock | NetworkBlock, tuple[np.ndarray, np.ndarray]]] = []
        piece_p = self._take("piece", (rows_kp.shape[1],), _I32)
        x_p = self._take("x", (rows_kp.shape[1],), self._dtype)
        if not c.tabulated:
            b_bkq[:] = 0.0
        for block in c.blocks:
            first_b = self._first_tb[block.neighbour]
            first, last = int(first_b[0]), int(first_b[-1])
            sel = self._sel_t[block.neighbour]
            if isinstance(block, TableBlock):
                self.beyond_table += tables.locate(
                    rows_kp[0], first, last, *block.lookup, piece_p, x_p
                )
                tables.moment(
                    rows_kp, piece_p, x_p, block.coefficients_pkr, first_b, sel,
                    block.padding_kr, block.start, c.lanes, b_bkq,
                )  # fmt: skip
                embedded.append((block, (piece_p, x_p)))
            else:
                arrays = self._embed(block, rows_kp[0, first:last])
                nets.moment(rows_kp, arrays[0], first_b, sel, block.padding_km, b_bkq)
                embedded.append((block, arrays))
        if not c.tabulated:
            # not a multiplication by 1/N: in float32 its rounding would shift all energies alike
            b_bkq /= self._n_norm
        return embedded

    def _embed(self, block: NetworkBlock, s_p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """G_pm and dG_pm/ds of rows with inputs `s_p`."""
        net, packed = block.net, block.packed
        if packed is None:
            g_pm, dg_pm, _ = jet.evaluate(net, s_p)
            return g_pm.astype(net.dtype), dg_pm.astype(net.dtype)
        shape = (len(s_p), net.n_out)
        # kept per neighbour element until the backward pass
        g_pm = self._take(f"G{block.neighbour}", shape, net.dtype)
        dg_pm = self._take(f"dG{block.neighbour}", shape, net.dtype)
        work = self._take("work", (packed.work,), net.dtype)
        lanes = (0,) * (WIDTH // net.dtype.itemsize)
        embedding.embed(s_p, packed.parameters, packed.layers_lk, work, lanes, g_pm, dg_pm)
        return g_pm, dg_pm

    def _fit(
        self, c: Layout, c_bkr: np.ndarray, parameters_bf: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Fitting net's value (without bias_atom_e) and dE/dC, in the descriptor's precision."""
        fitting, n_b = c.fitting, len(c_bkr)
        if fitting.dtype != self._dtype:  # a copy in a buffer with slack: vectors are read whole
            copy_bkr = self._take("C in the net's precision", c_bkr.shape, fitting.dtype)
            copy_bkr[:] = c_bkr
            c_bkr = copy_bkr
        lanes = fitting.lanes
        x_bi = self._take("features", (n_b, c.n_features), fitting.dtype)
        features.forward(c_bkr, c.rank, c.n_axis, lanes, x_bi)
        slopes = []
        for k, layer in enumerate(fitting.layers):
            bias_o, idt_o = layer.bias_o, layer.idt_o
            shape = (n_b, len(bias_o))
            y_bo = self._take(f"fit{k}", shape, fitting.dtype)
            np.matmul(x_bi, layer.weight_io, out=y_bo)
            if k == 0 and parameters_bf.shape[1]:
                y_bo += parameters_bf @ fitting.parameter_weight_fo
            joined = layer.joined
            if layer.activation == "tanh":
                slope_bo = self._take(f"slope{k}", shape, fitting.dtype)
                adds = len(joined) == 1
                nets.tanh_layer(y_bo, bias_o, idt_o, x_bi if adds else y_bo, adds, lanes, slope_bo)
                if adds:
                    joined = []
            else:
                y_bo += bias_o
                y_bo, slope_bo = value_and_slope(layer.activation, y_bo)
                y_bo, slope_bo = y_bo * idt_o, slope_bo * idt_o
            for part in joined:
                y_bo[:, part] += x_bi[:, : layer.n_joined]
            x_bi = y_bo
            slopes.append(slope_bo)
        energies_b = x_bi @ fitting.last_o + fitting.last_bias
        if not fitting.layers:
            energies_b += (parameters_bf @ fitting.parameter_weight_fo)[:, 0]

        dy_bo = fitting.last_o  # of every centre, until a layer has taken it back
        for k in range(len(fitting.layers) - 1, -1, -1):
            layer = fitting.layers[k]
            dz_bo = np.multiply(dy_bo, slopes[k], out=slopes[k])
            dx_bi = self._take(f"dfit{k}", (n_b, len(layer.weight_io)), fitting.dtype)
            np.matmul(dz_bo, layer.weight_io.T, out=dx_bi)
            for part in layer.joined:
                dx_bi[:, : layer.n_joined] += dy_bo[..., part]
            dy_bo = dx_bi
        dc_bkr = self._take("dC", c_bkr.shape, fitting.dtype)
        if not fitting.layers:
            dy_bo = np.tile(fitting.last_o, (n_b, 1))
        features.backward(c_bkr, dy_bo, c.rank, c.n_axis, lanes, dc_bkr)
        return energies_b, dc_bkr.astype(self._dtype, copy=False)
