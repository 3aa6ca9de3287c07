"""Models of many elements, of which few occur: an engine for those that do.

A model for the whole periodic table has 118 elements, and 118^2 pairs of them that an engine would
prepare. Where all elements share their slots, those that do not occur leave no trace, not even an
empty slot: a model without them is the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from threading import Lock
from typing import NamedTuple

import numpy as np

from lmp_dp.engine.engine import Engine
from lmp_dp.engine.neighbourhood import Neighbourhood, Outputs, Result
from lmp_dp.model.deep_potential import DeepPotential
from lmp_dp.model.descriptors.environment import Environment
from lmp_dp.model.descriptors.se_atten import SeAtten
from lmp_dp.model.fitting import Fitting
from lmp_dp.model.mapped import replace_all
from lmp_dp.model.typed_nets import TypedNets

#: Fewer elements are prepared at once.
MANY = 12


def knows_many_elements(model: DeepPotential) -> bool:
    """Whether it is worth while, and right, to leave out elements that do not occur."""
    alike = all(isinstance(part, SeAtten) for part in model.descriptor.parts)
    return len(model.type_map) >= MANY and alike and model.pair_table is None


class _Prepared(NamedTuple):
    """An engine, and where elements of the model are among its own; -1 for others, and for none."""

    engine: Engine
    place_t: np.ndarray


class PresentElements:
    """An engine that is made for the elements that occurred so far, and again for another one."""

    def __init__(self, model: DeepPotential, make: Callable[[DeepPotential], Engine]) -> None:
        self._model, self._make = model, make
        self._lock = Lock()
        # two, so that it stays a model of several elements; what cannot be evaluated is refused now
        self._prepared = self._prepare(np.arange(2))

    def _prepare(self, elements_t: np.ndarray) -> _Prepared:
        place_t = np.full(len(self._model.type_map) + 1, -1, dtype=np.int32)
        place_t[elements_t] = np.arange(len(elements_t))
        return _Prepared(self._make(restricted(self._model, elements_t)), place_t)

    @property
    def builds_lists(self) -> bool:
        """Whether it finds neighbours itself."""
        return self._prepared.engine.builds_lists

    @property
    def checks_finite(self) -> bool:
        """Whether `Result.finite` is meant."""
        return self._prepared.engine.checks_finite

    @property
    def seconds(self) -> dict[str, float]:
        """Thread time per stage over all evaluations."""
        return self._prepared.engine.seconds

    def memory(self) -> str:
        """What it holds on a device, in words."""
        return self._prepared.engine.memory()

    def close(self) -> None:
        """Let go of threads and memory."""
        self._prepared.engine.close()

    def compute(self, nb: Neighbourhood, outputs: Outputs) -> Result:
        """Energy, forces and what `outputs` asks for."""
        prepared = self._for(nb.types_a)
        places_a = prepared.place_t[nb.types_a]
        return prepared.engine.compute(dataclasses.replace(nb, types_a=places_a), outputs)

    def _for(self, types_a: np.ndarray) -> _Prepared:
        """An engine that has all these elements."""
        with self._lock:
            engine, place_t = self._prepared
            new_a = (place_t[types_a] < 0) & (types_a >= 0)
            if new_a.any():
                known_t = np.flatnonzero(place_t >= 0)
                self._prepared = self._prepare(np.union1d(known_t, types_a[new_a]))
                self._prepared.engine.seconds.update(engine.seconds)
            return self._prepared


def restricted(model: DeepPotential, elements_t: np.ndarray) -> DeepPotential:
    """The model of some of its elements, which are numbered anew."""

    def of_part(part: SeAtten) -> SeAtten:
        return dataclasses.replace(
            part,
            environment=_environment(part.environment, elements_t),
            nets=_nets(part.nets, elements_t),
        )

    return dataclasses.replace(
        model,
        type_map=tuple(model.type_map[t] for t in elements_t.tolist()),
        descriptor=replace_all(model.descriptor, SeAtten, of_part),
        fitting=_fitting(model.fitting, elements_t),
        reference_frame=None,
    )


def _environment(of: Environment, elements_t: np.ndarray) -> Environment:
    pairs = np.ix_(elements_t, elements_t)
    return dataclasses.replace(
        of,
        davg_tk=of.davg_tk[elements_t],
        dstd_tk=of.dstd_tk[elements_t],
        excluded_tt=of.excluded_tt[pairs],
        unseen_tt=None if of.unseen_tt is None else of.unseen_tt[pairs],
    )


def _nets(of: TypedNets, elements_t: np.ndarray) -> TypedNets:
    rows = np.append(elements_t, len(of.type_to) - 1)
    return dataclasses.replace(
        of,
        type_to=of.type_to[rows],
        padding_tm=None if of.padding_tm is None else of.padding_tm[elements_t],
        gate_ttm=None if of.gate_ttm is None else of.gate_ttm[np.ix_(elements_t, rows)],
    )


def _fitting(of: Fitting, elements_t: np.ndarray) -> Fitting:
    return dataclasses.replace(
        of,
        nets=of.nets if len(of.nets) == 1 else tuple(of.nets[t] for t in elements_t.tolist()),
        bias_atom_e_t=of.bias_atom_e_t[elements_t],
        subtract_vacuum_t=of.subtract_vacuum_t[elements_t],
        type_to=None if of.type_to is None else of.type_to[elements_t],
        silent_t=None if of.silent_t is None else of.silent_t[elements_t],
    )
