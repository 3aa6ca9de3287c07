"""The reference backend: the equations as they stand, on NumPy or CuPy, dense and padded.

It is the specification that the other backends are tested against. Centres are taken element
by element, in chunks that fit a memory budget.
"""

from __future__ import annotations

import dataclasses
from types import ModuleType

import numpy as np

from lmp_dp.engine import assembly, descriptor, environment, network, parameters
from lmp_dp.engine.namespace import to_numpy
from lmp_dp.engine.neighbourhood import Array, Neighbourhood, Outputs, Result
from lmp_dp.model.deep_potential import DeepPotential
from lmp_dp.model.network import Layer, Network

#: Working memory for one chunk of centres (bytes).
CHUNK_BYTES = 128 * 2**20


class ReferenceEngine:
    """Evaluates a model with the array namespace `xp` (``numpy`` or ``cupy``)."""

    builds_lists = False

    def __init__(self, model: DeepPotential, xp: ModuleType = np) -> None:
        self.seconds: dict[str, float] = {}
        self._model = _in_namespace(model, xp)
        self._xp = xp
        d = model.descriptor
        # per slot: activations and slopes of every layer, gradients, rows and their slopes
        per_slot = d.dtype.itemsize * 12 * d.n_channels + 8 * 60
        self._chunk = max(1, CHUNK_BYTES // (int(d.sel_t.sum()) * per_slot))

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
                self._model.descriptor.sel_t,
                self._model.descriptor.excluded_tt,
                self._model.descriptor.rcut,
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
        r_nsc, rows_nsk, slopes_nskc = environment.forward(
            positions_ac, centre_n, slots_ns, d.rcut, d.rcut_smth
        )
        normalised_nsk = ((rows_nsk - d.davg_tk[t]) / d.dstd_tk[t]).astype(d.dtype)
        filled_ns = slots_ns >= 0
        d_nd, tape = descriptor.forward(d, t, normalised_nsk, filled_ns)

        net = fitting.nets[t]
        d_nd = d_nd.astype(fitting.dtype)
        e_n1, slopes = network.forward(net, xp.concatenate([d_nd, parameters_nf], axis=1))
        if fitting.subtract_vacuum_t[t]:
            vacuum_nd = xp.concatenate([xp.zeros_like(d_nd), parameters_nf], axis=1)
            e_n1 = e_n1 - network.forward(net, vacuum_nd)[0]
        energies_n = e_n1[:, 0].astype(xp.float64) + fitting.bias_atom_e_t[t]

        dd_nd = network.backward(net, xp.ones_like(e_n1), slopes)[:, : d_nd.shape[1]]
        drows_nsk = descriptor.backward(d, dd_nd.astype(d.dtype), tape).astype(xp.float64)
        g_nsc = environment.backward(drows_nsk / d.dstd_tk[t], slopes_nskc)
        beyond = descriptor.beyond_tables(d, t, normalised_nsk, filled_ns)
        return energies_n, r_nsc, g_nsc, beyond


def _in_namespace(model: DeepPotential, xp: ModuleType) -> DeepPotential:
    """The same model with the arrays that meet atoms as arrays of `xp`."""
    if xp is np:
        return model

    d, fitting = model.descriptor, model.fitting
    return dataclasses.replace(
        model,
        descriptor=dataclasses.replace(
            d,
            davg_tk=xp.asarray(d.davg_tk),
            dstd_tk=xp.asarray(d.dstd_tk),
            embeddings=tuple(_moved(net, xp) for net in d.embeddings),
        ),
        fitting=dataclasses.replace(fitting, nets=tuple(_moved(net, xp) for net in fitting.nets)),
    )


def _moved(net: Network, xp: ModuleType) -> Network:
    def array(value: Array | None) -> Array:
        return None if value is None else xp.asarray(value)

    return Network(
        tuple(
            Layer(
                array(layer.weight_io),
                array(layer.bias_o),
                array(layer.idt_o),
                layer.activation,
                layer.joins,
            )
            for layer in net.layers
        )
    )
