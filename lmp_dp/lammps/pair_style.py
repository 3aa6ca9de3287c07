"""`PairStyle`: one pair style dp. It maps types, units and flags; nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmp_dp.engine import Neighbourhood, Outputs, Result
from lmp_dp.errors import InputError
from lmp_dp.lammps import bad_atoms, devices, model_parameters, timing, type_table
from lmp_dp.lammps.arguments import read_arguments
from lmp_dp.lammps.banner import banner
from lmp_dp.lammps.bridge import Shared, View
from lmp_dp.lammps.ensemble import Ensemble
from lmp_dp.lammps.units import Units, units_of
from lmp_dp.lammps.virials import centroid9, symmetric6
from lmp_dp.text import printable
from lmp_dp.threads import threads_per_rank

#: What `Watch.totals` counts, as said at the end of a run.
REPORTS = (
    "neighbours were left out because the model's sel is too small",
    "pairs were closer than the model's tables were made for",
)


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
        self.shared = shared
        self.arguments = read_arguments(words)
        options = self.arguments.engine
        options.setdefault(
            "threads", threads_per_rank(shared.run.local_size, shared.run.node_cores)
        )
        self._wall, self._atom_steps = 0.0, 0
        device = devices.choose(shared.run, options)
        self.ensemble = Ensemble(shared, self.arguments)
        self.potential = self.ensemble.potentials[0]
        if device.name and (self.potential.backend == "gpu" or device.remark):
            shared.run.device = device.name.encode()
        if device.remark:
            self.say(None, f"pair_style dp: {device.remark}")
        shared.run.builds_lists = self.potential.builds_lists
        self.units: Units | None = None
        self.types_y: NDArray[np.int32] | None = None
        self._table_shown = False

        # Model type per LAMMPS type with an entry in front, since LAMMPS counts types from 1.
        self._map = np.full(1, type_table.ABSENT, np.int32)
        # of the last step: LAMMPS's, and the model's
        self._types_a = self._model_types_a = np.empty(0, np.int32)
        self._build = 0
        # in other units than those of the engine and of LAMMPS
        self._positions_ac = self._forces_ac = np.empty((0, 3))
        self._x, self._f = View(np.float64, 3), View(np.float64, 3)
        self._lammps_types, self._tags = View(np.int32), View(shared.run.tag_type)
        self._centres, self._neighbours = View(np.int32), View(np.int32)
        self._offsets = View(np.int64)
        self._energies = View(np.float64)
        self._virials6, self._virials9 = View(np.float64, 6), View(np.float64, 9)

        model_parameters.announce(shared.parameters, self.arguments, self.ensemble.potentials)
        self.ensemble.open_file()

    def coeff(self, names: Sequence[str]) -> None:
        """`pair_coeff * * names`: map LAMMPS types to model types; the units are known now."""
        run = self.shared.run
        try:
            units = units_of(run.unit_style.decode(), run.boltz, run.angstrom)
        except ValueError as error:
            raise InputError(str(error)) from None
        self.units = units
        run.cutoff = max(model.rcut for model in self.ensemble.potentials) * units.length

        type_map = self.potential.type_map
        names, warning = type_table.complete(names, type_map, run.n_types)
        if warning:
            self.say(None, f"pair_style dp: {warning}")
        types_y = type_table.model_types(names, type_map, run.n_types)
        self.types_y = types_y
        self._map = np.concatenate([np.full(1, type_table.ABSENT, np.int32), types_y])
        self._types_a = np.empty(0, np.int32)  # to be mapped anew
        View(np.int32).at(run.model_types, run.n_types + 1)[:] = self._map
        self._table_shown = False

    def init(self) -> None:
        """Before each run: once per mapping the banner and the table of types."""
        if self.types_y is None or self.units is None:
            raise InputError("pair_coeff is missing: write pair_coeff * * and the elements")
        if not self._table_shown:
            self._show_table(self.types_y, self.units)
            self._table_shown = True

    def say(self, log: str | None, warning: str | None = None) -> None:
        """Leave text for LAMMPS's screen and log file, and for its warnings."""
        # ctypes keeps the bytes alive through `shared` until the fields are set again
        self.shared.log = log.encode(errors="backslashreplace") if log else None
        self.shared.warning = printable(warning).encode() if warning else None

    def _show_table(self, types_y: NDArray[np.int32], units: Units) -> None:
        run = self.shared.run
        masses_y = None
        if run.masses:
            masses_y = View(np.float64).at(run.masses, run.n_types + 1)[1:] / units.mass
        models = list(zip(self.arguments.models, self.ensemble.potentials, strict=True))
        version, plan = run.lammps_version.decode(), self.ensemble.plan
        self.say(*banner("pair_style dp", version, models, plan, types_y, masses_y))

    def count(self) -> None:
        """What the models could not represent on this rank, for the plugin to add up."""
        self.ensemble.count()

    def warn(self) -> None:
        """Leave a warning about what any rank has met for the first time."""
        self.say(None, self.ensemble.news())

    def compute(self) -> None:
        """One step: call the engine on LAMMPS's arrays, and add what it gives."""
        start = perf_counter()
        step, units = self.shared.step, self.units
        assert units is not None  # coeff() ran
        tags_a = self._tags.at(step.tags, step.n_all)
        positions_ac = self._positions(units)
        checked = self.potential.checks_finite
        if not checked:
            bad_atoms.check_positions(positions_ac, tags_a)
        neighbourhood = self._neighbourhood(positions_ac, units)
        deviates = self.ensemble.deviates
        result = self.potential.compute(
            neighbourhood,
            Outputs(
                virial=deviates or bool(step.want_virial),
                atom_energies=step.energies is not None,
                atom_virials=step.virials6 is not None or step.virials9 is not None,
                borrowed=True,
            ),
        )
        if not result.finite:
            bad_atoms.check_positions(positions_ac, tags_a)
        if not (checked and result.finite):
            bad_atoms.check_result(result, neighbourhood, tags_a)
        if result.warning:
            self.say(None, f"pair_style dp: {result.warning}")
        self._add(result, units)
        self.shared.deviation.model_forces = None
        if deviates:
            self.ensemble.evaluate_all(neighbourhood, result)
        self._wall += perf_counter() - start
        self._atom_steps += step.n_local

    def _positions(self, units: Units) -> NDArray[np.float64]:
        """In Å; LAMMPS's own array if that is its unit."""
        step = self.shared.step
        x_ac = self._x.at(step.x, step.n_all)
        if units.length == 1.0:
            return x_ac
        if len(self._positions_ac) != step.n_all:
            self._positions_ac = np.empty((step.n_all, 3))
        return np.multiply(x_ac, 1.0 / units.length, out=self._positions_ac)

    def _neighbourhood(self, positions_ac: NDArray[np.float64], units: Units) -> Neighbourhood:
        """What the engine is given at this step."""
        shared, step = self.shared, self.shared.step
        # Types may change without a new neighbour list; what the engine derived from them must go.
        types_a = self._lammps_types.at(step.types, step.n_all)
        if step.rebuilt or not np.array_equal(types_a, self._types_a):
            self._build += 1
            self._types_a = types_a.copy()
            self._model_types_a = np.take(self._map, types_a)

        # Without new lists of LAMMPS's, atoms may be half a skin from where those were made, and go
        # as far to the other side: an engine that builds its own now (for a model that is evaluated
        # at some steps only, or changed types) has to look twice as far.
        skin = step.skin / units.length * (1.0 if step.rebuilt else 2.0)
        lists: tuple[Any, Any, Any] = (None, None, None)
        if not shared.run.builds_lists:
            lists = (
                self._centres.at(step.centres, step.n_centres),
                self._offsets.at(step.offsets, step.n_centres + 1),
                self._neighbours.at(step.neighbours, step.n_neighbours),
            )
        neighbourhood = Neighbourhood(
            positions_ac,
            self._model_types_a,
            step.n_local,
            *lists,
            build=self._build,
            skin=skin,
        )
        x_nc = self._x.array[: step.n_local]
        model_parameters.add(neighbourhood, shared, self.arguments, x_nc)
        return neighbourhood

    def deviate(self) -> None:
        """Deviation of the forces on this rank's atoms, which are complete now."""
        assert self.units is not None  # coeff() ran
        self.ensemble.deviate(self.units)

    def record(self) -> None:
        """A row of the file of deviations, on the first rank."""
        assert self.units is not None
        self.ensemble.record(self.units)

    def _add(self, result: Result, units: Units) -> None:
        """Add a result to LAMMPS's arrays, in LAMMPS's units."""
        step = self.shared.step
        n_all = step.n_all
        energy = units.energy * step.scale
        force = units.force * step.scale

        f_ac = self._f.at(step.f, n_all)
        forces_ac = result.forces_ac
        if force != 1.0:
            if len(self._forces_ac) != n_all:
                self._forces_ac = np.empty((n_all, 3))
            forces_ac = np.multiply(forces_ac, force, out=self._forces_ac)
        np.add(f_ac, forces_ac, out=f_ac)
        step.energy = result.energy * energy
        if step.want_virial:
            assert result.virial_cc is not None
            step.virial[:] = (symmetric6(result.virial_cc) * energy).tolist()

        if step.energies is not None:
            energies_a = self._energies.at(step.energies, n_all)
            energies_a += result.atom_energies_a * energy
        virials_acc = result.atom_virials_acc
        if virials_acc is not None:
            if step.virials6 is not None:
                virials6_au = self._virials6.at(step.virials6, n_all)
                virials6_au += symmetric6(virials_acc) * energy
            if step.virials9 is not None:
                virials9_au = self._virials9.at(step.virials9, n_all)
                virials9_au += centroid9(virials_acc) * energy

    def finish(self) -> None:
        """After each run: totals of what the model could not represent, and the times."""
        lines = [
            f"pair_style dp: in total {count} {text}\n"
            for count, text in zip(self.ensemble.totals_u, REPORTS, strict=True)
            if count
        ]
        if self.potential.memory:
            lines.append(f"pair_style dp: {self.potential.memory}\n")
        if self.arguments.timing:
            seconds = dict.fromkeys(self.potential.seconds, 0.0)
            for potential in self.ensemble.potentials:
                for stage in seconds:
                    seconds[stage] += potential.seconds[stage]
                    potential.seconds[stage] = 0.0
            lines.append(
                timing.table(seconds, self._wall, self.potential.threads, self._atom_steps)
            )
            self._wall, self._atom_steps = 0.0, 0
        self.say("".join(lines) or None, self.ensemble.news())

    def close(self) -> None:
        """The pair style is gone."""
        self.ensemble.close()
