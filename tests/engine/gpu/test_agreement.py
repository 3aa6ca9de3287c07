"""The gpu backend against recorded values and the reference, on emulated devices and on a real one.

Each test is made twice: with kernels and host code run by the emulation of `cuda_emulation`, as in
CI, and, marked gpu, with the same on a CUDA device.
"""

from __future__ import annotations

import numpy as np
import pytest

from conftest import RECORDED, TRAINED, Frame, recorded_frames
from lmp_dp import Potential
from lmp_dp.errors import BackendError
from lmp_dp.model import load
from parity import deviations, tolerances

#: How the names of models begin that this backend does not evaluate, and what it says of them.
REFUSED = {
    "atten_exclude": "form Attention",
    "atten_float32": "form Attention",
    "atten_overflow": "form Attention",
    "atten_smooth": "form Attention",
    "atten_two_layers": "form Attention",
    "atten_v2_layers": "form Attention",
    "hybrid_atten": "form Attention and Radial",
    "cu_compressed_hybrid": "form Angular and Radial",
    "oh_compressed_r": "form Radial",
    "srtab_hybrid": "form Radial",
    "srtab": "pair table",
    "e3": "form Angular",
    "er": "form Radial",
    "hybrid_e3": "form Angular",
    "lf": "loc_frame",
    "hybrid": "form Radial",
}
EVALUATED = [name for name in RECORDED if not name.startswith(tuple(REFUSED))]
both_precisions = pytest.mark.parametrize("precision", ["float64", "float32"])


@pytest.mark.parametrize("name", EVALUATED)
def test_agrees_with_recorded_values(name: str, converted, gpu_device) -> None:
    potential = Potential(converted(name), backend="gpu", sel="ignore")
    allowed = tolerances(name, potential.precision)
    for frame in recorded_frames(name):
        found = deviations(potential, frame)
        assert all(found[key] <= allowed[key] for key in allowed), (frame.name, found)


def check_reference(model, name: str, precision: str, n_frames: int | None = None) -> None:
    """The reference backend with the same tables, in the same precision."""
    ours, reference = (
        Potential(model, backend=b, precision=precision, sel="ignore", table="ignore")
        for b in ("gpu", "reference")
    )
    for frame in recorded_frames(name)[:n_frames]:
        expected = reference.evaluate(
            frame.positions, frame.types, frame.cell, fparam=frame.fparam, aparam=frame.aparam
        )
        found = deviations(
            ours,
            Frame(
                frame.name,
                frame.positions,
                frame.cell,
                frame.types,
                expected.energy,
                expected.forces,
                expected.virial,
                expected.atom_energies,
                expected.atom_virials,
                frame.fparam,
                frame.aparam,
            ),
        )
        allowed = tolerances(name, precision)
        if precision == "float32":
            # sums of a hundred rounded terms, 6e-8 each; pair gradients are then off by 1e-6,
            # at up to 6 Å and for a hundred pairs per atom
            size = 1e-5 * np.abs(expected.atom_energies).max()
            forces = 1e-5 * np.linalg.norm(expected.forces) + 1e-6
            allowed = {"energy": size, "atom_energies": size, "forces": forces, "virial": 6e-4}
        assert all(found[key] <= allowed[key] for key in allowed), (frame.name, found, allowed)
    assert ours.watch.totals == reference.watch.totals


@both_precisions
@pytest.mark.parametrize("name", TRAINED)
def test_tables_agree_with_the_reference(name, precision, compressed, gpu_device) -> None:
    check_reference(compressed[name], name, precision)


@pytest.mark.parametrize("name", EVALUATED)
def test_float32_agrees_with_the_reference(name, converted, gpu_device) -> None:
    check_reference(load(converted(name)), name, "float32", n_frames=2)


@pytest.mark.parametrize("name", [name for name in RECORDED if name not in EVALUATED])
def test_refuses_by_name(name: str, converted, gpu_device) -> None:
    reason = next(words for start, words in REFUSED.items() if name.startswith(start))
    with pytest.raises(BackendError, match=reason):
        Potential(converted(name), backend="gpu")
