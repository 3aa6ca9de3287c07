"""The stages of centres of one element on a device: its forms, and its fitting net."""

from __future__ import annotations

from typing import Any

import numpy as np

from lmp_dp.engine.forms import Element, Moment
from lmp_dp.engine.gpu.chunk import ChunkArrays
from lmp_dp.engine.gpu.device import Device
from lmp_dp.engine.gpu.fitting import FittingStage
from lmp_dp.engine.gpu.moment import MomentStage
from lmp_dp.engine.gpu.room import MomentRoom, Room
from lmp_dp.engine.neighbourhood import Array


class Stages:
    """Takes chunks of one element through all; `compiled` are the kernels by precision."""

    def __init__(self, device: Device, element: Element, compiled: dict[np.dtype, Any]) -> None:
        self._device, self._dtype = device, element.fitting.dtype
        self._forms = [
            MomentStage(device, form, self._dtype, compiled, adds=k > 0)
            for k, form in enumerate(element.forms)
            if isinstance(form, Moment)
        ]
        self.fitting = FittingStage(device, element.fitting, compiled)

    def bytes_per_centre(self, slots: int) -> int:
        """Working memory of one centre with `slots` neighbours."""
        of_forms = sum(stage.form.bytes_per_centre(slots) for stage in self._forms)
        return of_forms + self.fitting.net.bytes_per_centre

    def evaluate(self, chunk: ChunkArrays, room: Room, parameters_af: Array | None) -> None:
        """Energies, pair gradients, and forces on the centres of a chunk."""
        rooms = [room.moments.setdefault(k, MomentRoom()) for k in range(len(self._forms))]
        forward = [stage.forward(chunk, own) for stage, own in zip(self._forms, rooms, strict=True)]
        x_bi = self._side_by_side(forward, room)
        parameters_bf = None if parameters_af is None else parameters_af[chunk.members_b]
        dx_bi = self.fitting.evaluate(chunk, x_bi, parameters_bf, room.layers)
        first = 0
        for stage, own, (of_form_bi, tape) in zip(self._forms, rooms, forward, strict=True):
            end = first + of_form_bi.shape[1]
            stage.backward(chunk, own, self._own(dx_bi, first, end, own), tape)
            first = end

    def _side_by_side(self, forward: list[tuple[Array, Any]], room: Room) -> Array:
        """The features of all forms."""
        if len(forward) == 1:
            return forward[0][0]
        n, width = len(forward[0][0]), sum(x_bi.shape[1] for x_bi, _ in forward)
        all_bi = room.features_bi.take(self._device.xp, (n, width), self._dtype)
        first = 0
        for x_bi, _ in forward:
            all_bi[:, first : first + x_bi.shape[1]] = x_bi
            first += x_bi.shape[1]
        return all_bi

    def _own(self, dx_bi: Array, first: int, end: int, room: MomentRoom) -> Array:
        """A form's columns of dE/dx, in one piece."""
        if end - first == dx_bi.shape[1]:
            return dx_bi
        own_bi = room.dfeatures_bi.take(self._device.xp, (len(dx_bi), end - first), self._dtype)
        own_bi[...] = dx_bi[:, first:end]
        return own_bi
