"""`LmpDP`: a Deep Potential as a calculator of ASE (`pip install 'lmp-dp[ase]'`)."""

from __future__ import annotations

import inspect
import os
from typing import Any

try:
    from ase import Atoms
    from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
    from ase.stress import full_3x3_to_voigt_6_stress
except ImportError as error:
    raise ImportError(f"lmp_dp.ase needs ASE ({error}): pip install 'lmp-dp[ase]'") from error

from lmp_dp.engine import Potential
from lmp_dp.errors import InputError
from lmp_dp.model import DeepPotential


class LmpDP(Calculator):
    """ASE calculator: energy, free_energy, forces, stress, energies and stresses (eV, Å).

    Elements are found by their symbols. Stresses have ASE's sign and order, dE/d(strain)/volume as
    xx, yy, zz, yz, xz, xy; those of the atoms sum to that of the cell, each pair's part being given
    to the neighbour, as in DeePMD-kit. They need a cell of three vectors, whose volume they are
    relative to, also where a direction is not periodic.

    It can be copied and pickled, with or without its atoms, as `lmp_dp.Potential`; `todict` (what
    ASE writes to databases and trajectories) has the path of the model file and the options.

    Parameters
    ----------
    model : path or DeepPotential
        A model file, one that can be converted, or a model in memory.
    **options
        Those of `lmp_dp.Potential`: backend, precision, threads, sel, table, device, compress.

    Raises
    ------
    lmp_dp.errors.LmpDpError
        As `lmp_dp.Potential`; `InputError` for an option that does not exist. When something is
        calculated, `InputError` for an element that the model does not have, for two atoms in one
        place, and for a periodic direction without a cell vector.

    Examples
    --------
    >>> atoms.calc = LmpDP("water.h5")                                      # doctest: +SKIP
    >>> atoms.get_potential_energy()                                        # doctest: +SKIP
    """

    implemented_properties: list[str] = [  # noqa: RUF012 - declared so by ASE
        "energy",
        "free_energy",
        "forces",
        "stress",
        "energies",
        "stresses",
    ]

    def __init__(self, model: str | os.PathLike[str] | DeepPotential, **options: Any) -> None:
        _refuse_unknown(options)
        super().__init__(model=model, **options)  # calls `set`

    def set(self, **options: Any) -> dict[str, Any]:
        """Change the model or options; returns those that have changed."""
        _refuse_unknown(options)
        self.potential = Potential(**{**self.parameters, **options})
        self.parameters.update(options)
        self.reset()
        return options

    def todict(self, skip_default: bool = True) -> dict[str, Any]:
        """Model and options as ASE stores them; a model that was given in memory is named so."""
        model = self.parameters["model"]
        if isinstance(model, DeepPotential):
            model = f"in memory, from {model.provenance.source_file or 'an unknown source'}"
        return {**self.parameters, "model": os.fspath(model)}

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Evaluate the model; ASE calls this when a result is asked for that is not known yet."""
        super().calculate(atoms, properties, system_changes)
        system: Any = self.atoms  # a copy, made by ASE
        endless = system.pbc & (system.cell.lengths() == 0.0)
        if endless.any():
            raise InputError(
                f"pbc is {system.pbc.tolist()}, but the cell {system.cell.tolist()} has no vector "
                f"for a periodic direction: set the cell, or pbc to False"
            )
        found = self.potential.evaluate(
            system.positions,
            system.get_chemical_symbols(),
            # vectors of open directions may be missing; any that spans a volume will do
            system.cell.complete().array if system.pbc.any() else None,
            tuple(system.pbc),
        )
        self.results = {
            "energy": found.energy,
            "free_energy": found.energy,
            "forces": found.forces,
            "energies": found.atom_energies,
        }
        if system.cell.rank == 3:
            volume = system.cell.volume
            self.results["stress"] = full_3x3_to_voigt_6_stress(-found.virial / volume)
            self.results["stresses"] = full_3x3_to_voigt_6_stress(-found.atom_virials / volume)
        elif {"stress", "stresses"} & set(properties or ()):
            raise PropertyNotImplementedError(
                f"a stress needs a cell of three vectors, found {system.cell.rank}: set the cell"
            )


def _refuse_unknown(options: dict[str, Any]) -> None:
    known = list(inspect.signature(Potential).parameters)
    unknown = [name for name in options if name not in known]
    if unknown:
        raise InputError(f"LmpDP has no argument {', '.join(unknown)}; it takes {', '.join(known)}")
