"""Model deviation: how much several models disagree about forces and virial.

For the force F_i of an atom, and each of the nine components W_u of the virial per atom,

    eps_i = sqrt(< |F_i - <F_i>|^2 >)        eps_u = sqrt(< (W_u - <W_u>)^2 >)

and relative to a level L,   eps_i / (|<F_i>| + L)   and   eps_u / (|<W_u>| + L).

The averages < > run over all models and divide by their number, as in DeePMD-kit (Zhang et al.,
Phys. Rev. Mater. 3, 023804 (2019)), whose ``model_devi.out`` is the file that is written here.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lmp_dp.errors import InputError

_COLUMNS = ("max_devi_v", "min_devi_v", "avg_devi_v", "max_devi_f", "min_devi_f", "avg_devi_f")


def force_deviation(
    forces_awc: NDArray[np.float64], level: float | None = None
) -> NDArray[np.float64]:
    """Deviation of the force of each atom.

    Parameters
    ----------
    forces_awc : (n_atoms, n_models, 3) array
        Forces of every model.
    level : float, optional
        L of a relative deviation, in the unit of the forces.

    Returns
    -------
    (n_atoms,) array
        In the unit of the forces; dimensionless if relative.
    """
    mean_ac = forces_awc.mean(axis=1)
    square_aw = ((forces_awc - mean_ac[:, None]) ** 2).sum(axis=2)
    deviation_a = np.sqrt(square_aw.mean(axis=1))
    if level is not None:
        deviation_a = _relative(deviation_a, np.sqrt((mean_ac**2).sum(axis=1)), level)
    return deviation_a


def virial_deviation(
    virials_wu: NDArray[np.float64], n_atoms: int, level: float | None = None
) -> NDArray[np.float64]:
    """Deviation of the nine components of the virial per atom.

    Parameters
    ----------
    virials_wu : (n_models, 9) array
        Virial of every model, of the whole system.
    n_atoms : int
    level : float, optional
        L of a relative deviation, in the unit of a virial per atom.

    Returns
    -------
    (9,) array
        In the unit of the virials; dimensionless if relative.
    """
    per_atom_wu = virials_wu / n_atoms
    mean_u = per_atom_wu.mean(axis=0)
    deviation_u = np.sqrt(((per_atom_wu - mean_u) ** 2).mean(axis=0))
    return deviation_u if level is None else _relative(deviation_u, np.abs(mean_u), level)


def _relative(
    deviation: NDArray[np.float64], size: NDArray[np.float64], level: float
) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):  # 0/0 of an atom without force at L = 0 is nan
        return np.asarray(deviation / (size + level))


class DeviationFile:
    """The file of model deviations, in the format of pair style deepmd.

    A row has the step; maximum, minimum and mean of the deviations of the virial (root mean square)
    and of the forces; and, if `atomic`, the deviation of every atom in the order of the atoms' IDs.

    Parameters
    ----------
    path : path
    append : bool
        Go on with a file that exists. Otherwise it is emptied and gets a header.
    atomic : bool

    Raises
    ------
    InputError
        If the file cannot be opened, or written. Rows that are already in it are left as they are.
    """

    def __init__(self, path: str | os.PathLike[str], append: bool, atomic: bool) -> None:
        self.path = Path(path)
        self.atomic = atomic
        try:
            # unbuffered: a row is in the file, or the step that made it has failed
            self._file = open(self.path, "ab" if append else "wb", buffering=0)  # noqa: SIM115
        except OSError as error:
            raise self._cannot_be_written(error) from None
        if not append:
            names = (*_COLUMNS, *(["atm_devi_f(N)"] if atomic else []))
            try:
                self._write(f"#{'step':>11}" + "".join(f"{name:>19}" for name in names))
            except InputError:
                self.close()
                raise

    def write(
        self,
        step: int,
        virial_u: NDArray[np.float64],
        force_a: NDArray[np.float64],
        tags_a: NDArray[np.integer] | None,
    ) -> None:
        """Add a row.

        Parameters
        ----------
        step : int
        virial_u : (9,) array
            From `virial_deviation`.
        force_a : (n_atoms,) array
            From `force_deviation`, of all atoms in any order.
        tags_a : (n_atoms,) int array or None
            IDs of the atoms, which order them; needed if the file is `atomic`.

        Raises
        ------
        InputError
            If the file cannot be written.
        """
        values: Sequence[float] = (
            virial_u.max(),
            virial_u.min(),
            np.sqrt((virial_u**2).mean()),
            *((force_a.max(), force_a.min(), force_a.mean()) if len(force_a) else [np.nan] * 3),
        )
        if self.atomic:
            if tags_a is None:
                raise InputError("keyword atomic needs atom IDs: write atom_modify id yes")
            values = [*values, *force_a[np.argsort(tags_a)]]
        self._write(f"{step:>12}" + "".join(f" {value:>18.6e}" for value in values))

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _write(self, line: str) -> None:
        """All of a line, or an error and nothing of it."""
        data = memoryview(line.encode() + b"\n")
        before = os.fstat(self._file.fileno()).st_size
        try:
            while data:
                data = data[self._file.write(data) :]
        except OSError as error:
            with contextlib.suppress(OSError):  # no regular file
                os.ftruncate(self._file.fileno(), before)
            raise self._cannot_be_written(error) from None

    def _cannot_be_written(self, error: OSError) -> InputError:
        return InputError(
            f"model deviations cannot be written to {self.path}: {error.strerror}. Make room, or "
            "name another file with the keyword out_file"
        )
