"""What holds for every model: random models and frames, drawn by hypothesis.

Turned, shifted, put into other images, with atoms in another order, in a cell of other vectors of
the same lattice: energies are the same and forces, virials turn along. Twice the cell holds twice
the energy. Forces add up to nothing, and along a random direction they and the virial are the
derivative of the energy (central differences with Richardson's extrapolation).

Where a rounding flips a choice there is nothing to compare: neighbours at equal distances of which
only some fit into `sel` (frames with `sel` exceeded are left out here; the other trials have them)
and kinks of relu. Tolerances are those of tests/engine/test_random_models.py: what rounding does to
this very model, measured by the reference in float32 and float64.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import seed as seeded
from test_random_models import ROUNDING, SAFETY, Case, Frame, cases, evaluated, has_kinks

from lmp_dp.model import DeepPotential
from lmp_dp.model.descriptors.hybrid import Hybrid
from lmp_dp.model.precision import cast

WHOLE = ("energy", "forces", "virial")


def turned(frame: Frame, rng: np.random.Generator) -> tuple[Frame, np.ndarray, np.ndarray]:
    """The same physics otherwise: the frame, the rotation, the order."""
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    order = rng.permutation(len(frame.types))
    positions, cell = frame.positions + rng.normal(size=3), frame.cell
    if cell is not None:
        positions = positions + rng.integers(-2, 3, positions.shape) @ cell
        sheared = np.eye(3, dtype=int)
        sheared[1, 0], sheared[2, 1] = rng.integers(-1, 2, 2)
        cell = sheared @ cell @ rotation
    aparam = frame.aparam[order] if frame.aparam is not None else None
    changed = Frame((positions @ rotation)[order], frame.types[order], cell, frame.fparam, aparam)
    return changed, rotation, order


def doubled(frame: Frame, axis: int) -> Frame:
    cell = frame.cell.copy()
    cell[axis] *= 2
    aparam = np.concatenate([frame.aparam] * 2) if frame.aparam is not None else None
    positions = np.concatenate([frame.positions, frame.positions + frame.cell[axis]])
    return Frame(positions, np.concatenate([frame.types] * 2), cell, frame.fparam, aparam)


def differences(
    model: Any, frame: Frame, rng: np.random.Generator, values: dict[str, Any]
) -> tuple[float, float]:
    """How far forces and virial are from the derivative along a random strain and displacement."""
    strain = rng.normal(size=(3, 3)) * 0.3
    moved = rng.normal(size=frame.positions.shape)

    def energy(h: float) -> float:
        stretch = np.eye(3) + h * strain
        cell = None if frame.cell is None else frame.cell @ stretch
        positions = frame.positions @ stretch + h * moved
        return evaluated(
            model, "cpu", Frame(positions, frame.types, cell, frame.fparam, frame.aparam)
        )[0]["energy"]

    def slope(h: float) -> float:
        return (energy(h) - energy(-h)) / (2 * h)

    # virial = -dE/d(strain) at fixed fractional positions, with row vectors
    expected = -(values["forces"] * moved).sum() - (values["virial"] * strain).sum()
    fourth = [(4 * slope(h / 2) - slope(h)) / 3 for h in (2e-3, 1e-3)]
    return abs(fourth[1] - expected), abs(fourth[1] - fourth[0])


def without_direction(model: DeepPotential) -> DeepPotential:
    """The model with statistics as DeePMD-kit makes them: alike for x, y and z, means zero."""
    parts = []
    for part in model.descriptor.parts:
        davg_tk, dstd_tk = (
            getattr(part.environment, name).copy() for name in ("davg_tk", "dstd_tk")
        )
        davg_tk[:, 1:] = 0.0
        dstd_tk[:, 2:] = dstd_tk[:, 1:2]
        environment = dataclasses.replace(part.environment, davg_tk=davg_tk, dstd_tk=dstd_tk)
        parts.append(dataclasses.replace(part, environment=environment))
    descriptor = parts[0] if len(parts) == 1 else Hybrid(tuple(parts))
    return dataclasses.replace(model, descriptor=descriptor)


class Trial:
    def __init__(self) -> None:
        self.figures: dict[str, float] = defaultdict(float)
        self.count: dict[str, int] = defaultdict(int)

    def note(self, name: str, found: float, allowed: float) -> None:
        ratio = found / allowed if found else 0.0
        self.count[name] += 1
        self.figures[name] = max(self.figures[name], ratio)
        assert ratio <= SAFETY, (name, found, allowed)

    def compare(self, case: Case, rng: np.random.Generator) -> None:
        model, frame = without_direction(case.model), case.frame
        base, potential = evaluated(model, "cpu", frame)
        if any(potential.watch.totals.values()) or not len(
            frame.types
        ):  # pairs outside of tables as well
            self.count["left out: sel or tables exceeded, no atoms"] += 1
            return
        precise = model.precision == "float64"
        if not precise and has_kinks(model):
            self.count["left out: kinks in float32"] += 1
            return
        unit = ROUNDING["float64" if precise else "float32"]
        single, _ = evaluated(cast(model, "float32"), "reference", frame)
        double, _ = evaluated(cast(model, "float64"), "reference", frame)
        size = {
            k: np.abs(double[t]).max(initial=0.0)
            for k, t in (
                ("energy", "atom_energies"),
                ("forces", "atom_virials"),
                ("virial", "atom_virials"),
            )
        }
        geometry = ROUNDING["float64"] * np.abs(double["atom_energies"]).sum()
        allowed = {
            k: (
                max(np.abs(single[k] - double[k]).max(initial=0.0) for k in (k, "atom_virials"))
                + ROUNDING["float32"] * size[k]
            )
            * unit
            / ROUNDING["float32"]
            + geometry
            for k in WHOLE
        }
        changed, rotation, order = turned(frame, rng)
        other, _ = evaluated(model, "cpu", changed)
        self.note("energy, turned", abs(other["energy"] - base["energy"]), allowed["energy"])
        self.note(
            "forces, turned",
            np.abs(other["forces"] - (base["forces"] @ rotation)[order]).max(),
            allowed["forces"],
        )
        self.note(
            "virial, turned",
            np.abs(other["virial"] - rotation.T @ base["virial"] @ rotation).max(),
            len(order) * allowed["virial"],
        )
        self.note(
            "sum of forces", np.abs(base["forces"].sum(0)).max(), len(order) * allowed["forces"]
        )
        if frame.cell is not None:
            twice, _ = evaluated(model, "cpu", doubled(frame, int(rng.integers(3))))
            self.note(
                "energy, doubled", abs(twice["energy"] - 2 * base["energy"]), 2 * allowed["energy"]
            )
            both = np.concatenate([base["forces"]] * 2)
            self.note("forces, doubled", np.abs(twice["forces"] - both).max(), allowed["forces"])
        if precise and not has_kinks(model) and not model.tables:
            off, uncertain = differences(model, frame, rng, base)
            rounding = abs(base["energy"]) * 2.0**-50 / 5e-4
            self.note(
                "derivative",
                off,
                max(uncertain, rounding, 1e-9 * np.abs(base["forces"]).max(initial=1e-3)),
            )


def run(count: int, seed: int) -> int:
    trial = Trial()

    @seeded(seed)
    @settings(
        max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(cases())
    def holds(case: Case) -> None:
        trial.compare(case, np.random.default_rng(len(case.frame.types)))

    try:
        holds()
    finally:
        for name, n in sorted(trial.count.items()):
            largest = (
                f", largest {trial.figures[name]:.2g} of {SAFETY:.0f}"
                if name in trial.figures
                else ""
            )
            print(f"{name}: {n}{largest}")
    return 0
