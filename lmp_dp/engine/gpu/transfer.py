"""What goes up and comes down in a step: a copy each, by way of pinned memory of the engine's own.

LAMMPS's arrays are not registered with the driver, which would save the way through that memory.
They are reallocated without a word (`Atom::grow`, a new box at the old address), and after a fork
their owner gets other pages when it writes; a registration then goes on reading the pages that were
pinned: old positions, and no error. Going through costs 48 bytes of the host's memory bandwidth per
atom on the way up, and nothing on the way down: results are added to LAMMPS's from where they land.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lmp_dp.engine.gpu.device import Device
from lmp_dp.engine.gpu.room import Buffer
from lmp_dp.engine.neighbourhood import Array


class Transfer:
    """Copies between the host and `device`, for one step at a time."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._memory: dict[str, np.ndarray] = {}
        self._pending = False

    def send(self, parts: Sequence[np.ndarray], buffer: Buffer) -> list[Array]:
        """Have `parts` copied into `buffer`, one behind the other; nothing is waited for.

        Parameters
        ----------
        parts : sequence of arrays
            May be changed as soon as this returns. Items of all but the last have 8 bytes.
        buffer : Buffer

        Returns
        -------
        list of arrays of the device
        """
        self._end()
        size = sum(part.nbytes for part in parts)
        pinned, memory = self._pinned("up", size), buffer.take(self._device.xp, (size,), np.uint8)
        sent, start = [], 0
        for part in parts:
            end = start + part.nbytes
            pinned[start:end].view(part.dtype).reshape(part.shape)[...] = part
            sent.append(memory[start:end].view(part.dtype).reshape(part.shape))
            start = end
        self._pending = True
        self._device.send(pinned, memory)
        return sent

    def fetch(self, arrays: Sequence[Array]) -> list[np.ndarray]:
        """Copies of `arrays`, valid until the next call; waits for the device."""
        pinned = self._pinned("down", sum(int(array.nbytes) for array in arrays))
        fetched, start = [], 0
        for array in arrays:
            end = start + int(array.nbytes)
            host = pinned[start:end].view(array.dtype).reshape(array.shape)
            self._device.fetch(array, host)
            fetched.append(host)
            start = end
        self._wait()
        return fetched

    def close(self) -> None:
        """Let go of the memory, which results that were fetched last may keep."""
        self._end()
        self._memory.clear()

    def _end(self) -> None:
        """After a step that failed: the device may still read."""
        if self._pending:
            self._wait()

    def _wait(self) -> None:
        self._device.synchronize()
        self._pending = False

    def _pinned(self, way: str, n_bytes: int) -> np.ndarray:
        memory = self._memory.get(way)
        if memory is None or memory.nbytes < n_bytes:
            memory = self._memory[way] = self._device.pinned(n_bytes + n_bytes // 8)
        return memory[:n_bytes]
