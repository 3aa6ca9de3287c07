"""Make the small random DeePMD-kit models of the tests, and record what DeePMD-kit computes.

For every entry of `specs.SPECS` this script writes random training data, runs a few steps of
`dp --tf train`, freezes the graph to `<name>.pb` beside this file, evaluates a handful of frames
with `deepmd.infer.DeepPot` and stores inputs and outputs in `recorded.h5`. The energies that the
nets are trained on have no physical meaning: the models only have to be different from each other
and from an untrained net.

Environment: Python >= 3.10 with `deepmd-kit[cpu]` and its TensorFlow backend (the files in the
repository were made with deepmd-kit 3.2.0), NumPy and h5py. The `dp` command of the same
environment must exist. Nothing else of the package imports this script, and the tests do not run
it: they only read the files that it leaves.

    python make_models.py                          # all models (a few minutes)
    python make_models.py --only oh_overflow       # make one model again, keep the other records
    python make_models.py --record-only            # keep the .pb files, evaluate again
    python make_models.py --also cu=cu/frozen_model.pb --also water=water/frozen_model.pb \\
        --also hea=hea/frozen_model.pb --water-data water192.data
                                                   # record larger models too; their .pb stays away

Layout of `recorded.h5` (float64 as `DeepPot.eval` returns it, lengths in A, energies in eV):

    /                     attrs: deepmd_version, tensorflow_version
    /<model>              attrs: type_map, input (JSON text), sha256 (of the .pb)
    /<model>/<frame>      positions (n, 3), cell (3, 3; rows are the cell vectors; absent when the
                          frame is open), types (n,), energy (), forces (n, 3), virial (3, 3),
                          atom_energies (n,), atom_virials (n, 3, 3)

Frames of every model: `periodic`, `triclinic`, `small` (two or more box edges below the cutoff),
`open` (no cell), `single` (one atom, open) and `single_periodic` (one atom and its images). Cells
are lower triangular, as in LAMMPS. Some atoms of the first three lie outside of the box.
No pair distance is within 1e-5 A of the cutoff, and where a type has more neighbours than `sel`,
the distances of the last one kept and the first one dropped differ by more than 0.001 A.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from specs import PAIRS, SPECS, Environment, Spec

HERE = Path(__file__).resolve().parent
RECORD = HERE / "recorded.h5"
SEED = 20240607
SEL_GAP = 1e-3  # A: between the last neighbour kept and the first one dropped at an overflow
CUTOFF_GAP = 1e-5  # A: between any pair distance and the cutoff, where everything is smooth
FRAMES = ("periodic", "triclinic", "small", "open", "single", "single_periodic")


@dataclass(frozen=True)
class Frame:
    """Atoms of one evaluation: positions (n, 3), types (n,), cell (3, 3) or None.

    `parameters` holds fparam (k,) and aparam (n, k) of models that take them.
    """

    positions: np.ndarray
    types: np.ndarray
    cell: np.ndarray | None
    parameters: dict[str, np.ndarray] = field(default_factory=dict)


# ---------------------------------------------------------------------------------------------
# Geometry
# ---------------------------------------------------------------------------------------------


def image_shifts(cell: np.ndarray | None, reach: float) -> np.ndarray:
    """Return the lattice vectors (m, 3) that can lead to a neighbour within `reach`.

    The positions must be wrapped into the cell. The zero vector comes first.
    """
    if cell is None:
        return np.zeros((1, 3))
    widths = 1.0 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    counts = np.ceil(reach / widths).astype(int) + 1
    axes = [np.arange(-n, n + 1) for n in counts]
    steps = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    steps = steps[np.argsort(np.abs(steps).sum(axis=1), kind="stable")]
    return steps @ cell


def wrap(positions: np.ndarray, cell: np.ndarray | None) -> np.ndarray:
    if cell is None:
        return positions
    fractional = positions @ np.linalg.inv(cell)
    return (fractional - np.floor(fractional)) @ cell


def neighbour_vectors(frame: Frame, reach: float) -> Iterable[tuple[int, np.ndarray, np.ndarray]]:
    """Yield (atom, vectors (m, 3) to its neighbours within `reach`, their atom numbers (m,))."""
    positions = wrap(frame.positions, frame.cell)
    shifts = image_shifts(frame.cell, reach)
    number = np.arange(len(positions))
    for i, centre in enumerate(positions):
        vectors = (positions[None] + shifts[:, None] - centre).reshape(-1, 3)
        owners = np.tile(number, len(shifts))
        distance2 = np.einsum("ij,ij->i", vectors, vectors)
        keep = distance2 < reach**2
        keep[i] = False  # the atom itself: the zero shift comes first
        yield i, vectors[keep], owners[keep]


def random_cell(
    rng: np.random.Generator, volume: float, shape: tuple[float, float, float], tilt: float
) -> np.ndarray:
    """Return a lower triangular cell: edges in the given ratio (+-4 %), tilts up to `tilt`."""
    edges = np.array(shape) * rng.uniform(0.96, 1.04, 3)
    edges *= (volume / edges.prod()) ** (1 / 3)
    cell = np.diag(edges)
    signs = rng.choice([-1.0, 1.0], 3)
    cell[1, 0], cell[2, 0], cell[2, 1] = signs * tilt * edges[[0, 0, 1]] * rng.uniform(0.8, 1, 3)
    return cell


def random_positions(
    rng: np.random.Generator, count: int, cell: np.ndarray, min_distance: float
) -> np.ndarray:
    """Place atoms at random, half of them close to another one, none below `min_distance`."""
    shifts = image_shifts(cell, min_distance)
    if len(shifts) > 1 and np.linalg.norm(shifts[1:], axis=1).min() < min_distance:
        raise ValueError("the cell is smaller than the smallest distance")
    positions: list[np.ndarray] = []
    for _ in range(20000):
        if len(positions) == count:
            return np.array(positions)
        trial = rng.uniform(size=3) @ cell
        if positions and rng.uniform() < 0.5:
            direction = rng.normal(size=3)
            length = rng.uniform(1.0, 1.4) * min_distance / np.linalg.norm(direction)
            trial = wrap(positions[rng.integers(len(positions))] + length * direction, cell)
        others = np.array(positions).reshape(-1, 1, 3) + shifts[None]
        if np.all(np.linalg.norm(others - trial, axis=-1) > min_distance):
            positions.append(trial)
    raise ValueError(f"cannot place {count} atoms {min_distance} A apart in {cell.tolist()}")


def random_types(rng: np.random.Generator, count: int, kinds: Iterable[int]) -> np.ndarray:
    """Return `count` types in random order, every kind present if there are enough atoms."""
    kinds = list(kinds)
    rng.shuffle(kinds)
    return rng.permutation([kinds[i % len(kinds)] for i in range(count)]).astype(np.int32)


def leave_box(rng: np.random.Generator, frame: Frame) -> Frame:
    """Move about a third of the atoms (at least one) by lattice vectors."""
    count = len(frame.positions)
    moved = rng.permutation(count)[: max(1, count // 3)]
    steps = np.zeros((count, 3))
    steps[moved] = rng.integers(-2, 3, (len(moved), 3))
    steps[moved[0]] = (1, -1, 2)
    return Frame(frame.positions + steps @ frame.cell, frame.types, frame.cell)


def overflows(frame: Frame, environments: Iterable[Environment]) -> bool | None:
    """Tell whether there are more neighbours than `sel`; None if the frame is too close to call.

    Too close: a distance at the cutoff (to `CUTOFF_GAP`), or a tie at the edge of `sel` (to
    `SEL_GAP`).
    """
    found = False
    for rcut, sel in environments:
        for _, vectors, owners in neighbour_vectors(frame, rcut + CUTOFF_GAP):
            distances = np.linalg.norm(vectors, axis=1)
            if np.any(distances > rcut - CUTOFF_GAP):
                return None
            kinds = frame.types[owners]
            blocks = (
                [(distances, sel)]
                if isinstance(sel, int)
                else [(distances[kinds == kind], limit) for kind, limit in enumerate(sel)]
            )
            for block, limit in blocks:
                near = np.sort(block)
                if len(near) > limit:
                    found = True
                    if near[limit] - near[limit - 1] < SEL_GAP:
                        return None
    return found


def draw(
    make: Callable[[np.random.Generator], Frame],
    rng: np.random.Generator,
    environments: list[Environment],
    overflow: bool,
) -> Frame:
    """Draw frames until one is clear of ties and has the wanted kind of `sel` overflow."""
    for _ in range(500):
        frame = make(rng)
        if overflows(frame, environments) is overflow:
            return frame
    raise RuntimeError(f"no frame with overflow={overflow} for (rcut, sel) {environments}")


def frame_rng(model: str, frame: str) -> np.random.Generator:
    """Return a generator that does not depend on which other models are made."""
    return np.random.default_rng([SEED, zlib.crc32(model.encode()), zlib.crc32(frame.encode())])


# ---------------------------------------------------------------------------------------------
# Frames of the small models
# ---------------------------------------------------------------------------------------------


def make_frame(spec: Spec, name: str, rng: np.random.Generator) -> Frame:
    """Return one random frame of the given name (see the module docstring)."""
    dense, kinds = spec.volume, range(len(spec.type_map))

    def fill(count: int, cell: np.ndarray) -> Frame:
        types = random_types(rng, count, kinds)
        return Frame(random_positions(rng, count, cell, spec.min_distance), types, cell)

    if name == "periodic":
        edge = 2.05 * spec.rcut if spec.rcut < 4.4 else 1.4 * spec.rcut
        count = min(24, int(edge**3 / dense))
        return leave_box(rng, fill(count, random_cell(rng, edge**3, (1, 1.02, 0.98), 0.0)))
    if name == "triclinic":
        cell = random_cell(rng, 16 * dense, (1, 0.9, 1.1), 0.7)
        return leave_box(rng, fill(16, cell))
    if name == "small":
        count = 4 if spec.min_distance < 1.5 else 3
        count = max(count, min(6, len(spec.type_map)))
        dense *= 0.7 if spec.min_distance < 1.5 else 1.0
        long = {3: 1.4, 4: 1.6}.get(count, 2.0)
        return leave_box(rng, fill(count, random_cell(rng, count * dense, (1, 0.9, long), 0.1)))
    if name == "open":
        frame = fill(14, random_cell(rng, 14 * dense, (1, 1, 1), 0.0))
        return Frame(frame.positions - frame.positions[0] + 0.3, frame.types, None)
    if name == "single":
        return Frame(rng.uniform(-1, 1, (1, 3)), np.zeros(1, dtype=np.int32), None)
    if name == "single_periodic":
        cell = random_cell(rng, (0.72 * spec.rcut) ** 3, (1, 0.88, 1.13), 0.12)
        last = np.full(1, len(spec.type_map) - 1, dtype=np.int32)
        return Frame(rng.uniform(size=(1, 3)) @ cell, last, cell)
    raise ValueError(f"unknown frame {name!r}, expected one of {', '.join(FRAMES)}")


def small_model_frames(spec: Spec) -> dict[str, Frame]:
    frames = {}
    for name in (name for name in FRAMES if name not in spec.without):

        def make(rng: np.random.Generator, name: str = name) -> Frame:
            return make_frame(spec, name, rng)

        overflow = name in spec.overflow
        rng = frame_rng(spec.name, name)
        frame = draw(make, rng, spec.environments, overflow)
        if spec.descriptor.get("type") == "loc_frame":  # it crashes with atoms two boxes away
            frame = replace(frame, positions=wrap(frame.positions, frame.cell))
        frames[name] = with_parameters(spec, frame, rng)
    return frames


def with_parameters(spec: Spec, frame: Frame, rng: np.random.Generator) -> Frame:
    """Return the frame with random fparam and aparam, if the model takes any."""
    shapes = {
        "fparam": (spec.fitting.get("numb_fparam", 0),),
        "aparam": (len(frame.types), spec.fitting.get("numb_aparam", 0)),
    }
    found = {name: 2 + rng.normal(size=s) * (1 + np.arange(s[-1])) for name, s in shapes.items()}
    return replace(frame, parameters={name: v for name, v in found.items() if v.size})


# ---------------------------------------------------------------------------------------------
# Frames of the larger models (option --also)
# ---------------------------------------------------------------------------------------------

BCC = np.array([[0, 0, 0], [0.5, 0.5, 0.5]])
FCC = np.array([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])


def lattice_points(basis: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """Return the points of a cubic lattice (edge 1) inside `cell`, made of lattice vectors."""
    reach = int(np.ceil(np.abs(cell).sum())) + 1
    axis = np.arange(-reach, reach + 1)
    corners = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 1, 3)
    points = (corners + basis).reshape(-1, 3)
    fractional = points @ np.linalg.inv(cell)
    return points[np.all((fractional > -1e-9) & (fractional < 1 - 1e-9), axis=1)]


def crystal_frame(
    name: str, basis: np.ndarray, edge: float, ntypes: int, rng: np.random.Generator
) -> Frame:
    """Return a displaced crystal with random types: `basis` on a cubic lattice of `edge` A."""
    cells = {
        "periodic": np.diag([3.0, 3.0, 3.0]),
        "triclinic": np.array([[2.0, 0, 0], [1, 2, 0], [-1, 1, 2]]),
        "small": np.diag([1.0, 1.0, 2.0]),
        "open": np.diag([2.0, 2.0, 2.0]),
    }
    if name == "single":
        return Frame(rng.uniform(-1, 1, (1, 3)), np.zeros(1, dtype=np.int32), None)
    if name == "single_periodic":
        cell = edge * np.array([[0.82, 0, 0], [0.1, 0.88, 0], [-0.05, 0.08, 0.95]])
        return Frame(np.full((1, 3), 0.4), np.full(1, ntypes - 1, dtype=np.int32), cell)
    points = lattice_points(basis, cells[name])
    cell = edge * cells[name] * rng.uniform(0.98, 1.02)
    positions = points @ np.linalg.inv(cells[name]) @ cell
    positions += rng.normal(0.0, 0.08, positions.shape)
    types = random_types(rng, len(positions), range(ntypes))
    if name == "open":
        return Frame(positions, types, None)
    return leave_box(rng, Frame(positions, types, cell))


def molecules(rng: np.random.Generator, count: int, cell: np.ndarray) -> np.ndarray:
    """Place water molecules (O, H, H) at random; atoms of two molecules are 1.7 A apart or more."""
    shape = np.array([[0, 0, 0], [0.9572, 0, 0], [-0.2400, 0.9266, 0]])
    shifts = image_shifts(cell, 1.7)
    placed: list[np.ndarray] = []
    for _ in range(100000):
        if len(placed) == count:
            return np.concatenate(placed)
        turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        trial = shape @ turn + rng.uniform(size=3) @ cell
        own = (trial + shifts[1:, None]).reshape(-1, 3)
        others = (np.array(placed).reshape(-1, 1, 3) + shifts[None]).reshape(-1, 3)
        others = np.concatenate([others, own])
        if np.all(np.linalg.norm(others[:, None] - trial, axis=-1) > 1.7):
            placed.append(trial)
    raise ValueError(f"cannot place {count} molecules in {cell.tolist()}")


def read_water(path: Path) -> Frame:
    """Read an orthorhombic LAMMPS data file of style atomic (type 1 is O, type 2 is H)."""
    lines = path.read_text().splitlines()
    bounds = [[float(x) for x in line.split()[:2]] for line in lines if line.endswith("hi")]
    start = next(i for i, line in enumerate(lines) if line.startswith("Atoms")) + 2
    rows = []
    for line in lines[start:]:
        if not line.strip():
            break
        rows.append([float(x) for x in line.split()[:5]])
    table = np.array(rows)
    low, high = np.array(bounds).T
    return Frame(table[:, 2:5] - low, table[:, 1].astype(np.int32) - 1, np.diag(high - low))


def water_frame(name: str, data: Path | None, rng: np.random.Generator) -> Frame:
    """Return water-like O (type 0) and H (type 1) atoms."""
    if name == "single":
        return Frame(rng.uniform(-1, 1, (1, 3)), np.zeros(1, dtype=np.int32), None)
    if name == "single_periodic":
        cell = np.array([[3.1, 0, 0], [0.4, 3.4, 0], [-0.3, 0.5, 3.7]])
        return Frame(np.full((1, 3), 0.4), np.ones(1, dtype=np.int32), cell)
    if name == "periodic" and data is not None:
        frame = read_water(data)
        moved = frame.positions + rng.normal(0.0, 0.01, frame.positions.shape)
        return leave_box(rng, Frame(moved, frame.types, frame.cell))
    counts = {"periodic": 32, "triclinic": 12, "small": 2, "open": 6}
    tilts = {"periodic": 0.0, "triclinic": 0.6, "small": 0.1, "open": 0.0}
    count = counts[name]
    cell = random_cell(rng, 32.0 * count, (1, 0.95, 1.05), tilts[name])
    positions = molecules(rng, count, cell)
    types = np.tile(np.array([0, 1, 1], dtype=np.int32), count)
    if name == "open":
        return Frame(positions, types, None)
    return leave_box(rng, Frame(positions, types, cell))


def larger_model_frames(
    model: str, rcut: float, sel: list[int], water_data: Path | None
) -> dict[str, Frame]:
    """Return the frames of a model given by `--also`: its name says which kind of matter."""
    makers: dict[str, Callable[[str, np.random.Generator], Frame]] = {
        "cu": lambda name, rng: crystal_frame(name, FCC, 3.615, 1, rng),
        "hea": lambda name, rng: crystal_frame(name, BCC, 3.2, len(sel), rng),
        "water": lambda name, rng: water_frame(name, water_data, rng),
    }
    if model not in makers:
        raise ValueError(f"--also {model}: no frames for it, expected {', '.join(makers)}")
    frames = {}
    for name in FRAMES:

        def make(rng: np.random.Generator, name: str = name) -> Frame:
            return makers[model](name, rng)

        frames[name] = draw(make, frame_rng(model, name), [(rcut, sel)], overflow=False)
    return frames


# ---------------------------------------------------------------------------------------------
# Training
# ---------------------------------------------------------------------------------------------


def pair_energy_forces(frame: Frame) -> tuple[float, np.ndarray]:
    """Return energy and forces of a smooth pair potential plus a constant per type."""
    reach, decay = 5.0, 0.9
    energy = float(np.sum(-2.0 - 1.5 * frame.types))
    forces = np.zeros_like(frame.positions)
    for i, vectors, owners in neighbour_vectors(frame, reach):
        r = np.linalg.norm(vectors, axis=1)
        strength = 3.0 + 0.7 * np.cos(1.0 + frame.types[i] + frame.types[owners])
        pair = strength * np.exp(-r / decay)
        energy += 0.5 * pair.sum()
        forces[i] -= (pair / decay / r) @ vectors
    return energy, forces


def write_systems(spec: Spec, folder: Path) -> list[str]:
    """Write systems of a few frames in DeePMD-kit's npy format; return their folder names."""
    rng = frame_rng(spec.name, "training data")
    kinds = [kind for kind in range(len(spec.type_map)) if kind not in spec.absent]
    count, names = max(12, 2 * len(kinds)), []
    for number in range(len(kinds) + 1):
        # compositions differ, so that the energy per type is well determined
        types = np.sort(rng.permutation(kinds + list(rng.choice(kinds, count - len(kinds)))))
        rows: dict[str, list[np.ndarray]] = {}
        for _ in range(3):
            cell = random_cell(rng, count * spec.volume, (1, 1.05, 0.95), 0.1)
            positions = random_positions(rng, count, cell, spec.min_distance)
            energy, forces = pair_energy_forces(Frame(positions, types, cell))
            found = {"coord": positions, "box": cell, "energy": np.array(energy), "force": forces}
            found |= with_parameters(spec, Frame(positions, types, cell), rng).parameters
            for key, value in found.items():
                rows.setdefault(key, []).append(value.ravel())
        names.append(f"system_{number}")
        system = folder / names[-1]
        (system / "set.000").mkdir(parents=True)
        (system / "type.raw").write_text("\n".join(map(str, types)) + "\n")
        (system / "type_map.raw").write_text("\n".join(spec.type_map) + "\n")
        for key, value in rows.items():
            np.save(system / "set.000" / f"{key}.npy", np.array(value))
    return names


def complete(descriptor: dict[str, Any], seed: int) -> dict[str, Any]:
    """Return the section with the defaults of the tests; a hybrid's members have them each."""
    if "list" in descriptor:
        return {
            "type": "hybrid",
            "list": [complete(member, seed + n) for n, member in enumerate(descriptor["list"])],
        }
    if descriptor.get("type") == "loc_frame":  # without nets
        return descriptor
    found = {
        "type": "se_e2_a",
        "resnet_dt": False,
        "type_one_side": False,
        "precision": "float64",
        "seed": seed,
        **descriptor,
    }
    if found["type"] == "se_e3":  # which centres share, and which does not know the word
        del found["type_one_side"]
    return found


def write_pairs(path: Path, n_types: int) -> None:
    """Write screened repulsions that end at 3 A: a column for each pair of types."""
    r = np.arange(0.2, 3.0, 0.05)
    shape = 14.4 / r * np.exp(-r / 0.4) * (1 - (r / 3.0) ** 2) ** 2
    pairs = [(i, j) for i in range(n_types) for j in range(i, n_types)]
    np.savetxt(path, np.stack([r, *((1 + i + 2 * j) * shape for i, j in pairs)], axis=1))


def make_input(spec: Spec, systems: list[str]) -> dict[str, Any]:
    """Return the contents of input.json."""
    seed = zlib.crc32(spec.name.encode()) % 100000
    descriptor = complete(spec.descriptor, seed)
    fitting = {"resnet_dt": False, "precision": "float64", "seed": seed + 1, **spec.fitting}
    return {
        "model": {
            "type_map": list(spec.type_map),
            "descriptor": descriptor,
            "fitting_net": fitting,
            **spec.model,
        },
        "learning_rate": {"type": "exp", "start_lr": 5e-3, "stop_lr": 1e-4, "decay_steps": 2},
        "loss": {
            "type": "ener",
            "start_pref_e": 0.1,
            "limit_pref_e": 1,
            "start_pref_f": 100,
            "limit_pref_f": 1,
            "start_pref_v": 0,
            "limit_pref_v": 0,
        },
        "training": {
            "training_data": {"systems": systems, "batch_size": 1},
            "numb_steps": 10,
            "seed": seed + 2,
            "disp_freq": 5,
            "save_freq": 10,
            **spec.training,
        },
    }


def train(spec: Spec, target: Path) -> dict[str, Any]:
    """Train and freeze one model to `target`; return its input.json."""
    with tempfile.TemporaryDirectory(prefix=f"make_models_{spec.name}_") as temporary:
        folder = Path(temporary)
        script = make_input(spec, write_systems(spec, folder))
        (folder / "input.json").write_text(json.dumps(script, indent=1))
        write_pairs(folder / PAIRS, len(spec.type_map))
        command = str(Path(sys.executable).parent / "dp")
        commands = [["train", "input.json"], ["freeze", "-o", "frozen.pb"]]
        if spec.compress:
            files = ["-i", "frozen.pb", "-o", "compressed.pb", "-t", "input.json"]
            commands.append(["compress", *files, *spec.compress])
        for arguments in commands:
            done = subprocess.run(
                [command, "--tf", *arguments],
                cwd=folder,
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode != 0:
                tail = (done.stdout + done.stderr)[-4000:]
                raise RuntimeError(f"{spec.name}: dp {' '.join(arguments)} failed:\n{tail}")
        shutil.copyfile(folder / ("compressed.pb" if spec.compress else "frozen.pb"), target)
    return script


# ---------------------------------------------------------------------------------------------
# Frozen graphs
# ---------------------------------------------------------------------------------------------


def read_graph(path: Path) -> dict[str, Any]:
    """Return the nodes of a frozen graph by name."""
    from deepmd.tf.env import tf

    graph = tf.GraphDef()
    graph.ParseFromString(path.read_bytes())
    return {node.name: node for node in graph.node}


def constant(nodes: dict[str, Any], name: str) -> np.ndarray:
    from tensorflow import make_ndarray

    return make_ndarray(nodes[name].attr["value"].tensor)


def check_statistics(spec: Spec, path: Path) -> None:
    """Refuse a model whose normalisation or energy bias is trivial without reason."""
    nodes = read_graph(path)
    present = [kind for kind in range(len(spec.type_map)) if kind not in spec.absent]
    for suffix, descriptor in spec.members:
        mean = constant(nodes, f"descrpt_attr{suffix}/t_avg")[:, ::4]
        std = constant(nodes, f"descrpt_attr{suffix}/t_std")
        wanted_zero = descriptor.get("set_davg_zero", descriptor.get("type") == "se_atten")
        if wanted_zero is bool(np.any(mean[present] > 1e-6)):
            raise RuntimeError(f"{spec.name}: set_davg_zero {wanted_zero}, but t_avg is {mean}")
        if np.any(np.abs(std[present] - 1) < 1e-6):
            raise RuntimeError(f"{spec.name}: t_std is 1 for some type")
    bias = constant(nodes, "fitting_attr/t_bias_atom_e")
    if np.any(np.abs(bias[present]) < 1e-6):
        raise RuntimeError(f"{spec.name}: t_bias_atom_e is {bias}")


# ---------------------------------------------------------------------------------------------
# Record
# ---------------------------------------------------------------------------------------------


def evaluate(potential: Any, frame: Frame) -> dict[str, np.ndarray]:
    """Evaluate one frame; return the datasets of its group in the record."""
    count = len(frame.positions)
    cells = None if frame.cell is None else frame.cell.reshape(1, 9)
    energy, forces, virial, atom_energies, atom_virials = potential.eval(
        frame.positions.reshape(1, -1),
        cells,
        frame.types.tolist(),
        atomic=True,
        **{name: value.reshape(1, -1) for name, value in frame.parameters.items()},
    )[:5]
    result = {
        "positions": frame.positions,
        "types": frame.types.astype(np.int32),
        **frame.parameters,
        "energy": np.float64(energy[0, 0]),
        "forces": forces.reshape(count, 3),
        "virial": virial.reshape(3, 3),
        "atom_energies": atom_energies.reshape(count),
        "atom_virials": atom_virials.reshape(count, 3, 3),
    }
    if frame.cell is not None:
        result["cell"] = frame.cell
    for name, value in result.items():
        expected = np.int32 if name == "types" else np.float64
        if value.dtype != expected:
            raise RuntimeError(f"{name} is {value.dtype}, expected {np.dtype(expected)}")
        if not np.all(np.isfinite(value)):
            raise RuntimeError(f"{name} is not finite")
    return result


def record(
    out: h5py.File, name: str, path: Path, script: dict[str, Any], frames: dict[str, Frame]
) -> None:
    """Evaluate the frames and write the group of one model."""
    from deepmd.infer import DeepPot

    potential = DeepPot(str(path))
    if name in out:
        del out[name]
    group = out.create_group(name)
    group.attrs["type_map"] = potential.get_type_map()
    group.attrs["input"] = json.dumps(script)
    group.attrs["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    for label, frame in frames.items():
        values = evaluate(potential, frame)
        largest = np.abs(values["forces"]).max()
        if len(frame.positions) > 1 and largest < 1e-4:
            raise RuntimeError(f"{name}/{label}: all forces are below 1e-4 eV/A")
        for key, value in values.items():
            group.create_dataset(f"{label}/{key}", data=value)
        print(
            f"  {label:16s} {len(frame.positions):4d} atoms  "
            f"E {values['energy']:14.6f} eV  max|F| {largest:.3g} eV/A",
            flush=True,
        )


def graph_script(path: Path) -> dict[str, Any]:
    """Return the training script that a frozen graph carries."""
    return json.loads(constant(read_graph(path), "train_attr/training_script").item())


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", metavar="NAME", help="only these models")
    parser.add_argument("--record-only", action="store_true", help="do not train, only evaluate")
    parser.add_argument("--also", action="append", default=[], metavar="NAME=FILE.pb")
    parser.add_argument("--water-data", type=Path, metavar="FILE", help="LAMMPS data file of water")
    options = parser.parse_args(arguments)
    known = {spec.name for spec in SPECS} | {text.partition("=")[0] for text in options.also}
    for name in options.only or ():
        if name not in known:
            parser.error(f"--only {name}: unknown, expected one of {', '.join(sorted(known))}")
    return options


def make_all(options: argparse.Namespace, out: h5py.File) -> None:
    """Make and record the models that the options ask for."""
    import deepmd
    import tensorflow

    out.attrs["deepmd_version"] = deepmd.__version__
    out.attrs["tensorflow_version"] = tensorflow.__version__
    for spec in SPECS:
        if options.only and spec.name not in options.only:
            continue
        path = HERE / f"{spec.name}.pb"
        print(spec.name, flush=True)
        if options.record_only:
            script = json.loads(out[spec.name].attrs["input"])
        else:
            script = train(spec, path)
        check_statistics(spec, path)
        print(f"  {path.stat().st_size / 1000:.0f} kB")
        record(out, spec.name, path, script, small_model_frames(spec))
    for text in options.also:
        name, _, file = text.partition("=")
        if options.only and name not in options.only:
            continue
        print(name, flush=True)
        path = Path(file)
        script = graph_script(path)
        descriptor = script["model"]["descriptor"]
        frames = larger_model_frames(
            name, descriptor["rcut"], descriptor["sel"], options.water_data
        )
        record(out, name, path, script, frames)


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    # one thread: the record does not depend on the order of sums in a parallel run
    for variable in ("OMP_NUM_THREADS", "DP_INTRA_OP_PARALLELISM_THREADS"):
        os.environ[variable] = "1"
    os.environ["DP_INTER_OP_PARALLELISM_THREADS"] = "1"
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

    fresh = RECORD.with_suffix(".tmp")
    try:
        with h5py.File(fresh, "w", libver="latest") as out:
            if RECORD.exists():  # copied, not edited in place: HDF5 would keep the old space
                with h5py.File(RECORD) as old:
                    for name in old:
                        old.copy(name, out)
            make_all(options, out)
        fresh.replace(RECORD)
    finally:
        fresh.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
