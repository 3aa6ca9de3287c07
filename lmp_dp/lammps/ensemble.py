"""The models of one pair style: the first drives the atoms, all of them give model deviations."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lmp_dp.engine import Neighbourhood, Outputs, Potential, Result
from lmp_dp.errors import InputError
from lmp_dp.lammps import prepared, type_table
from lmp_dp.lammps.arguments import Arguments
from lmp_dp.lammps.bridge import Shared, View
from lmp_dp.lammps.model_deviation import DeviationFile, force_deviation, virial_deviation
from lmp_dp.lammps.units import Units
from lmp_dp.text import printable


class Ensemble:
    """Models with the same elements.

    Parameters
    ----------
    shared : Shared
        Gets the addresses of buffers, which live as long as this object.
    arguments : Arguments

    Attributes
    ----------
    potentials : list of Potential

    Raises
    ------
    LmpDpError
        If a model cannot be loaded, or not for the backend asked for, or they do not fit together.
    """

    def __init__(self, shared: Shared, arguments: Arguments) -> None:
        self.shared, self.arguments = shared, arguments
        models, options = prepared.models(shared.run, arguments.models), arguments.engine
        self.potentials = [Potential(model, **options) for model in models]
        if len({potential.builds_lists for potential in self.potentials}) > 1:
            # auto, and there are kernels for some of the models: they need the same lists
            for potential in self.potentials:
                potential.close()
            self.potentials = [
                Potential(model, **{**options, "backend": "cpu"}) for model in models
            ]
        for potential in self.potentials:
            potential.on_warning = None  # see `news`
            potential.warm_up()  # compiled kernels before the first step, not in it
        self._orders = [self._order(other) for other in self.potentials]

        run, n_models = shared.run, len(self.potentials)
        run.n_models = n_models
        self._counts_wu = np.zeros((n_models, 2), np.int64)  # `Watch.totals` of each
        run.counts = self._counts_wu.ctypes.data
        run.watching = not self._silent

        self._forces_awc = np.empty((1, n_models, 3))
        self._virials_wu = np.empty((n_models, 9))
        self._deviations_a = np.empty(0)
        self._file: DeviationFile | None = None

    def open_file(self) -> None:
        """The file of deviations on the first rank, when all else is fine."""
        run, arguments = self.shared.run, self.arguments
        if len(self.potentials) > 1 and arguments.out_freq and run.rank == 0:
            self._file = DeviationFile(arguments.out_file, bool(run.restarted), arguments.atomic)

    def close(self) -> None:
        """Engines end their threads and let go of a device."""
        if self._file is not None:
            self._file.close()
        for potential in self.potentials:
            potential.close()

    def _order(self, other: Potential) -> NDArray[np.int32]:
        """Types of another model by those of the first; the last one stands for type -1."""
        mine, theirs = self.potentials[0].type_map, other.type_map
        if set(mine) != set(theirs):
            paths = self.arguments.models
            raise InputError(
                f"the models must have the same elements (in any order), but {paths[0]} has "
                f"{' '.join(mine)} and {paths[self.potentials.index(other)]} has {' '.join(theirs)}"
            )
        return np.array([*(theirs.index(name) for name in mine), type_table.ABSENT], np.int32)

    @property
    def plan(self) -> str:
        """What is done with several models, as a line."""
        every, file = self.arguments.out_freq, printable(self.arguments.out_file)
        if len(self.potentials) == 1:
            return ""
        if not every:
            return "  the first model drives the atoms, the others are not evaluated (out_freq 0)\n"
        return (
            f"  the first model drives the atoms, model deviation every {every} steps in {file}\n"
        )

    # ------------------------------------------------------------------- model deviation

    @property
    def deviates(self) -> bool:
        """Whether deviations are wanted at this step."""
        every = self.arguments.out_freq
        return len(self.potentials) > 1 and every > 0 and self.shared.step.timestep % every == 0

    def evaluate_all(self, neighbourhood: Neighbourhood, first: Result) -> None:
        """Leave forces and virials of all models for the plugin; the first is evaluated already."""
        deviation, n_all = self.shared.deviation, self.shared.step.n_all
        if len(self._forces_awc) < n_all:
            self._forces_awc = np.empty((n_all + n_all // 8, len(self.potentials), 3))
        results = [first]
        types_a = neighbourhood.types_a
        for potential, order in zip(self.potentials[1:], self._orders[1:], strict=True):
            neighbourhood.types_a = order[types_a]
            results.append(potential.compute(neighbourhood, Outputs(virial=True, borrowed=True)))
        for number, result in enumerate(results):
            assert result.virial_cc is not None
            self._forces_awc[:n_all, number] = result.forces_ac
            self._virials_wu[number] = result.virial_cc.ravel()
        deviation.model_forces = self._forces_awc.ctypes.data
        deviation.model_virials = self._virials_wu.ctypes.data

    def deviate(self, units: Units) -> None:
        """Deviation of the forces on this rank's atoms, which are complete now."""
        shared, level = self.shared, self.arguments.relative
        self._deviations_a = force_deviation(
            self._forces_awc[: shared.step.n_local],
            None if level is None else level / units.energy,
        )
        shared.deviation.deviations = self._deviations_a.ctypes.data

    def record(self, units: Units) -> None:
        """A row of the file, on the first rank, from what the plugin has gathered."""
        assert self._file is not None
        deviation, level = self.shared.deviation, self.arguments.relative_v
        n_atoms = deviation.n_atoms
        virial_u = virial_deviation(
            self._virials_wu, n_atoms, None if level is None else level / units.energy
        )
        # As in pair style deepmd, relative deviations get the factors of the units as well.
        self._file.write(
            self.shared.step.timestep,
            virial_u * units.energy,
            View(np.float64).at(deviation.all_deviations, n_atoms) * units.force,
            View(self.shared.run.tag_type).at(deviation.all_tags, n_atoms)
            if deviation.all_tags
            else None,
        )

    # ------------------------------------------------------------------- what is watched

    @property
    def _silent(self) -> bool:
        return all(potential.watch.silent for potential in self.potentials)

    def count(self) -> None:
        """What the models could not represent on this rank, for the plugin to add up."""
        self._counts_wu[:] = [list(model.watch.totals.values()) for model in self.potentials]

    @property
    def totals_u(self) -> list[int]:
        """What all models on all ranks could not represent."""
        return list(self._counts_wu.sum(axis=0).tolist())

    def news(self) -> str | None:
        """The warning; counts are those of all ranks, so all of them know what has been said."""
        texts = []
        for path, potential, totals_u in zip(
            self.arguments.models, self.potentials, self._counts_wu.tolist(), strict=True
        ):
            if text := potential.watch.warning(totals_u):
                texts.append(text if len(self.potentials) == 1 else f"{path}: {text}")
        self.shared.run.watching = not self._silent
        step = self.shared.step.timestep
        return f"pair_style dp: {'; '.join(texts)} (up to step {step})" if texts else None
