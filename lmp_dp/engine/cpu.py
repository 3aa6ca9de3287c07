"""The cpu backend: numba kernels and BLAS on chunks that stay in cache, chunks in parallel.

A chunk is some tens of centres of one element. A worker takes it through all stages on buffers
of its own; the caller then adds the chunks' forces in the order of the chunks, so that the
result does not depend on the number of threads. Padded slots are never stored: their constant
contribution to the moment T is computed once per pair of elements.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

import numpy as np
from threadpoolctl import ThreadpoolController

from lmp_dp.engine import environment, network
from lmp_dp.engine.activation import value_and_slope
from lmp_dp.engine.kernels import cpu as kernels
from lmp_dp.engine.neighbourhood import Neighbourhood, Outputs, Result
from lmp_dp.model.deep_potential import DeepPotential
from lmp_dp.model.network import Layer, Network
from lmp_dp.model.precision import cast_network

#: Centres per chunk: enough rows for the GEMMs, few enough for G and D to stay in the cache.
CHUNK_CENTRES = 64
_JOINS = {"replace": 0, "add": 1, "double": 2}


class CpuEngine:
    """Evaluates a model with `threads` worker threads."""

    def __init__(self, model: DeepPotential, threads: int) -> None:
        self._n_types = len(model.type_map)
        self._threads = threads
        self._blas = ThreadpoolController().select(user_api="blas")
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None
        constants = _Constants(model)
        # one chunk per thread under way, one waiting, one being added to the forces
        self._workers: SimpleQueue[_Worker] = SimpleQueue()
        for _ in range(threads + 2):
            self._workers.put(_Worker(constants))

    def compute(self, nb: Neighbourhood, outputs: Outputs) -> Result:
        """Energy, forces and what `outputs` asks for."""
        n_all = len(nb.positions_ac)
        energies_a = np.zeros(n_all)
        forces_ac = np.zeros((n_all, 3))
        virial_cc = np.zeros((3, 3))
        atom_virials_acc = np.zeros((n_all if outputs.atom_virials else 0, 3, 3))
        longest = int(np.diff(nb.offsets_n).max(initial=0))
        with self._blas.limit(limits=1):  # the chunks are the parallelism
            for worker in self._evaluated(nb, longest, energies_a):
                worker.add_to(nb, forces_ac, virial_cc, atom_virials_acc)
                self._workers.put(worker)
        return Result(
            energy=float(energies_a.sum()),
            forces_ac=forces_ac,
            virial_cc=virial_cc if outputs.virial else None,
            atom_energies_a=energies_a if outputs.atom_energies else None,
            atom_virials_acc=atom_virials_acc if outputs.atom_virials else None,
        )

    def _evaluated(
        self, nb: Neighbourhood, longest: int, energies_a: np.ndarray
    ) -> Iterator[_Worker]:
        """The workers that have finished a chunk, in the order of the chunks."""

        def evaluate(t: int, members_b: np.ndarray) -> _Worker:
            worker = self._workers.get()
            worker.evaluate(t, members_b, nb, longest, energies_a)
            return worker

        if self._pool is None:
            for t, members_b in self._chunks(nb):
                yield evaluate(t, members_b)
            return
        pending = deque()
        for t, members_b in self._chunks(nb):
            pending.append(self._pool.submit(evaluate, t, members_b))
            if len(pending) > self._threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()

    def _chunks(self, nb: Neighbourhood) -> Iterator[tuple[int, np.ndarray]]:
        """(element, rows of the neighbour list), split evenly; independent of the threads."""
        centre_types_n = nb.types_a[nb.centres_n]
        size = min(CHUNK_CENTRES, max(8, len(nb.centres_n) // 8))
        for t in range(self._n_types):
            members_n = np.flatnonzero(centre_types_n == t)
            if len(members_n):
                for members_b in np.array_split(members_n, -(-len(members_n) // size)):
                    yield t, members_b


class _Constants:
    """What all chunks share: parameters laid out for the kernels."""

    def __init__(self, model: DeepPotential) -> None:
        d = model.descriptor
        self.model = model
        self.descriptor = d
        self.sel_t = d.sel_t.astype(np.int64)
        self.geometry = (d.rcut, d.rcut_smth, environment.switch_width(d.rcut, d.rcut_smth))
        self.n_norm = d.dtype.type(d.n_norm)
        self.padding_km = [
            [_padding_moment(d.davg_tk[i], d.dstd_tk[i], net, d.dtype) for net in row]
            for i, row in enumerate(d.embeddings)
        ]
        fitting = model.fitting
        vacuum_t = [
            network.forward(net, np.zeros((1, net.n_in), net.dtype))[0][0, 0] if wanted else 0.0
            for net, wanted in zip(fitting.nets, fitting.subtract_vacuum_t, strict=True)
        ]
        self.vacuum_t = [fitting.dtype.type(value) for value in vacuum_t]


def _padding_moment(
    davg_k: np.ndarray, dstd_k: np.ndarray, net: Network | None, dtype: np.dtype
) -> np.ndarray | None:
    """R_k G_m of one padded slot: R = -davg/dstd.

    Evaluated in float64 also for float32 nets: the same constant enters every atom many times,
    so that its rounding would not average out.
    """
    if net is None:
        return None
    row_k = ((0.0 - davg_k) / dstd_k).astype(dtype).astype(np.float64)
    moment_km = row_k[:, None] * network.forward(cast_network(net, "float64"), row_k[None, :1])[0]
    return moment_km.astype(dtype)


class _Worker:
    """Takes one chunk at a time through all stages, on buffers that grow and are reused."""

    def __init__(self, constants: _Constants) -> None:
        self._constants = constants
        self._buffers: dict[str, np.ndarray] = {}

    def _take(self, name: str, shape: tuple[int, ...], dtype: np.dtype | type) -> np.ndarray:
        """An uninitialised array of `shape` in the buffer called `name`."""
        size = 1
        for length in shape:
            size *= length
        buffer = self._buffers.get(name)
        if buffer is None or buffer.size < size:
            buffer = self._buffers[name] = np.empty(size, dtype)
        return buffer[:size].reshape(shape)

    def evaluate(
        self,
        t: int,
        members_b: np.ndarray,
        nb: Neighbourhood,
        longest: int,
        energies_a: np.ndarray,
    ) -> None:
        """Energies of the centres (written to `energies_a`) and pair gradients (kept)."""
        c = self._constants
        d = c.descriptor
        n_b, n_types = len(members_b), len(c.sel_t)
        self._members_b = members_b
        self._gather(t, members_b, nb, longest)
        rows_pk = self._take("rows", (self._n_rows, 4), d.dtype)
        davg_k, dstd_k = d.davg_tk[t], d.dstd_tk[t]
        kernels.environment(self._r_pc, self._n_rows, *c.geometry, davg_k, dstd_k, rows_pk)

        moment_bkm = self._take("moment", (n_b, 4, d.n_channels), d.dtype)
        moment_bkm[:] = 0.0
        embedded: list[tuple[int, int, np.ndarray, np.ndarray]] = []
        for tj in range(n_types):
            net = d.embeddings[t][tj]
            if net is None or c.sel_t[tj] == 0:
                continue
            first_b = self._first_tb[tj]
            first, last = int(first_b[0]), int(first_b[-1])
            g_pm, dg_pm = self._embed(net, tj, rows_pk, first, last)
            missing_b = (c.sel_t[tj] - np.diff(first_b)).astype(d.dtype)
            kernels.moment(
                rows_pk, g_pm, first_b, first, n_b, missing_b, c.padding_km[t][tj], moment_bkm
            )
            embedded.append((tj, first, g_pm, dg_pm))
        # not a multiplication by 1/N: in float32 its rounding would shift all energies alike
        moment_bkm /= c.n_norm

        net = c.model.fitting.nets[t]
        d_bd = self._take("D", (n_b, d.n_out), net.dtype)
        kernels.descriptor(moment_bkm, d.axis_neuron, d_bd)
        e_b, dd_bd = self._fit(net, d_bd)
        centre_b = nb.centres_n[members_b]
        energies_a[centre_b] = (e_b - c.vacuum_t[t]).astype(np.float64)
        energies_a[centre_b] += c.model.fitting.bias_atom_e_t[t]

        dmoment_bkm = self._take("dmoment", moment_bkm.shape, d.dtype)
        dd_mx = self._take("dd_mx", (d.n_channels, d.axis_neuron), d.dtype)
        kernels.descriptor_backward(moment_bkm, dd_bd, d.axis_neuron, c.n_norm, dd_mx, dmoment_bkm)
        drows_pk = self._take("drows", (self._n_rows, 4), d.dtype)
        for tj, first, g_pm, dg_pm in embedded:
            first_b = self._first_tb[tj]
            kernels.row_gradients(
                rows_pk, g_pm, dg_pm, first_b, first, n_b, dmoment_bkm, drows_pk
            )
        self._g_pc = self._take("g", (self._n_rows, 3), np.float64)
        kernels.pair_gradients(self._r_pc, self._n_rows, *c.geometry, dstd_k, drows_pk, self._g_pc)

    def add_to(
        self,
        nb: Neighbourhood,
        forces_ac: np.ndarray,
        virial_cc: np.ndarray,
        atom_virials_acc: np.ndarray,
    ) -> None:
        """Add the chunk's forces, virial and (where wanted) per-atom virials."""
        kernels.scatter(
            self._r_pc,
            self._g_pc,
            self._neighbour_p,
            self._first_tb,
            nb.centres_n,
            self._members_b,
            forces_ac,
            virial_cc,
            atom_virials_acc,
        )

    def _gather(self, t: int, members_b: np.ndarray, nb: Neighbourhood, longest: int) -> None:
        """Choose neighbours and lay out the chunk's rows."""
        c = self._constants
        n_b, n_slots = len(members_b), int(c.sel_t.sum())
        self._first_tb = self._take("first", (len(c.sel_t), n_b + 1), np.int64)
        capacity = n_b * min(n_slots, longest)
        self._neighbour_p = self._take("neighbour", (capacity,), np.int32)
        self._r_pc = self._take("r", (capacity, 3), np.float64)
        self._n_rows, _ = kernels.gather_rows(
            nb.positions_ac,
            nb.types_a,
            nb.centres_n,
            members_b,
            nb.offsets_n,
            nb.neighbours_p,
            c.sel_t,
            c.descriptor.excluded_tt[t],
            c.descriptor.rcut,
            self._take("candidate", (longest,), np.int32),
            self._take("candidate_r2", (longest,), np.float32),
            self._take("candidate_type", (longest,), np.int32),
            self._take("slot", (n_b, n_slots), np.int32),
            self._first_tb,
            self._neighbour_p,
            self._r_pc,
        )

    def _embed(
        self, net: Network, tj: int, rows_pk: np.ndarray, first: int, last: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """G_pm and dG_pm/ds of rows first..last: the net and its tangent, layer by layer."""
        n, dtype = last - first, net.dtype
        x_pi = dx_pi = np.empty((0, 0), dtype)
        for k, layer in enumerate(net.layers):
            # the last layer's output is kept per neighbour element until the backward pass
            name = f"G{tj}" if k == len(net.layers) - 1 else f"x{k}"
            shape = (n, layer.weight_io.shape[1])
            y_po, dy_po = self._take(name, shape, dtype), self._take("d" + name, shape, dtype)
            z_po = self._take("z", shape, dtype)
            idt_o = np.ones(shape[1], dtype) if layer.idt_o is None else layer.idt_o
            if k == 0:
                weight_o = layer.weight_io[0]
                kernels.first_layer(rows_pk, first, last, weight_o, layer.bias_o, z_po)
                a_po, slope_po = self._activate(layer, z_po)
                kernels.join_first(
                    a_po, slope_po, weight_o, idt_o, _JOINS[layer.joins], rows_pk, first,
                    y_po, dy_po,
                )  # fmt: skip
            else:
                np.matmul(x_pi, layer.weight_io, out=z_po)
                z_po += layer.bias_o
                a_po, slope_po = self._activate(layer, z_po)
                np.matmul(dx_pi, layer.weight_io, out=dy_po)
                kernels.join(
                    a_po, slope_po, idt_o, _JOINS[layer.joins], x_pi, dx_pi, y_po, dy_po
                )
            x_pi, dx_pi = y_po, dy_po
        return x_pi, dx_pi

    def _activate(self, layer: Layer, z_po: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """act(z) and act'(z); tanh in place (NumPy's tanh is vectorised)."""
        if layer.activation != "tanh":
            return value_and_slope(layer.activation, z_po)
        np.tanh(z_po, out=z_po)
        slope_po = self._take("slope", z_po.shape, z_po.dtype)
        kernels.tanh_slope(z_po, slope_po)
        return z_po, slope_po

    def _fit(self, net: Network, d_bd: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Fitting net's value (without bias_atom_e) and its gradient dE/dD."""
        e_b1, slopes = network.forward(net, d_bd)
        return e_b1[:, 0], network.backward(net, np.ones_like(e_b1), slopes)
