"""What a Deep Potential is: plain frozen dataclasses of NumPy arrays, checked on construction."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from lmp_dp.errors import ModelFileError
from lmp_dp.model import bounds
from lmp_dp.model.descriptors.registry import Descriptor
from lmp_dp.model.fitting import Fitting
from lmp_dp.model.mapped import find_all
from lmp_dp.model.pair_table import PairTable
from lmp_dp.model.provenance import Provenance, ReferenceFrame
from lmp_dp.model.table import Table


@dataclass(frozen=True)
class DeepPotential:
    """A complete model: elements, descriptor, fitting nets, and where it came from.

    Some take energies from a table of pairs where atoms come close (`pair_table`).

    Names in `type_map` are distinct, printable, without blanks, of at most 32 characters, and not
    NULL, which LAMMPS scripts use for types that the model does not see.
    """

    type_map: tuple[str, ...]
    descriptor: Descriptor
    fitting: Fitting
    provenance: Provenance = field(default_factory=Provenance)
    reference_frame: ReferenceFrame | None = None
    pair_table: PairTable | None = None

    def __post_init__(self) -> None:
        n_types = len(self.type_map)
        bounds.check_number("the number of elements in type_map", n_types, 1, bounds.MAX_TYPES)
        for t, name in enumerate(self.type_map):
            _check_element(name, self.type_map[:t])
        of_parts = [part.environment.n_types for part in self.descriptor.parts]
        if {*of_parts, self.fitting.n_types} != {n_types}:
            raise ModelFileError(
                f"type_map has {n_types} elements, the descriptor {of_parts}, the fitting nets "
                f"{self.fitting.n_types}"
            )
        if self.pair_table is not None and self.pair_table.n_types != n_types:
            raise ModelFileError(
                f"type_map has {n_types} elements, the pair table {self.pair_table.n_types}"
            )
        n_parameters = self.fitting.n_told + self.fitting.n_fparam + self.fitting.n_aparam
        for t, net in enumerate(self.fitting.nets):
            if net.n_in != self.descriptor.n_out + n_parameters:
                raise ModelFileError(
                    f"fitting net {t} takes {net.n_in} values, the descriptor gives "
                    f"{self.descriptor.n_out} and there are {n_parameters} parameters"
                )

        if self.reference_frame is not None:
            self._check_frame(self.reference_frame)

    def _check_frame(self, frame: ReferenceFrame) -> None:
        if not 0 <= frame.types_a.min() <= frame.types_a.max() < len(self.type_map):
            raise ModelFileError("reference_frame: a type is outside of the type_map")
        n_f, n_a = self.fitting.n_fparam, self.fitting.n_aparam
        for name, values, count, shape in (
            ("fparam", frame.fparam_f, n_f, (n_f,)),
            ("aparam", frame.aparam_af, n_a, (len(frame.types_a), n_a)),
        ):
            if values is None and count:
                place = f"reference_frame/{name}_{'af'[2 - len(shape) :]}"
                raise ModelFileError(f"{place} is missing, of which the nets take {count}")
            if values is not None and (values.shape != shape or not count):
                raise ModelFileError(
                    f"reference_frame: {name} does not fit the model: it has shape "
                    f"{values.shape}, expected {shape if count else 'none'}"
                )
            if values is not None:
                bounds.check(f"reference_frame: {name}", values, shape, np.finfo("f8").max)

    @property
    def rcut(self) -> float:
        """Cutoff (Å): the largest, where descriptors and pair table differ."""
        of_pairs = 0.0 if self.pair_table is None else self.pair_table.rcut
        return max(of_pairs, *(part.environment.rcut for part in self.descriptor.parts))

    @property
    def tables(self) -> list[Table]:
        """The tabulated nets of a compressed model; empty if it is not compressed."""
        return find_all(self.descriptor, Table)

    @property
    def precision(self) -> str:
        """ "float64", "float32", or "descriptor/fitting" where the two differ."""
        one, two = self.descriptor.dtype.name, self.fitting.dtype.name
        return one if one == two else f"{one}/{two}"


#: Longer than any name of an element or a site; lists of elements stay readable, and quotable.
_MAX_NAME = 32


def _check_element(name: str, others: tuple[str, ...]) -> None:
    """Refuse a name that a LAMMPS script or a terminal cannot show as it is."""
    if not isinstance(name, str):
        raise ModelFileError(f"type_map: {name!r} is no name, expected text")
    shown = repr(name[:_MAX_NAME])
    if not name or not name.isprintable() or any(letter.isspace() for letter in name):
        raise ModelFileError(
            f"type_map: {shown} is no name, expected printable text without blanks"
        )
    if len(name) > _MAX_NAME:
        raise ModelFileError(
            f"type_map: {shown}... has {len(name)} characters, expected at most {_MAX_NAME}"
        )
    if name == "NULL":
        raise ModelFileError("type_map: NULL stands for 'no element' in LAMMPS scripts")
    if name in others:
        raise ModelFileError(f"type_map: {shown} is named twice")
