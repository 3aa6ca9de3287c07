"""The reference backend: the equations as they stand, on NumPy or CuPy, dense and padded.

It is the specification that the other backends are tested against. Centres are taken element
by element, in chunks that fit a memory budget.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np

from lmp_dp.engine import network, parameters
from lmp_dp.engine.namespace import to_numpy
from lmp_dp.engine.neighbourhood import Array, Neighbourhood, Outputs, Result
from lmp_dp.engine.reference import assembly, environment
from lmp_dp.engine.reference.registry import FUNCTIONS
from lmp_dp.errors import BackendError
from lmp_dp.model.deep_potential import DeepPotential
from lmp_dp.model.mapped import replace_all
from lmp_dp.model.network import Layer, Network

#: Working memory for one chunk of centres (bytes).
CHUNK_BYTES = 128 * 2**20


class ReferenceEngine:
    """Evaluates a model with the array namespace `xp` (``numpy`` or ``cupy``)."""

    builds_lists = False

    def __init__(self, model: DeepPotential, xp: ModuleType = np) -> None:
        self.seconds: dict[str, float] = {}
        kind = type(model.descriptor)
        if kind not in FUNCTIONS:
            raise BackendError(f"the reference backend knows no descriptor {kind.kind}")
        self._function = FUNCTIONS[kind]
        self._model = model if xp is np else _in_namespace(model, xp)
        self._environment = model.descriptor.environment
        self._xp = xp
        # per slot: activations and slopes of every layer, gradients, rows and their slopes
        per_slot = 12 * model.descriptor.n_channels * model.descriptor.dtype.itemsize + 8 * 60
        n_slots = int(self._environment.sel_t.sum())
        self._chunk = max(1, CHUNK_BYTES // (n_slots * per_slot))

    def memory(self) -> str:
        """Nothing is held on a device."""
        return ""

    def close(self) -> None:
        """Nothing is held between evaluations."""

    def compute(self, nb: Neighbourhood, outputs: Outputs) -> Result:
        """Energy, forces and what `outputs` asks for; arrays of the result are NumPy's."""
        xp = self._xp
        positions_ac, types_a = xp.asarray(nb.positions_ac), xp.asarray(nb.types_a)
        offsets_n, neighbours_p = xp.asarray(nb.offsets_n), xp.asarray(nb.neighbours_p)
        centres_n = xp.asarray(nb.centres_n)
        n_all = len(positions_ac)
        forces_ac = xp.zeros((n_all, 3))
        energies_a = xp.zeros(n_all)
        virial_cc = xp.zeros((3, 3))
        atom_virials_acc = xp.zeros((n_all, 3, 3)) if outputs.atom_virials else None
        parameters_af = xp.asarray(parameters.of_atoms(self._model.fitting, nb))

        dropped = beyond = 0
        centre_types_n = types_a[centres_n]
        for first in range(0, len(centres_n), self._chunk):
            chunk = slice(first, first + self._chunk)
            chunk_offsets_n = offsets_n[first : first + self._chunk + 1]
            slots_ns, n_dropped = environment.select_neighbours(
                positions_ac,
                types_a,
                centres_n[chunk],
                chunk_offsets_n,
                neighbours_p,
                self._environment,
            )
            dropped += n_dropped
            for t in range(len(self._model.type_map)):
                members_n = xp.nonzero(centre_types_n[chunk] == t)[0]
                if len(members_n) == 0:
                    continue
                centre_n, slots = centres_n[chunk][members_n], slots_ns[members_n]
                energies_n, r_nsc, g_nsc, n_beyond = self._evaluate(
                    t, positions_ac, centre_n, slots, parameters_af[centre_n]
                )
                beyond += n_beyond
                energies_a[centre_n] = energies_n
                filled = slots >= 0
                virial_cc += assembly.add_pairs(
                    g_nsc[filled],
                    r_nsc[filled],
                    xp.broadcast_to(centre_n[:, None], slots.shape)[filled],
                    slots[filled],
                    forces_ac,
                    atom_virials_acc,
                )
        return Result(
            energy=float(energies_a.sum()),
            forces_ac=to_numpy(forces_ac),
            virial_cc=to_numpy(virial_cc) if outputs.virial else None,
            atom_energies_a=to_numpy(energies_a) if outputs.atom_energies else None,
            atom_virials_acc=None if atom_virials_acc is None else to_numpy(atom_virials_acc),
            dropped=dropped,
            beyond_table=beyond,
        )

    def _evaluate(
        self, t: int, positions_ac: Array, centre_n: Array, slots_ns: Array, parameters_nf: Array
    ) -> tuple[Array, Array, Array, int]:
        """Energies, displacements, pair gradients and neighbours too close, for element `t`."""
        xp, d, fitting = self._xp, self._model.descriptor, self._model.fitting
        davg_k, dstd_k = (
            xp.asarray(of_tk[t]) for of_tk in (self._environment.davg_tk, self._environment.dstd_tk)
        )
        r_nsc, rows_nsk, slopes_nskc = environment.forward(
            positions_ac, centre_n, slots_ns, self._environment
        )
        normalised_nsk = ((rows_nsk - davg_k) / dstd_k).astype(d.dtype)
        evaluated = self._function(d, t, normalised_nsk, slots_ns >= 0)

        net = fitting.nets[t]
        d_nd = evaluated.d_nd.astype(fitting.dtype)
        e_n1, slopes = network.forward(net, xp.concatenate([d_nd, parameters_nf], axis=1))
        if fitting.subtract_vacuum_t[t]:
            vacuum_nd = xp.concatenate([xp.zeros_like(d_nd), parameters_nf], axis=1)
            e_n1 = e_n1 - network.forward(net, vacuum_nd)[0]
        energies_n = e_n1[:, 0].astype(xp.float64) + fitting.bias_atom_e_t[t]

        dd_nd = network.backward(net, xp.ones_like(e_n1), slopes)[:, : d_nd.shape[1]]
        drows_nsk = evaluated.backward(dd_nd.astype(d.dtype)).astype(xp.float64)
        g_nsc = environment.backward(drows_nsk / dstd_k, slopes_nskc)
        return energies_n, r_nsc, g_nsc, evaluated.beyond_table


def _in_namespace(model: DeepPotential, xp: ModuleType) -> DeepPotential:
    """The same model with the parameters of its nets as arrays of `xp`."""

    def moved(layer: Layer) -> Layer:
        return Layer(
            xp.asarray(layer.weight_io),
            xp.asarray(layer.bias_o),
            None if layer.idt_o is None else xp.asarray(layer.idt_o),
            layer.activation,
            layer.joins,
        )

    return replace_all(model, Network, lambda net: Network(tuple(map(moved, net.layers))))
