"""What LAMMPS hands to a unified ML-IAP model, without LAMMPS.

`tests/real_lammps` runs the real thing. Written after reading, in the LAMMPS repository, the Cython
classes MLIAPDataPy of src/ML-IAP/mliap_unified_couple.pyx and
src/KOKKOS/mliap_unified_couple_kokkos.pyx (which attributes exist, which can be read or set, what
type an array has to be), generate_neighdata in src/ML-IAP/mliap_data.cpp (what the arrays hold),
update_pair_forces in src/ML-IAP/mliap_unified.cpp and src/KOKKOS/mliap_unified_kokkos.cpp, and
e_tally and v_tally in src/ML-IAP/pair_mliap.cpp (what is done with the results).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lmp_dp.engine.namespace import to_numpy
from lmp_dp.engine.periodic import PeriodicNeighbourhood


class HostData:
    """As without KOKKOS: `eatoms` and `energy` can only be set; missing arrays are None."""

    __slots__ = (
        "_eatoms", "_energy", "elems", "f", "iatoms", "jatoms", "natomneigh", "nlistatoms",
        "nlocal", "npairs", "ntotal", "pair_i", "rij", "virial",
    )  # fmt: skip

    def __init__(
        self, lists: PeriodicNeighbourhood, cutoff: float, random: np.random.Generator
    ) -> None:
        """Pairs of local atoms within the cutoff; the list of atoms in an order of its own."""
        nb = lists.neighbourhood
        self.ntotal = len(nb.positions_ac)
        self.nlistatoms = self.natomneigh = self.nlocal = nb.n_local
        self.elems = nb.types_a.astype(np.int32) if self.ntotal else None
        self.iatoms = random.permutation(nb.n_local).astype(np.int32) if nb.n_local else None
        i = [np.full(nb.offsets_n[n + 1] - nb.offsets_n[n], n) for n in range(nb.n_local)]
        j = [nb.neighbours_p[nb.offsets_n[n] : nb.offsets_n[n + 1]] for n in range(nb.n_local)]
        order = [] if self.iatoms is None else self.iatoms
        self._set_pairs(nb.positions_ac, [(i[n], j[n]) for n in order], cutoff)
        self.f = np.zeros((self.ntotal, 3))
        self.virial = np.zeros(6)
        self._eatoms: np.ndarray | None = None
        self._energy: float | None = None

    def _set_pairs(self, x: np.ndarray, pairs: list[Any], cutoff: float) -> None:
        self.npairs = 0
        self.pair_i = self.jatoms = self.rij = None
        if not pairs:
            return
        i, j = (np.concatenate(side) for side in zip(*pairs, strict=True))
        r = x[j] - x[i]
        near = (r * r).sum(axis=1) < cutoff * cutoff
        self.npairs = int(near.sum())
        if self.npairs:
            self.pair_i, self.jatoms = i[near].astype(np.int32), j[near].astype(np.int32)
            self.rij = r[near]

    def add_pairs_of_ghosts(self, x: np.ndarray) -> None:
        """As with the keyword `ghostneigh`: ghosts have lists, behind those of the local atoms."""
        ghost, other = self.ntotal - 1, self.ntotal - 2
        self.iatoms = np.append(self.iatoms, np.int32(ghost))
        self.natomneigh += 1
        self.pair_i = np.append(self.pair_i, np.int32(ghost))
        self.jatoms = np.append(self.jatoms, np.int32(other))
        self.rij = np.vstack([self.rij, x[other] - x[ghost]])
        self.npairs += 1

    def _set_energy(self, value: Any) -> None:
        self._energy = float(value)

    energy = property(None, _set_energy)

    def _set_eatoms(self, value: np.ndarray) -> None:
        view = memoryview(value)
        assert (view.format, view.shape, view.readonly) == ("d", (self.nlistatoms,), False)
        self._eatoms = value.copy()

    eatoms = property(None, _set_eatoms)

    def update_pair_forces(self, fij: np.ndarray) -> None:
        view = memoryview(fij)
        assert (view.format, view.shape, view.readonly) == ("d", (self.npairs, 3), False)
        assert view.c_contiguous
        assert self.npairs > 0  # LAMMPS takes the address of the first number
        for k in range(self.npairs):
            self._add(int(self.pair_i[k]), int(self.jatoms[k]), fij[k], self.rij[k])

    def _add(self, i: int, j: int, f: np.ndarray, r: np.ndarray) -> None:
        self.f[i] += f
        self.f[j] -= f
        self.virial -= [
            r[0] * f[0],
            r[1] * f[1],
            r[2] * f[2],
            r[0] * f[1],
            r[0] * f[2],
            r[1] * f[2],
        ]

    def tallied(self) -> tuple[float, np.ndarray]:
        """Energy, and the energy of each local atom by its index."""
        assert self._energy is not None
        per_atom = np.zeros(self.ntotal)
        if self.nlistatoms:
            assert self._eatoms is not None
            per_atom[self.iatoms[: self.nlistatoms]] = self._eatoms
        return self._energy, per_atom


class KokkosData(HostData):
    """As with KOKKOS: `eatoms` is a view to write into and cannot be set."""

    __slots__ = ()

    @property
    def eatoms(self) -> np.ndarray:
        if self.nlistatoms == 0:
            raise ValueError("attempt to set NULL eatoms")
        if self._eatoms is None:
            self._eatoms = np.full(self.nlistatoms, np.nan)
        return self._eatoms

    def lose_atoms(self) -> None:
        """All atoms have left this rank and are ghosts now; the list of them was not rebuilt."""
        self.nlocal = 0


class DeviceData:
    """As with KOKKOS on a device: arrays of `xp` (CuPy)."""

    def __init__(self, host: KokkosData, xp: Any) -> None:
        self._host, self._xp = host, xp
        self.ntotal, self.npairs = host.ntotal, host.npairs
        self.nlistatoms, self.natomneigh = host.nlistatoms, host.natomneigh
        self.nlocal = host.nlocal
        self.elems, self.iatoms, self.pair_i, self.jatoms, self.rij = (
            None if array is None else xp.asarray(array)
            for array in (host.elems, host.iatoms, host.pair_i, host.jatoms, host.rij)
        )
        self._eatoms = xp.full(host.nlistatoms, xp.nan)

    @property
    def eatoms(self) -> Any:
        return self._eatoms

    def _set_energy(self, value: Any) -> None:
        self._host.energy = value

    energy = property(None, _set_energy)

    def update_pair_forces(self, fij: Any) -> None:
        assert isinstance(fij, self._xp.ndarray)
        assert (fij.dtype, fij.shape) == (np.float64, (self.npairs, 3))
        assert fij.flags.c_contiguous
        self._host.update_pair_forces(to_numpy(fij))

    @property
    def f(self) -> np.ndarray:
        return self._host.f

    @property
    def virial(self) -> np.ndarray:
        return self._host.virial

    def tallied(self) -> tuple[float, np.ndarray]:
        """As `HostData.tallied`, on the host."""
        self._host.eatoms[:] = to_numpy(self._eatoms)
        return self._host.tallied()
