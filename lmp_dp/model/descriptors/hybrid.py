"""hybrid: several descriptors side by side."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from lmp_dp.errors import ModelFileError
from lmp_dp.model.descriptors.registry import Descriptor, Part, register


@register
@dataclass(frozen=True)
class Hybrid:
    """D is that of the members, one after the other; each has an environment of its own.

    Attributes
    ----------
    members : tuple of Descriptor
        None of them a hybrid.
    """

    kind: ClassVar[str] = "hybrid"

    members: tuple[Descriptor, ...]

    def __post_init__(self) -> None:
        if not self.members:
            raise ModelFileError("a hybrid descriptor has no members")
        if any(isinstance(member, Hybrid) for member in self.members):
            raise ModelFileError("a hybrid is a member of a hybrid, expected its members there")
        if len(precisions := sorted({member.dtype.name for member in self.members})) > 1:
            raise ModelFileError(
                f"members of a hybrid are evaluated in {' and '.join(precisions)}, expected one "
                "precision: train them with the same"
            )

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """The members. Those of the DP family choose from one list, up to the longest cutoff: with
        slots for as many as the largest member of one block has, or of each element as many as a
        member has at most."""
        parts = tuple(part for member in self.members for part in member.parts)
        environments = [part.environment for part in parts]
        if environments[0].rules == "TF":
            return parts
        if any(of.one_block for of in environments):
            n_nearest = max(of.n_slots for of in environments)
        else:
            n_nearest = int(np.max([of.sel_t for of in environments], axis=0).sum())
        reach = max(of.rcut for of in environments)
        return tuple(
            replace(part, environment=replace(of, n_nearest=n_nearest, reach=reach))
            for part, of in zip(parts, environments, strict=True)
        )

    @property
    def n_channels(self) -> int:
        """The largest number that one neighbour is embedded to."""
        return max(member.n_channels for member in self.members)

    @property
    def dtype(self) -> np.dtype:
        """Precision of evaluation: that of the members, which agree."""
        return self.members[0].dtype

    @property
    def n_out(self) -> int:
        """Length of the descriptor of one atom."""
        return sum(member.n_out for member in self.members)

    def describe(self) -> dict[str, Any]:
        """What ``lmp-dp info`` says of it."""
        return {}
