"""What a descriptor is, and the kinds that there are, by the name that a model file gives them."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np

from lmp_dp.model.descriptors.environment import Environment


class Descriptor(Protocol):
    """A frozen dataclass that says how atoms around a centre become numbers D.

    Its fields are numbers, strings, arrays (`lmp_dp.model.arrays`), other such dataclasses, and
    tuples of them: that is what a model file can hold.

    Attributes
    ----------
    kind : str
        Its name in model files.
    parts : tuple of Part
        Itself, or what it is made of (hybrid): D is theirs, one after the other.
    n_out : int
        Length of D.
    n_channels : int
        Numbers that one neighbour is embedded to.
    dtype : numpy.dtype
        Precision of evaluation.
    """

    kind: ClassVar[str]
    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def parts(self) -> tuple[Part, ...]: ...
    @property
    def n_out(self) -> int: ...
    @property
    def n_channels(self) -> int: ...
    @property
    def dtype(self) -> np.dtype: ...

    def describe(self) -> dict[str, Any]:
        """What ``lmp-dp info`` says of it, beside its environment."""
        ...


class Part(Descriptor, Protocol):
    """A descriptor of one environment."""

    @property
    def environment(self) -> Environment: ...


KINDS: dict[str, type[Descriptor]] = {}
_Kind = TypeVar("_Kind", bound=type)


def register(kind: _Kind) -> _Kind:
    """Decorator: descriptors of this class are known by its `kind`."""
    KINDS[kind.kind] = kind  # type: ignore[attr-defined]
    return kind
