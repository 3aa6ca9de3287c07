"""Arguments of `Potential`'s methods as arrays of the right shape and type, or an `InputError`.

Whatever is not what it should be is refused, not converted: a string that reads as a number, the
real part of a complex number, what is under a mask, None as NaN.
"""

from __future__ import annotations

import os
import reprlib
from typing import Any

import numpy as np

from lmp_dp.engine.namespace import namespace_of
from lmp_dp.engine.periodic import PeriodicNeighbourhood
from lmp_dp.errors import InputError

#: Å (1 cm): float64 resolves 1.5e-8 Å there, and a thousandth of that is what forces notice.
FARTHEST = 1e8
#: Å: nearer atoms are in one place, but for the rounding of positions far outside of the cell.
NEAREST = 1e-6


def path_of(model: Any) -> str:
    """The path of a model file."""
    path = os.fspath(model) if isinstance(model, (str, os.PathLike)) else None
    if not isinstance(path, str):
        raise InputError(
            f"model is {_short(model)}, expected the path of a model file or a DeepPotential"
        )
    return path


def flag(name: str, value: Any) -> bool:
    """True or False; no word, which would count as true."""
    if not isinstance(value, (bool, np.bool_)):
        raise InputError(f"{name} is {_short(value)}, expected True or False")
    return bool(value)


def device_index(device: Any) -> int | None:
    """A CUDA device's number."""
    if device is None:
        return None
    if not isinstance(device, (int, np.integer)) or isinstance(device, bool) or device < 0:
        raise InputError(
            f"device is {_short(device)}, expected the number of a CUDA device or None"
        )
    return int(device)


def configuration(
    positions: Any, types: Any, cell: Any, pbc: Any, type_map: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, tuple[bool, bool, bool]]:
    """Positions, types, cell and periodic directions of `Potential.evaluate`."""
    positions_ac = _numbers("positions", positions)
    if positions_ac.ndim != 2 or positions_ac.shape[1] != 3:
        raise InputError(f"positions have shape {positions_ac.shape}, expected (n, 3)")
    _refuse_no_places(positions_ac)
    types_a = _type_indices(types, len(positions_ac), type_map)
    return positions_ac, types_a, _cell(cell), _flags(pbc)


def parameters(name: str, values: Any, count: int, shape: tuple[int, ...]) -> np.ndarray | None:
    """`fparam` or `aparam` of `Potential.evaluate`, broadcast to `shape`."""
    if values is None and not count:
        return None
    if values is None:
        raise InputError(f"the model needs {name}: {count} values")
    if not count:
        raise InputError(f"{name} is given, but the model takes none")
    array = _numbers(name, values)
    allowed = {(count,): None, shape: None} | ({(): None} if count == 1 else {})
    if array.shape not in allowed:
        raise InputError(
            f"{name} has shape {array.shape}, expected {' or '.join(map(str, allowed))}"
        )
    if not np.isfinite(array).all():
        raise InputError(f"{name} is not finite: {_short(array.tolist())}")
    return np.broadcast_to(array, shape)


def refuse_coinciding(lists: PeriodicNeighbourhood) -> None:
    """Two atoms in one place, of those that the model sees, are an error.

    Atoms are sorted along a direction that no lattice has planes across: those of one place follow
    one another, and hardly any others are as near along it.
    """
    positions_ac, types_a = lists.neighbourhood.positions_ac, lists.neighbourhood.types_a
    n_local, seen_n = lists.neighbourhood.n_local, np.flatnonzero(types_a >= 0)
    along_n = positions_ac[seen_n] @ np.array([0.53774, 0.64119, 0.54739])
    order_n = np.argsort(along_n)
    seen_n, along_n = seen_n[order_n], along_n[order_n]
    for step in range(1, len(seen_n)):
        near_n = np.flatnonzero(along_n[step:] - along_n[:-step] < NEAREST)
        if not len(near_n):
            return
        pair_pu = np.sort(np.stack([seen_n[near_n], seen_n[near_n + step]], axis=1), axis=1)
        pair_pu = pair_pu[pair_pu[:, 0] < n_local]  # two images: so are the atoms themselves
        distance_p = np.linalg.norm(
            positions_ac[pair_pu[:, 0]] - positions_ac[pair_pu[:, 1]], axis=1
        )
        if distance_p.min(initial=np.inf) < NEAREST:
            pair = int(distance_p.argmin())
            one, two = pair_pu[pair]
            raise InputError(
                f"atoms {lists.owners_a[one]} and {lists.owners_a[two]} are in one place: "
                f"{distance_p[pair]:.2g} Å apart"
                + (" through a periodic image" if two >= n_local else "")
            )


def pairs(
    r_pc: Any, centre_p: Any, centre_types_n: Any, neighbour_types_p: Any, n_types: int
) -> None:
    """Arguments of `Potential.pair_gradients` (arrays of NumPy or CuPy): nothing is converted."""
    n_pairs = len(r_pc) if r_pc.ndim else 0
    n = len(centre_types_n) if centre_types_n.ndim else 0
    if r_pc.shape != (n_pairs, 3) or r_pc.dtype.kind not in "fiu":
        raise InputError(
            f"displacements have shape {r_pc.shape} and type {r_pc.dtype}, expected (n_pairs, 3) "
            f"of real numbers"
        )
    for name, array, shape, end in (
        ("centres", centre_p, (n_pairs,), n),
        ("centre_types", centre_types_n, (n,), n_types),
        ("neighbour_types", neighbour_types_p, (n_pairs,), n_types),
    ):
        if array.shape != shape or (array.size and array.dtype.kind not in "iu"):
            raise InputError(
                f"{name} has shape {array.shape} and type {array.dtype}, expected {shape} of ints"
            )
        start = 0 if name == "centres" else -1
        if array.size and not (array.min() >= start and array.max() < end):
            raise InputError(
                f"{name} lie in {array.min()}..{array.max()}, expected {start}..{end - 1}"
            )
    if not namespace_of(r_pc).isfinite(r_pc).all():
        raise InputError("displacements are not all finite")
    near_p = (abs(r_pc) < NEAREST).all(axis=1)
    if near_p.any():
        near_p &= (neighbour_types_p >= 0) & (centre_types_n[centre_p] >= 0)
    if near_p.any():
        pair = int(near_p.argmax())
        raise InputError(
            f"displacement {pair}, of centre {int(centre_p[pair])}, is {r_pc[pair].tolist()}: two "
            f"atoms are in one place"
        )


def _numbers(name: str, values: Any) -> np.ndarray:
    """A float64 array of what are real numbers already."""
    array = as_array(name, values)
    if array.dtype.kind not in "fiu":
        raise InputError(f"{name} must be real numbers, found {_short(values)} ({array.dtype})")
    return array.astype(np.float64)


def as_array(name: str, values: Any) -> np.ndarray:
    """`values` as an array of whatever type they have; nothing is masked or ragged."""
    rows = values if isinstance(values, (list, tuple)) else ()
    if np.ma.isMaskedArray(values) or any(map(np.ma.isMaskedArray, rows)):
        raise InputError(f"{name} is a masked array, of which no element may be missing: fill it")
    try:
        return np.asarray(values)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{name} is no array of numbers: {error}") from None


def _refuse_no_places(positions_ac: np.ndarray) -> None:
    bad_a = ~(abs(positions_ac) <= FARTHEST).all(axis=1)
    if not bad_a.any():
        return
    atom = int(np.argmax(bad_a))
    place = positions_ac[atom].tolist()
    if not np.isfinite(place).all():
        raise InputError(f"position of atom {atom} is not finite: {place}")
    raise InputError(
        f"position of atom {atom} is {place}, more than {FARTHEST:g} Å (1 cm) from the origin, "
        f"where float64 is too coarse: wrap the atoms into the cell, or move them to the origin"
    )


def _cell(cell: Any) -> np.ndarray | None:
    if cell is None:
        return None
    cell_cc = _numbers("cell", cell)
    if cell_cc.shape == (3,):
        cell_cc = np.diag(cell_cc)
    if cell_cc.shape != (3, 3):
        raise InputError(f"cell has shape {cell_cc.shape}, expected (3, 3) or (3,)")
    if not (abs(cell_cc) <= FARTHEST).all():
        raise InputError(f"the cell is not within {FARTHEST:g} Å: {cell_cc.tolist()}")
    lengths = np.linalg.norm(cell_cc, axis=1)
    if not abs(np.linalg.det(cell_cc)) > 1e-9 * lengths.prod():
        raise InputError(f"the cell's vectors span no volume: {cell_cc.tolist()}")
    return cell_cc


def _flags(pbc: Any) -> tuple[bool, bool, bool]:
    array = as_array("pbc", pbc)
    whole = array.dtype.kind in "iu" and np.isin(array, (0, 1)).all()
    if array.shape not in ((), (3,)) or not (array.dtype.kind == "b" or whole):
        raise InputError(f"pbc must be one or three bools, found {_short(pbc)}")
    one, two, three = np.broadcast_to(array, 3).tolist()
    return bool(one), bool(two), bool(three)


def _type_indices(types: Any, n_atoms: int, type_map: tuple[str, ...]) -> np.ndarray:
    array = as_array("types", types)
    if array.shape != (n_atoms,):
        raise InputError(f"{n_atoms} positions, but types of shape {array.shape}")
    if array.dtype.kind in "US":
        index = {name: t for t, name in enumerate(type_map)}
        unknown = sorted(set(array.tolist()) - set(index))
        if unknown:
            raise InputError(f"the model has no element {unknown}; it has {' '.join(type_map)}")
        array = np.array([index[name] for name in array.tolist()])
    if array.size and array.dtype.kind not in "iu":
        raise InputError(f"types must be ints or element names, found {array.dtype}")
    if array.size and not (array.min() >= -1 and array.max() < len(type_map)):
        raise InputError(
            f"types lie in {array.min()}..{array.max()}, the model has 0..{len(type_map) - 1}"
        )
    return array.astype(np.int32)


def _short(value: Any) -> str:
    return f"{reprlib.repr(value)} ({type(value).__name__})"
