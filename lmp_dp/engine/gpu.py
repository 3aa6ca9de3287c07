"""The gpu backend: the cpu backend's algebra (`lmp_dp.engine.reduction`) in CUDA kernels.

    rows -> B (tables, or embedding nets) -> C = B K -> features -> fitting net, and back

Positions go up and forces come down once per step; neighbour lists are built on the device when
LAMMPS builds its own. One chunk of centres is under way at a time, in memory that is reused.
`kernels/cuda` says which thread does what.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np

from lmp_dp.engine import device_lists, environment, parameters
from lmp_dp.engine.cuda_device import CaptureRefused
from lmp_dp.engine.device_layout import DeviceLayout, DeviceNet
from lmp_dp.engine.device_lists import Chunk, DeviceLists
from lmp_dp.engine.kernels import cuda
from lmp_dp.engine.layout import Layout
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


@dataclass(frozen=True)
class _Arrays:
    """What a step reads and writes on the device, besides the lists and working memory."""

    positions_ac: Array
    forces_ac: Array
    energies_a: Array
    virials_cx: Array
    gradients_pc: Array
    totals: Array


class GpuEngine:
    """Evaluates a model on one device.

    Parameters
    ----------
    model : DeepPotential
    device
        `lmp_dp.engine.cuda_device.CudaDevice`, or something with its methods.
    """

    #: Neighbour lists of the caller are not needed.
    builds_lists = True

    def __init__(self, model: DeepPotential, device: Any) -> None:
        self.seconds: dict[str, float] = {}
        self.device = device
        d = model.descriptor
        self._dtype, self._fitting_dtype = d.dtype, model.fitting.dtype
        self._fitting = model.fitting
        self._kernels = device.compile(REAL=_real(d.dtype))
        self._fitting_kernels = device.compile(REAL=_real(model.fitting.dtype))
        self._n_types = len(model.type_map)
        self._rcut = d.rcut
        self._divisor = d.dtype.type(1.0 if d.tables else d.n_norm)
        self._rcut2 = np.float32(d.rcut) * np.float32(d.rcut)
        width = environment.switch_width(d.rcut, d.rcut_smth)
        self._switch = (np.float64(d.rcut_smth), np.float64(width))
        self._sel_t = device.upload(d.sel_t.astype(np.int32))
        self._n_channels = d.n_channels
        layouts = [Layout(model, t) for t in range(self._n_types)]
        self._excluded_tt = np.array([layout.excluded_t for layout in layouts])
        self._layouts = [DeviceLayout(device, layout, self._n_types) for layout in layouts]
        self._lists: DeviceLists | None = None
        self._build = self._longest = 0
        #: Steps since the lists were built, and from the second one on (small systems) a recording.
        self._steps = 0
        self._replay: Callable[[], None] | None = None
        #: Casts allocate, and a refusal stays.
        self._recordable = d.dtype == model.fitting.dtype and all(c.layers for c in self._layouts)
        self._chunk_bytes = CHUNK_BYTES
        self._buffers: dict[str, Array] = {}
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
        self._buffers.clear()
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
        lists = self._lists
        if lists is None or not len(lists.members_c):
            return ""
        kept = sum(
            array.nbytes
            for array in (
                lists.members_c, lists.offsets_b, lists.neighbours_p, lists.centres_p,
                lists.reverse_offsets_a, lists.reverse_p, self._buffers["gradients"],
            )
        )  # fmt: skip
        working = sum(buffer.nbytes for buffer in self._buffers.values())
        working -= self._buffers["gradients"].nbytes
        return (
            f"{self.device.name} holds {kept // len(lists.members_c)} bytes per atom in lists and "
            f"gradients, and {working / 2**20:.0f} MiB for chunks of up to "
            f"{max(chunk.n for chunk in lists.chunks)} atoms"
        )

    def _does_not_fit(self, nb: Neighbourhood) -> BackendError:
        slots = self._longest or int(self._sel_t.sum())
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
        lists, arrays = self._lists, self._arrays(n_all, self._lists)
        arrays.positions_ac[...] = uploaded_ac
        parameters_af = parameters.of_atoms(self._fitting, nb)
        self._steps += 1
        warning = ""
        if parameters_af.shape[1]:
            self._step(lists, arrays, device.upload(parameters_af))
        else:
            small = len(lists.members_c) <= GRAPH_CENTRES
            if self._replay is None and self._recordable and small and self._steps > 1:
                warning = self._record(lists, arrays)
            if self._replay is None:
                self._step(lists, arrays, None)
            else:
                self._replay()
        energies_a = arrays.energies_a
        self._subtract_vacuum(lists, parameters_af, energies_a)
        atom_virials_acc = None
        if outputs.atom_virials:
            virials_acc = xp.empty((n_all, 3, 3))
            device.launch(
                self._kernels, "virials_of_neighbours", _blocks(n_all * cuda.WARP),
                np.int32(n_all), lists.reverse_offsets_a, lists.reverse_p, lists.centres_p,
                arrays.positions_ac, arrays.gradients_pc, virials_acc,
            )  # fmt: skip
            atom_virials_acc = device.download(virials_acc)
        # one copy for all that is small
        virial_x, totals = arrays.virials_cx.sum(axis=0), arrays.totals.astype(xp.float64)
        sums = device.download(xp.concatenate([energies_a.sum()[None], virial_x, totals]))
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

    def _record(self, lists: DeviceLists, arrays: _Arrays) -> str:
        """Record a step for later ones; if that cannot be, it is not tried again: a warning."""
        try:
            self._replay = self.device.record(lambda: self._step(lists, arrays, None))
        except CaptureRefused as refusal:
            self._recordable = False
            return f"steps are not recorded in a CUDA graph, small systems are slower: {refusal}"
        return ""

    def _arrays(self, n_all: int, lists: DeviceLists) -> _Arrays:
        """At the same places on every step, so that a recorded one can be replayed."""
        return _Arrays(
            positions_ac=self._take("positions", (n_all, 3), np.float64),
            forces_ac=self._take("forces", (n_all, 3), np.float64),
            energies_a=self._take("energies", (n_all,), np.float64),
            virials_cx=self._take("virials", (len(lists.members_c), 9), np.float64),
            gradients_pc=self._take("gradients", (len(lists.neighbours_p), 3), np.float64),
            totals=self._take("totals", (2,), np.uint64),
        )

    def _step(self, lists: DeviceLists, arrays: _Arrays, parameters_af: Array | None) -> None:
        """Energies, forces and virials of the centres; on the device alone."""
        for array in (arrays.forces_ac, arrays.energies_a, arrays.virials_cx, arrays.totals):
            array[...] = 0
        for chunk in lists.chunks:
            self._evaluate(chunk, lists, arrays, parameters_af)
        n_all = len(arrays.forces_ac)
        self.device.launch(
            self._kernels, "forces_on_neighbours", _blocks(n_all * cuda.WARP), np.int32(n_all),
            lists.reverse_offsets_a, lists.reverse_p, arrays.gradients_pc, arrays.forces_ac,
        )  # fmt: skip

    def _subtract_vacuum(
        self, lists: DeviceLists, parameters_af: np.ndarray, energies_a: Array
    ) -> None:
        """Models trained with ``atom_ener``: without the net's value at D = 0."""
        for t, element in enumerate(self._layouts):
            if not self._fitting.subtract_vacuum_t[t]:
                continue
            vacuum_a = self.device.upload(element.vacuum(parameters_af).astype(np.float64))
            for chunk in lists.chunks:
                if chunk.element == t:
                    members_c = lists.members_c[chunk.first : chunk.first + chunk.n]
                    own = vacuum_a if len(vacuum_a) == 1 else vacuum_a[members_c]
                    energies_a[members_c] -= own

    def _build_lists(self, positions_ac: Array, nb: Neighbourhood) -> DeviceLists:
        self._longest = 0

        def chunk_size(t: int, longest: int) -> int:
            self._longest = max(self._longest, longest)
            budget = min(self._chunk_bytes, self.device.free_bytes() // 4)
            per_centre = self._layouts[t].bytes_per_centre(longest, self._n_channels)
            # what counts slots of a chunk has 32 bits
            return max(1, min(budget // per_centre, (2**31 - 1) // max(1, 4 * longest)))

        return device_lists.build(
            self.device, self._kernels, positions_ac, nb.types_a, nb.n_local,
            self._rcut + nb.skin, self._excluded_tt, chunk_size,
        )  # fmt: skip

    def _take(self, name: str, shape: tuple[int, ...], dtype: Any) -> Array:
        """An uninitialised array of `shape` in the buffer called `name`."""
        size = int(np.prod(shape, dtype=np.int64))
        buffer = self._buffers.get(name)
        if buffer is None or buffer.size < size or buffer.dtype != dtype:
            self._buffers.pop(name, None)
            buffer = self._buffers[name] = self.device.xp.empty(size, dtype)
        return buffer[:size].reshape(shape)

    def _evaluate(
        self, chunk: Chunk, lists: DeviceLists, arrays: _Arrays, parameters_af: Array | None
    ) -> None:
        """All stages of one chunk."""
        c, xp = self._layouts[chunk.element], self.device.xp
        positions_ac, gradients_pc = arrays.positions_ac, arrays.gradients_pc
        n, n_slots, dtype = chunk.n, chunk.n_slots, self._dtype
        warps = _blocks(n * cuda.WARP)
        members_c = lists.members_c[chunk.first : chunk.first + n]
        offsets_b = lists.offsets_b[self._n_types * chunk.first :]
        n_rows_b = self._take("n_rows", (self._n_types * n,), np.int32)
        slot_p = self._take("slot", (n_slots,), np.int32)
        rows_kp = self._take("rows", (4, n_slots), dtype)
        piece_p = self._take("piece", (n_slots,), np.int32)
        x_p = self._take("x", (n_slots,), dtype)
        sizes = (np.int32(n), np.int32(self._n_types), np.int32(n_slots))

        self.device.launch(
            self._kernels, "environment", warps, positions_ac, lists.neighbours_p, members_c,
            *sizes, offsets_b, self._sel_t, self._rcut2, *self._switch, c.shift_k, c.scale_k,
            np.int32(c.tabulated), c.lookup_tx, c.cells_tx, c.pieces_q, c.first_q, n_rows_b,
            slot_p, rows_kp, piece_p, x_p, gradients_pc, arrays.totals,
        )  # fmt: skip

        rows = (offsets_b, n_rows_b)
        b_ckq = self._take("B", (n, 4, c.n_columns), dtype)
        nets: list[tuple[DeviceNet, int, Array, Array]] = []
        if c.tabulated:
            self.device.launch(
                self._kernels, "moment_by_tables", warps, *sizes, *rows, self._sel_t, rows_kp,
                piece_p, x_p, c.blocks_tx, c.starts_tx, c.coefficients, c.padding,
                np.int32(c.n_columns), b_ckq,
            )  # fmt: skip
        elif not c.nets:
            b_ckq[...] = 0
        for net in c.nets:
            start, end = (chunk.slots_t[net.neighbour + k] - chunk.first_slot for k in (0, 1))
            g_pm, dg_pm = self._embed(net, rows_kp[0, start:end])
            self.device.launch(
                self._kernels, "moment_by_net", warps, np.int32(n), np.int32(net.neighbour),
                np.int32(n_slots), np.int32(start), *rows, self._sel_t, rows_kp, g_pm,
                np.int32(c.n_columns), net.padding_km, self._divisor, np.int32(bool(nets)), b_ckq,
            )  # fmt: skip
            nets.append((net, start, g_pm, dg_pm))

        c_ckr, n_columns = b_ckq, c.n_columns
        if c.k_qr is not None:
            c_ckr, n_columns = self._take("C", (n, 4, c.rank), dtype), c.rank
            xp.matmul(b_ckq.reshape(4 * n, -1), c.k_qr, out=c_ckr.reshape(4 * n, -1))
        parameters_cf = None if parameters_af is None else parameters_af[members_c]
        dc_ckr = self._fit(c, c_ckr, n_columns, members_c, parameters_cf, arrays.energies_a)
        db_ckq = dc_ckr
        if c.k_qr is not None:
            db_ckq = self._take("dB", b_ckq.shape, dtype)
            xp.matmul(dc_ckr.reshape(4 * n, -1), c.k_rq, out=db_ckq.reshape(4 * n, -1))

        results = (
            *self._switch, c.scale_k, gradients_pc, arrays.forces_ac,
            arrays.virials_cx[chunk.first :],
        )  # fmt: skip
        where = (positions_ac, lists.neighbours_p, members_c)
        if c.tabulated:
            self.device.launch(
                self._kernels, "gradients_by_tables", warps, *where, *sizes, *rows, slot_p,
                rows_kp, piece_p, x_p, c.blocks_tx, c.starts_tx, c.coefficients, c.slopes,
                np.int32(c.n_columns), db_ckq, *results,
            )  # fmt: skip
        for net, start, g_pm, dg_pm in nets:
            self.device.launch(
                self._kernels, "gradients_by_net", warps, *where, np.int32(n),
                np.int32(net.neighbour), np.int32(n_slots), np.int32(start), *rows, slot_p,
                rows_kp, g_pm, dg_pm, np.int32(c.n_columns), db_ckq, *results,
            )  # fmt: skip

    def _embed(self, net: DeviceNet, s_p: Array) -> tuple[Array, Array]:
        """G and dG/ds of the slots of one neighbour element (an empty slot's s is 0)."""
        n = len(s_p)
        x_pi = self._take("net input", (2 * n, 1), self._dtype)
        x_pi[:n, 0] = s_p
        x_pi[n:] = 1
        for k, layer in enumerate(net.layers):
            width = layer.weight_io.shape[1]
            z_po = self._take("net z", (2 * n, width), self._dtype)
            self.device.xp.matmul(x_pi, layer.weight_io, out=z_po)
            last = k == len(net.layers) - 1
            # the last layer's is kept until the backward pass
            name = f"G{net.neighbour}" if last else f"net y{k % 2}"
            y_po = self._take(name, (2 * n, width), self._dtype)
            self.device.launch(
                self._kernels, "embedding_layer", _blocks(n * width), z_po, x_pi,
                layer.joins, layer.n_joined, np.int32(width),
                np.int64(n * width), layer.bias_o, layer.idt_o, *layer.activation, y_po,
            )  # fmt: skip
            x_pi = y_po
        return x_pi[:n], x_pi[n:]

    def _fit(
        self,
        c: DeviceLayout,
        c_ckr: Array,
        n_columns: int,
        members_c: Array,
        parameters_cf: Array | None,
        energies_a: Array,
    ) -> Array:
        """Energies to `energies_a`; returns dE/dC."""
        xp, kernels, dtype = self.device.xp, self._fitting_kernels, self._fitting_dtype
        n, warps = len(members_c), _blocks(len(members_c) * cuda.WARP)
        c_ckr = c_ckr.astype(dtype, copy=False)
        shape = (
            np.int32(n), np.int32(n_columns), np.int32(c.rank), np.int32(c.n_axis),
            np.int64(c.n_features),
        )  # fmt: skip
        x_ci = self._take("features", (n, c.n_features), dtype)
        self.device.launch(kernels, "features", warps, c_ckr, *shape, x_ci)
        slopes = []
        for k, layer in enumerate(c.layers):
            width = layer.weight_io.shape[1]
            y_co = self._take(f"fit{k}", (n, width), dtype)
            slope_co = self._take(f"slope{k}", (n, width), dtype)
            xp.matmul(x_ci, layer.weight_io, out=y_co)
            if k == 0 and parameters_cf is not None:
                y_co += parameters_cf @ c.parameter_weight_fo
            self.device.launch(
                kernels, "fitting_layer", _blocks(n * width), y_co, x_ci,
                np.int32(x_ci.shape[1]), layer.joins, layer.n_joined, np.int32(width),
                np.int64(n * width), layer.bias_o, layer.idt_o, *layer.activation, slope_co,
            )  # fmt: skip
            slopes.append(slope_co)
            x_ci = y_co
        self.device.launch(
            kernels, "energies", warps, x_ci, np.int32(n), np.int32(x_ci.shape[1]), c.last_o,
            np.float64(c.constant), members_c, energies_a,
        )  # fmt: skip

        if not c.layers and parameters_cf is not None:
            energies_a[members_c] += (parameters_cf @ c.parameter_weight_fo)[:, 0]

        dy = dx_ci = c.last_o  # of all centres, until a layer has taken it back
        for k in range(len(c.layers) - 1, -1, -1):
            layer, slope_co = c.layers[k], slopes[k]
            size = (np.int32(slope_co.shape[1]), np.int64(slope_co.size))
            blocks = _blocks(slope_co.size)
            if k == len(c.layers) - 1:
                self.device.launch(kernels, "last_layer_backward", blocks, dy, *size, slope_co)
            else:
                behind = c.layers[k + 1]
                stride = np.int32(0 if dy is c.last_o else dy.shape[1])
                self.device.launch(
                    kernels, "fitting_layer_backward", blocks, dx_ci, dy, stride, behind.joins,
                    behind.n_joined, *size, slope_co,
                )  # fmt: skip
                dy = dx_ci
            dx_ci = self._take(f"dfit{k}", (n, layer.weight_io.shape[0]), dtype)
            xp.matmul(slope_co, layer.weight_oi, out=dx_ci)
        # the first layer does not join its input
        df_cf = dx_ci if c.layers else xp.tile(c.last_o, (n, 1))
        dc_ckr = self._take("dC", c_ckr.shape, dtype)
        self.device.launch(
            kernels, "features_backward", warps, c_ckr, df_cf, *shape, dtype.type(self._divisor),
            dc_ckr,
        )  # fmt: skip
        return dc_ckr.astype(self._dtype, copy=False)


def _real(dtype: np.dtype) -> str:
    return "double" if dtype == np.float64 else "float"


def _blocks(n_threads: int) -> int:
    return -(-n_threads // cuda.THREADS)
