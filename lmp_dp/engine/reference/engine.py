"""The reference backend: the equations as they stand, on NumPy or CuPy, dense and padded.

It is the specification that the other backends are tested against. Centres are taken element
by element, in chunks that fit a memory budget.
"""

from __future__ import annotations

from types import ModuleType
from typing import NamedTuple

import numpy as np

from lmp_dp.engine import network, parameters
from lmp_dp.engine.namespace import to_numpy
from lmp_dp.engine.neighbourhood import Array, Neighbourhood, Outputs, Result
from lmp_dp.engine.reference import assembly, environment, pair_table
from lmp_dp.engine.reference.registry import FUNCTIONS, N_EMBEDDED
from lmp_dp.errors import BackendError
from lmp_dp.model.deep_potential import DeepPotential
from lmp_dp.model.descriptors.registry import Part
from lmp_dp.model.mapped import replace_parameters
from lmp_dp.model.pair_table import PairTable

#: Working memory for one chunk of centres (bytes).
CHUNK_BYTES = 128 * 2**20


class ReferenceEngine:
    """Evaluates a model with the array namespace `xp` (``numpy`` or ``cupy``)."""

    builds_lists = checks_finite = False

    def __init__(self, model: DeepPotential, xp: ModuleType = np) -> None:
        self.seconds: dict[str, float] = {}
        for part in model.descriptor.parts:
            if type(part) not in FUNCTIONS:
                raise BackendError(f"the reference backend knows no descriptor {part.kind}")
        self._model = model if xp is np else replace_parameters(model, xp.asarray)
        self._environments = [part.environment for part in model.descriptor.parts]
        if model.pair_table is not None:
            self._environments += model.pair_table.environments
        self._xp = xp
        per_centre = sum(map(_bytes_per_centre, model.descriptor.parts))
        self._chunk = max(1, CHUNK_BYTES // per_centre)

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
        parts = self._model.descriptor.parts
        centre_types_n = types_a[centres_n]
        for first in range(0, len(centres_n), self._chunk):
            chunk = slice(first, first + self._chunk)
            chunk_offsets_n = offsets_n[first : first + self._chunk + 1]
            lists = (positions_ac, types_a, centres_n[chunk], chunk_offsets_n, neighbours_p)
            selected = [environment.select_neighbours(*lists, of) for of in self._environments]
            # those that a pair table leaves out are far away
            dropped += sum(of_part.dropped for of_part in selected[: len(parts)])
            for t in range(len(self._model.type_map)):
                members_n = xp.nonzero(centre_types_n[chunk] == t)[0]
                if len(members_n) == 0:
                    continue
                centre_n = centres_n[chunk][members_n]
                energies_n, pairs = self._evaluate(
                    t,
                    _Positions(positions_ac, types_a),
                    centre_n,
                    [of_part.around(members_n) for of_part in selected],
                    parameters_af[centre_n],
                )
                energies_a[centre_n] = energies_n
                for of in pairs:
                    beyond += of.beyond_table
                    filled = of.slots_ns >= 0
                    virial_cc += assembly.add_pairs(
                        of.g_nsc[filled],
                        of.r_nsc[filled],
                        xp.broadcast_to(centre_n[:, None], filled.shape)[filled],
                        of.slots_ns[filled],
                        of.share_of_centre,
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
        self,
        t: int,
        atoms: _Positions,
        centre_n: Array,
        slots: list[environment.Slots],
        parameters_nf: Array,
    ) -> tuple[Array, list[_Pairs]]:
        """Energies of centres of element `t`, and the pairs of each part of the model."""
        xp, fitting, parts = self._xp, self._model.fitting, self._model.descriptor.parts
        seen = [
            environment.rows(part.environment, part.dtype, t, *atoms, centre_n, of_part)
            for part, of_part in zip(parts, slots, strict=False)
        ]
        evaluated = [
            FUNCTIONS[type(part)](part, t, rows) for part, rows in zip(parts, seen, strict=True)
        ]
        d_nd = xp.concatenate([of.d_nd.astype(fitting.dtype) for of in evaluated], axis=1)
        energies_n, dd_nd = self._fit(t, d_nd, parameters_nf)
        pairs: list[_Pairs] = []
        if self._model.pair_table is not None and not fitting.is_silent(t):
            of_pairs = [
                pair_table.Slots(
                    of.neighbour_ns,
                    of.types_ns(atoms.types_a),
                    environment.displacements(atoms.positions_ac, centre_n, of.neighbour_ns),
                )
                for of in slots[len(parts) :]
            ]
            energies_n, weight_n, pairs = _with_pair_table(
                self._model.pair_table, t, energies_n, of_pairs
            )
            dd_nd = dd_nd * weight_n[:, None].astype(dd_nd.dtype)

        first = 0
        for part, rows, of in zip(parts, seen, evaluated, strict=True):
            of_part = slice(first, first + part.n_out)
            first = of_part.stop
            back = of.backward(dd_nd[:, of_part].astype(part.dtype))
            drows_nsk, dr_nsc = back if isinstance(back, tuple) else (back, 0.0)
            dstd_k = xp.asarray(part.environment.dstd_tk[t])
            of_rows_nsk = drows_nsk.astype(xp.float64) / dstd_k
            g_nsc = environment.backward(of_rows_nsk, rows.slopes_nskc) + dr_nsc
            pairs.append(_Pairs(rows.slots_ns, rows.r_nsc, g_nsc, of.beyond_table))
        return energies_n, pairs

    def _fit(self, t: int, d_nd: Array, parameters_nf: Array) -> tuple[Array, Array]:
        """Energies of centres of element `t`, and dE/dD."""
        xp, fitting = self._xp, self._model.fitting
        net = fitting.net(t)
        inputs = [parameters_nf]
        vacuum = [xp.zeros_like(d_nd), parameters_nf]
        if fitting.type_to is not None:
            told_no = xp.tile(fitting.type_to[t], (len(d_nd), 1))
            inputs.insert(0, told_no)
            vacuum.insert(1, told_no if fitting.vacuum_is_typed else xp.zeros_like(told_no))
        e_n1, slopes = network.forward(net, xp.concatenate([d_nd, *inputs], axis=1))
        dd_nd = network.backward(net, xp.ones_like(e_n1), slopes)[:, : d_nd.shape[1]]
        if fitting.subtract_vacuum_t[t]:
            e_n1 = e_n1 - network.forward(net, xp.concatenate(vacuum, axis=1))[0]
        energies_n = e_n1[:, 0].astype(xp.float64) + fitting.bias_atom_e_t[t]
        if fitting.is_silent(t):
            return xp.zeros_like(energies_n), xp.zeros_like(dd_nd)
        return energies_n, dd_nd


class _Pairs(NamedTuple):
    """Slots of centres, displacements, pair gradients, how many neighbours are too close, and what
    part of a pair's virial is the centre's."""

    slots_ns: Array
    r_nsc: Array
    g_nsc: Array
    beyond_table: int
    share_of_centre: float = 0.0


def _with_pair_table(
    table: PairTable, t: int, energies_n: Array, found: list[pair_table.Slots]
) -> tuple[Array, Array, list[_Pairs]]:
    """Energies with the table's, the weight of the nets' in them, and the table's own pairs."""
    of_energies, of_nearness = found[0], found[-1]
    l_n, dl_ns = pair_table.nearness(table, of_nearness)
    e_n, de_ns, too_close = pair_table.energies(table, t, of_energies)
    of_table = pair_table.gradients(of_energies, l_n[:, None] * de_ns)
    of_weight = pair_table.gradients(of_nearness, (e_n - energies_n)[:, None] * dl_ns)
    share = table.share_of_centre
    pairs = [
        _Pairs(of_energies.slots_ns, of_energies.r_nsc, of_table, too_close, share),
        _Pairs(of_nearness.slots_ns, of_nearness.r_nsc, of_weight, 0),
    ]
    return energies_n + l_n * (e_n - energies_n), 1.0 - l_n, pairs


class _Positions(NamedTuple):
    """All atoms, local ones and ghosts."""

    positions_ac: Array
    types_a: Array


def _bytes_per_centre(part: Part) -> int:
    """Of activations and slopes of every layer, gradients, rows and their slopes."""
    per_input = 12 * part.n_channels * part.dtype.itemsize
    return N_EMBEDDED[type(part)](part) * per_input + part.environment.n_slots * 8 * 60
