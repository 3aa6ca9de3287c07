"""What a system takes on a device: one count, for chunks' sizes, for messages and for LOG.md."""

from __future__ import annotations

from dataclasses import dataclass

from lmp_dp.engine.gpu.device import Device
from lmp_dp.engine.gpu.room import with_headroom
from lmp_dp.errors import BackendError

#: Bytes that stay from step to step, in buffers. Of a slot: neighbour, reverse list, gradient.
_OF_SLOT = 4 + 4 + 24
#: Of an atom or ghost: positions, force, energy.
_OF_ATOM = 24 + 24 + 8
#: The same, not in buffers. Of an atom or ghost: where it was at the build, reverse offset.
_ALSO_OF_ATOM = 24 + 8
#: Of a centre: its atom; of a centre and neighbour element: offset.
_ALSO_OF_CENTRE, _ALSO_OF_BLOCK = 4, 8
#: Only while lists are built. Of an atom or ghost: type; type, atom and position by cell; count and
#: cursor; sorting and sums. Of a centre and neighbour element: two counts, cursor, sums.
_BUILDING_ATOM = 4 + (4 + 4 + 24) + (4 + 4) + 16
_BUILDING_BLOCK = 4 + 4 + 8 + 8


@dataclass(frozen=True)
class System:
    """What counts for memory: atoms with ghosts, centres, elements, slots of the neighbour list."""

    n_all: int
    n_centres: int
    n_types: int
    n_slots: int

    @property
    def kept(self) -> int:
        """Bytes from step to step, without those of chunks."""
        return (
            with_headroom(_OF_SLOT * self.n_slots + _OF_ATOM * self.n_all)
            + _ALSO_OF_ATOM * self.n_all
            + (_ALSO_OF_CENTRE + _ALSO_OF_BLOCK * self.n_types) * self.n_centres
        )

    @property
    def building(self) -> int:
        """Bytes more while lists are built."""
        return _BUILDING_ATOM * self.n_all + _BUILDING_BLOCK * self.n_types * self.n_centres

    @property
    def nbytes(self) -> int:
        """Bytes in all, without those of chunks."""
        return self.kept + self.building

    def does_not_fit(self, device: Device, of_chunk: int) -> BackendError:
        """The error that says what does, beside a chunk of so many bytes."""
        per_atom = max(1, self.nbytes // max(1, self.n_centres))
        free = device.free_bytes()
        return BackendError(
            f"{self.n_centres} atoms with {self.n_all - self.n_centres} ghosts do not fit on "
            f"{device.name}: an atom takes about {per_atom} bytes, {free // 2**20} MiB are free, "
            f"so that about {max(0, free - of_chunk) // per_atom} atoms fit; use more devices, or "
            "a smaller skin"
        )
